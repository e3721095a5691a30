"""Plots of runs, to PNG files. Needs matplotlib (the `plot` extra)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splitrt.bench.log import FrameLog
from splitrt.errors import ConfigError
from splitrt.netem import Trace

COLOURS = {
    "exit": "tab:blue",
    "remote": "tab:green",
    "fallback": "tab:orange",
    "gate": "tab:cyan",
    "skipped": "tab:red",
}


def figure(rows: int, height: float = 2.2) -> tuple[Any, Any]:
    """A figure of stacked axes that share time."""
    size = (10, 1 + height * rows)
    drawing: tuple[Any, Any] = _pyplot().subplots(
        rows, 1, sharex=True, figsize=size, layout="constrained", squeeze=False
    )
    return drawing


def panels(columns: int) -> tuple[Any, Any]:
    """A figure of axes side by side, each of its own."""
    drawing: tuple[Any, Any] = _pyplot().subplots(1, columns, figsize=(5.5 * columns, 4.5), layout="constrained")
    return drawing


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise ConfigError("plots need matplotlib: pip install 'splitrt[plot]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(drawing: Any, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(file, dpi=110)
    except OSError as error:
        raise ConfigError(f"--plot must be a file that can be written, got {file}: {error.strerror}") from error
    from matplotlib import pyplot

    pyplot.close(drawing)


def plot_streams(logs: Mapping[str, FrameLog], file: Path, trace: Trace | None = None, title: str = "") -> None:
    """Link rate where a trace is given, then for each stream latency coloured by source; width for the first."""
    first = next(iter(logs.values()))
    drawing, axes = figure(len(logs) + 1 + (trace is not None))
    row = 0
    if trace is not None:
        seconds = [step * trace.duration_s / 600 for step in range(601)]
        for direction in ("up", "down"):
            rates = [trace.rate_bytes_per_s(direction, at) * 8e-6 for at in seconds[:-1]]
            axes[0, 0].step(seconds[:-1], rates, where="post", label=f"{direction}link")
        if first.rows and "rate_low_mbit" in first.rows[0]:
            believed = [first.column(name) for name in ("at_s", "rate_low_mbit", "rate_high_mbit")]
            axes[0, 0].fill_between(*believed, alpha=0.3, color="tab:purple", label="believed uplink, 80 %")
        axes[0, 0].set_yscale("symlog", linthresh=0.01)
        axes[0, 0].set_ylabel("link, Mbit/s")
        axes[0, 0].legend(loc="lower right")
        row = 1
    times = [entry.get("at_s", index / 10) for index, entry in enumerate(first.rows)]
    axes[row, 0].scatter(times, first.column("width"), s=7, color="tab:purple")
    axes[row, 0].set_ylabel("width sent")
    for axis, (name, log) in zip(axes[row + 1 :, 0], logs.items(), strict=True):
        for source, colour in COLOURS.items():
            points = [
                (entry.get("at_s", index / 10), entry["latency_ms"])
                for index, entry in enumerate(log.rows)
                if entry["source"] == source
            ]
            if points:
                axis.scatter(*zip(*points, strict=True), s=7, color=colour, label=f"{source} ({len(points)})")
        axis.set_ylabel(f"{name}\nlatency, ms")
        axis.legend(loc="upper right", ncols=4)
    axes[-1, 0].set_xlabel("seconds")
    if title:
        drawing.suptitle(title)
    save(drawing, file)
