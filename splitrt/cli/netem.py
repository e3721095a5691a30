"""`splitrt netem`: a link emulator between a device and a server, from the shell."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from splitrt.errors import ConfigError

if TYPE_CHECKING:
    from splitrt.netem import Netem


def netem(
    to: Annotated[str, typer.Option("--to", metavar="ADDR", help="Server to carry bytes to, HOST:PORT.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDR", help="Where the device connects; port 0 picks one.")
    ] = "127.0.0.1:0",
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="CSV of time_s,up_mbps,down_mbps, looped.")
    ] = None,
    rtt_ms: Annotated[float, typer.Option("--rtt-ms", help="Round trip; half of it each way.")] = 0.0,
    up_mbit: Annotated[
        float | None, typer.Option("--up-mbit", help="Constant rate up, where no trace gives one.")
    ] = None,
    down_mbit: Annotated[
        float | None, typer.Option("--down-mbit", help="Constant rate down, where no trace gives one.")
    ] = None,
    jitter_ms: Annotated[float, typer.Option("--jitter-ms", help="Random further delay, at most this.")] = 0.0,
    outage: Annotated[
        list[str] | None, typer.Option("--outage", metavar="AT,FOR", help="Seconds; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the jitter.")] = 0,
    for_s: Annotated[float | None, typer.Option("--for-s", help="Run so long; default: until Ctrl-C.")] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the counters at the end; - is stdout.")
    ] = None,
) -> None:
    """Emulate a mobile link between a device and a server, with no root and no kernel module.

    Example: splitrt netem --listen 127.0.0.1:7171 --to 127.0.0.1:7070 --up-mbit 5 --rtt-ms 40 --outage 20,3
    """
    import asyncio

    from splitrt.netem import Netem, Shape, Trace
    from splitrt.netem.shape import parse_outage

    if for_s is not None and not for_s > 0:
        raise ConfigError(f"--for-s must be above zero, got {for_s}")
    shape = Shape(
        trace=None if trace is None else Trace.read_csv(trace),
        up_mbit=up_mbit,
        down_mbit=down_mbit,
        rtt_ms=rtt_ms,
        jitter_ms=jitter_ms,
        outages=tuple(parse_outage(text) for text in outage or ()),
        seed=seed,
    )
    link = Netem(listen=listen, to=to, shape=shape)
    # Standard output is the counters' alone when they are asked for there.
    asyncio.run(_run(link, to, for_s, sys.stderr if json_file == "-" else sys.stdout))
    if json_file is not None:
        _write_counters(link, json_file)


async def _run(link: Netem, to: str, for_s: float | None, ready: TextIO) -> None:
    import asyncio

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with link:
        print(f"netem listening on {link.address} -> {to}", file=ready, flush=True)
        try:
            async with asyncio.timeout(for_s):
                await stopped.wait()
        except TimeoutError:
            return


def _write_counters(link: Netem, json_file: str) -> None:
    counters = {
        "up_bytes": link.up_bytes,
        "down_bytes": link.down_bytes,
        "connections": link.connections,
        "broken": link.broken,
    }
    text = json.dumps(counters, indent=2) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(json_file).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"--json must be a file that can be written, got {json_file}: {error}") from error
