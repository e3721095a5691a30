"""`splitrt demo`: the whole path on this machine, watched live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splitrt.cli.options import JsonOption, plot_file

SOURCES = ("gate", "exit", "remote", "fallback", "skipped", "error")

if TYPE_CHECKING:
    from splitrt.bench.demo import Stream


def demo(
    frames: Annotated[int, typer.Option(min=1, help="How many, at 10 per second.")] = 300,
    images: Annotated[Path | None, typer.Option(help="A folder of photographs instead of the sample crops.")] = None,
    trace: Annotated[Path | None, typer.Option(help="The link's trace: CSV time_s,up_mbps,down_mbps.")] = None,
    bundle: Annotated[str, typer.Option(help="Bundle's name or folder.")] = "town",
    engine: Annotated[str, typer.Option(help="Where tails run: embedded.")] = "embedded",
    plot: Annotated[
        Path | None, typer.Option(callback=plot_file, help="Draw link rate, width, source and latency to FILE.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """A server and a device in two processes, a shaped link between them, three baselines beside.

    Where the bundle has a gate, frames that hold nothing end at it; the baselines have none.

    Example: splitrt demo --plot demo.png
    """
    import asyncio

    from splitrt.bench.demo import run_demo
    from splitrt.errors import ConfigError, InvalidInput
    from splitrt.netem import Trace
    from splitrt.output import write_json

    if engine != "embedded":
        raise ConfigError(f"--engine must be embedded, got {engine!r}")
    if images is not None and not images.is_dir():
        raise InvalidInput(f"--images must be a folder, got {images}")
    played = Trace.read_csv(trace) if trace else Trace.shipped("commute")
    screen, watch = _watcher(quiet=str(json) == "-")
    with screen:
        outcome = asyncio.run(run_demo(frames, images, played, bundle, watch))
    _report(outcome.summary, quiet=str(json) == "-")
    if images is None:
        typer.echo(
            "the sample photographs are not like the calibration images; for your own: --images", err=str(json) == "-"
        )
    if plot is not None:
        from splitrt.bench.plots import plot_streams

        plot_streams(outcome.logs, plot, played, "splitrt demo")
        typer.echo(f"plot: {plot}", err=str(json) == "-")
    rows = [{"stream": name, **row} for name, log in outcome.logs.items() for row in log.rows]
    write_json({"summary": outcome.summary, "rows": rows}, json)


def _watcher(quiet: bool) -> tuple[AbstractContextManager[Any], Callable[[Sequence[Stream], float], None]]:
    """A live table on a terminal, a line a second elsewhere."""
    from rich.console import Console

    console = Console(stderr=quiet)
    if console.is_terminal:
        from rich.live import Live

        live = Live(console=console, refresh_per_second=8)
        return live, lambda streams, at_s: live.update(_table(streams, at_s))

    def line(streams: Sequence[Stream], at_s: float) -> None:
        if at_s % 1 == 0:
            latest = streams[0].log.rows[-1] if streams[0].log.rows else None
            if latest:
                console.print(
                    f"{at_s:5.1f} s  link {latest['rate_mbit']:6.3f} ({latest['rate_low_mbit']:.3f} to "
                    f"{latest['rate_high_mbit']:.3f}) Mbit/s  {latest['source']:<8} width {latest['width']}  "
                    f"{latest['link_bytes']} B  {latest['latency_ms']:.0f} ms  so far: {_outcomes(streams[0])}",
                    highlight=False,
                    soft_wrap=True,
                )

    return nullcontext(), line


def _table(streams: Sequence[Stream], at_s: float) -> Any:
    from rich.table import Table

    table = Table(title=f"{at_s:.1f} s", title_justify="left")
    for column in (
        "stream",
        "rate believed, Mbit/s",
        "outage",
        "sent",
        "in time",
        "source",
        "so far",
        "bytes",
        "latency",
        "label",
    ):
        table.add_column(column, justify="left" if column == "stream" else "right")
    for stream in streams:
        row = stream.log.rows[-1] if stream.log.rows else None
        if row is None:
            table.add_row(stream.name, *["-"] * 9)
            continue
        table.add_row(
            stream.name,
            f"{row['rate_mbit']:.2f} ({row['rate_low_mbit']:.2f} to {row['rate_high_mbit']:.2f})",
            f"{100 * row['outage']:.0f} %",
            f"{row['width']} x {row['bits']} bit" if row["width"] else "-",
            "-" if row["in_time"] is None else f"{100 * row['in_time']:.0f} %",
            row["source"],
            _outcomes(stream),
            f"{row['link_bytes']} B",
            f"{row['latency_ms']:.0f} ms",
            row["label"] or "-",
        )
    return table


def _outcomes(stream: Stream) -> str:
    """How many frames have ended each way: `12 gate, 5 exit, 3 remote`."""
    counts = Counter(stream.log.column("source"))
    return ", ".join(f"{counts[source]} {source}" for source in SOURCES if counts[source])


def _report(summary: dict[str, Any], quiet: bool) -> None:
    from splitrt.output import print_table

    keys = (
        "frames", "answered", "lost", "late", "agreement", "bytes_per_frame", "latency_ms_p50", "latency_ms_p95",
        "outage_frames_answered", "share_gate", "share_exit", "share_remote", "share_fallback",
    )  # fmt: skip
    figures = {"splitrt": summary, **summary["baselines"]}
    rows = [[name, *(one[key] for key in keys)] for name, one in figures.items()]
    names = [summary["score"] if key == "agreement" else key for key in keys]
    columns = list(zip(["", *names], *rows, strict=True))
    print_table(
        "30 s over a commuter's link" if summary["frames"] == 300 else "demo", columns[0], columns[1:], quiet=quiet
    )
    if "gate_recall" in summary:
        typer.echo(_of_the_gate(summary), err=quiet)
    if "exit_epsilon" in summary:
        typer.echo(
            f"exits answered {100 * summary['share_exit']:.0f} % of splitrt's frames here. Certified on "
            f"{summary['calibration_images']} calibration images: with probability "
            f"{100 * (1 - summary['exit_delta']):g} %, of frames like them at most {100 * summary['exit_epsilon']:g} % "
            "lose the undivided model's right answer by an exit; forced answers (fallbacks) are not covered",
            err=quiet,
        )


def _of_the_gate(summary: dict[str, Any]) -> str:
    stopped, nothing = summary["frames_with_nothing_stopped"], summary["frames_with_nothing"]
    passed, something = summary["frames_with_something_let_through"], summary["frames_with_something"]
    sure, kept = 100 * (1 - summary["gate_delta"]), 100 * summary["gate_recall"]
    return (
        f"the gate ended {100 * summary['share_gate']:.0f} % of splitrt's frames, with no bytes sent: {stopped} of "
        f"{nothing} that hold nothing asked for; it let {passed} of {something} others through. Certified on "
        f"{summary['gate_calibration_positives']} calibration images that hold something: with probability {sure:g} %, "
        f"it keeps at least {kept:g} % of those like them"
    )
