"""`splitrt top`: a server or a device, watched live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from splitrt.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import Console

    from splitrt.top.sample import Sample


def top(
    address: Annotated[str, typer.Argument(help="HOST:PORT of a metrics endpoint: --metrics of `splitrt serve`.")],
    once: Annotated[bool, typer.Option("--once", help="Two looks, one view, and end.")] = False,
    every_s: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
    json: JsonOption = None,
) -> None:
    """Rates, latency by stage, widths, outcomes, streams, queue and link estimate, every second until interrupted.

    --json is of --once. Example: splitrt top 127.0.0.1:9090
    """
    import time

    from rich.console import Console

    from splitrt.errors import ConfigError
    from splitrt.output import write_json
    from splitrt.top.screen import draw
    from splitrt.top.view import compare

    if json is not None and not once:
        raise ConfigError("--json is of one view: give --once with it")
    first = _look(address)
    console = Console(stderr=str(json) == "-")
    if once:
        time.sleep(every_s)
        view = compare(first, _look(address))
        console.print(draw(view, address))
        write_json(view, json)
        return
    _watch(address, first, every_s, console)


def _watch(address: str, before: Sample, every_s: float, console: Console) -> None:
    """Until interrupted. A server that stops to answer is shown as it was, with the reason, and asked again."""
    import time

    from rich.live import Live

    from splitrt.top.page import NoAnswer
    from splitrt.top.screen import draw
    from splitrt.top.view import compare

    view = compare(None, before)
    with Live(draw(view, address), console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            time.sleep(every_s)
            problem = ""
            try:
                now = _look(address)
                view, before = compare(before, now), now
            except NoAnswer as error:
                problem = str(error)
            live.update(draw(view, address, problem), refresh=True)


def _look(address: str) -> Sample:
    import time

    from splitrt.top.page import fetch
    from splitrt.top.sample import read_sample

    return read_sample(fetch(address), time.monotonic())
