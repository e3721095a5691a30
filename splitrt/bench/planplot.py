"""Plans as pictures: head, link and tail stacked for every way, and which way wins under which link."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splitrt.bench.plots import figure, save
from splitrt.partition.plan import Machines, Objective, Option, Way, winners

RATES_MBIT = tuple(0.1 * 10 ** (step / 8) for step in range(25))  # 0.1 to 100
RTTS_MS = (1, 2, 5, 10, 20, 40, 80, 160, 320)


def plot_plan(found: Sequence[Way], file: Path, title: str) -> None:
    """One bar a way, in the order of the cuts."""
    drawing, axes = figure(1, 2 + 0.28 * len(found))
    axis = axes[0, 0]
    names = [f"{way.option.label} · {way.option.how}" for way in found]
    left = [0.0] * len(found)
    parts: list[tuple[str, str, list[float]]] = [
        ("head", "tab:blue", [way.head_ms for way in found]),
        ("link", "tab:orange", [way.link_ms for way in found]),
        ("tail", "tab:green", [way.tail_ms for way in found]),
    ]
    for name, colour, widths in parts:
        axis.barh(names, widths, left=left, color=colour, label=name)
        left = [one + width for one, width in zip(left, widths, strict=True)]
    # The slowest would press the others to a line.
    axis.set_xlim(0, min(max(left), 6 * min(left)) * 1.05)
    axis.invert_yaxis()
    axis.set_xlabel("milliseconds from capture to result")
    axis.set_title(title)
    axis.legend(loc="lower right")
    save(drawing, file)


def plot_range(options: Sequence[Option], machines: Machines, objective: Objective, file: Path, title: str) -> None:
    """Which way wins at every rate and round trip."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    drawing, axes = figure(1, 4)
    axis = axes[0, 0]
    best = winners(options, RATES_MBIT, RTTS_MS, machines, objective)
    names = sorted({(one.position, f"{one.label} · {one.how}") for row in best for one in row})
    place = {name: number for number, (_, name) in enumerate(names)}
    grid: list[list[int]] = [[place[f"{one.label} · {one.how}"] for one in row] for row in best]
    colours: list[Any] = [f"C{number % 10}" for number in range(len(names))]
    axis.pcolormesh(
        RATES_MBIT, RTTS_MS, grid, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(names) - 0.5, shading="nearest"
    )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("link, Mbit/s")
    axis.set_ylabel("round trip, ms")
    axis.set_title(title)
    handles = [Patch(color=colour, label=name) for colour, (_, name) in zip(colours, names, strict=True)]
    axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
    save(drawing, file)
