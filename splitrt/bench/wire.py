"""The same on the wire: traces played by the emulated link under the true client, server and bundle, beside what the
simulator says of the same trace, sizes and times.

    splitrt bench control --real

Whole frames and frames that degrade, each alone on the link. The simulator is given what was measured: the bundle's
sizes, the head's and the server's time. Two links play each trace, one after the other: the emulated one paces bytes
between two TCP connections over the loopback, without the windows and losses of a real way; where the host lets us,
packets of the kernel's own TCP are held between two namespaces (`splitrt.netem.tunnel`).
"""

from __future__ import annotations

import asyncio
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.degrading import simulate_degrading
from splitrt.bench.laddered import make_laddered, noise
from splitrt.bench.oracle import oracle
from splitrt.bench.packets import expand
from splitrt.bench.players import Ours
from splitrt.bench.process import server_process
from splitrt.bench.simulation import FRAMING_BYTES, Ways, World, simulate, world_of
from splitrt.bench.suite import LOCAL_ACCURACY
from splitrt.bundle import Bundle
from splitrt.device.connect import connect_async
from splitrt.device.result import Result
from splitrt.errors import ConfigError
from splitrt.netem import Netem, Shape, Trace
from splitrt.netem.tunnel import Tunnel
from splitrt.policy.decision import Choice

DEADLINE_S, FPS = 0.15, 20.0
LENGTH_S, QUICK_LENGTH_S = 20.0, 8.0
TRACES, QUICK_TRACES = 6, 1
ROUND_TRIP_S = 0.03
DOWN_MBIT = 50.0
HOWS = {"whole": False, "degrading": True}
FRAMES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """One stream over the wire: mean accuracy, and times that a simulator must be told."""

    accuracy: float
    head_s: float
    server_s: float
    late: int  # results after their deadline and what is promised beyond it


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A server behind a link that plays a trace."""

    address: str
    restart_trace: Callable[[], None]


@asynccontextmanager
async def _emulated(bundle: Bundle, shape: Shape) -> AsyncIterator[Link]:
    async with server_process([str(bundle.folder)]) as server, Netem(to=server, shape=shape) as link:
        yield Link(address=link.address, restart_trace=link.restart_trace)


@asynccontextmanager
async def _kernel(bundle: Bundle, shape: Shape) -> AsyncIterator[Link]:
    async with (
        Tunnel(shape) as link,
        server_process([str(bundle.folder)], host=link.address, inside=link.inside) as server,
    ):
        yield Link(address=server, restart_trace=link.restart_trace)


LINKS: dict[str, Callable[[Bundle, Shape], AbstractAsyncContextManager[Link]]] = {
    "emulated": _emulated,
    "kernel": _kernel,
}  # fmt: skip
FIGURES = {"emulated": "real", "kernel": "kernel"}  # what each link's begin with


async def compare(folder: Path, *, quick: bool) -> tuple[list[dict[str, Any]], str]:
    """A row a trace and link, with measured and simulated gains of both kinds of frames; and which links ran."""
    count, length_s = (QUICK_TRACES, QUICK_LENGTH_S) if quick else (TRACES, LENGTH_S)
    played = [trace for file in sorted(folder.rglob("*.csv")) if (trace := _uplink(file)) is not None]
    if not played:
        raise ConfigError(f"--real needs traces that measure the uplink, {folder} has none")
    links, ran = await _possible()
    rows = []
    with tempfile.TemporaryDirectory() as made:
        bundle = await asyncio.to_thread(make_laddered, Path(made))
        for trace in played[:: max(1, len(played) // count)][:count]:
            for link in links:
                runs = {how: await _stream(link, bundle, trace, length_s, is_on) for how, is_on in HOWS.items()}
                rows.append({"link": link, **_row(bundle, trace, length_s, runs)})
    return rows, ran


async def _possible() -> tuple[list[str], str]:
    """The links that this host has, and in words why not the other."""
    try:
        async with Tunnel(Shape()):
            return list(LINKS), "emulated; kernel TCP in a namespace"
    except ConfigError as error:
        return ["emulated"], f"emulated; not kernel TCP: {error}"


def figures(rows: Sequence[dict[str, Any]], ran: str) -> dict[str, Any]:
    """Pooled over traces, link by link: measured gains, simulated ones, and how far they lie apart."""
    found: dict[str, Any] = {"real_link": ran}
    for link in sorted({row["link"] for row in rows}):
        some, begin = [row for row in rows if row["link"] == link], FIGURES[link]
        to_gain = sum(row["oracle"] - LOCAL_ACCURACY for row in some)
        for how in HOWS:
            real, simulated = (
                sum(row[what][how] - LOCAL_ACCURACY for row in some) / to_gain for what in ("real", "simulated")
            )
            found |= {
                f"{begin}_gain_{how}": real,
                f"{begin}_simulated_gain_{how}": simulated,
                f"{begin}_minus_simulated_{how}": real - simulated,
            }
        found[f"{begin}_late"] = sum(row["late"] for row in some)
    return found | {"real_minus_simulated": found["real_minus_simulated_whole"]}


def _uplink(file: Path) -> Trace | None:
    """Its way up alone: the way down is no bottleneck here, as it is none in the simulator."""
    if file.name == "index.csv":
        return None
    trace = Trace.read_csv(file)
    return replace(trace, down_mbps=None, source=file.stem) if trace.measures("up") else None


async def _stream(name: str, bundle: Bundle, trace: Trace, length_s: float, is_degrading: bool) -> Streamed:
    shape = Shape(trace=trace, down_mbit=DOWN_MBIT, rtt_ms=1e3 * ROUND_TRIP_S)
    frames = noise(FRAMES)
    async with (
        LINKS[name](bundle, shape) as link,
        connect_async(
            link.address,
            bundle=str(bundle.folder),
            deadline_ms=1e3 * DEADLINE_S,
            degrade=is_degrading,
            audit_share=0.0,
            connect_timeout_s=10.0,
        ) as client,
    ):
        link.restart_trace()
        count = round(length_s * FPS)
        source = (frames[k % FRAMES] for k in range(count))
        results = [result async for result in client.stream(source, FPS)]
    return _scored(bundle, results)


def _scored(bundle: Bundle, results: Sequence[Result]) -> Streamed:
    worth = {point.width: point.accuracy for point in bundle.calibration.points}
    remote = [result for result in results if result.source == "remote"]
    timings = [result.timings for result in remote] or [results[0].timings]
    return Streamed(
        accuracy=float(np.mean([worth[one.width] if one.source == "remote" else LOCAL_ACCURACY for one in results])),
        head_s=float(np.median([one.head + one.encode for one in timings])) / 1e3,
        server_s=float(np.median([one.queue + one.decode + one.tail for one in timings])) / 1e3,
        late=sum(result.latency_ms > 1e3 * DEADLINE_S + 50 for result in results),
    )


def _row(bundle: Bundle, trace: Trace, length_s: float, runs: dict[str, Streamed]) -> dict[str, Any]:
    worlds = {how: _world(bundle, trace, length_s, run) for how, run in runs.items()}
    ours = Ours(worlds["whole"].choices, LOCAL_ACCURACY, is_hedged=True)
    return {
        "scenario": "real",
        "trace": trace.source,
        "oracle": oracle(worlds["whole"]),
        "real": {how: run.accuracy for how, run in runs.items()},
        "simulated": {
            "whole": simulate(worlds["whole"], ours, is_hedged=True).accuracy,
            "degrading": simulate_degrading(worlds["degrading"], acks_packets=True),
        },
        "head_ms": {how: 1e3 * run.head_s for how, run in runs.items()},
        "server_ms": {how: 1e3 * run.server_s for how, run in runs.items()},
        "late": sum(run.late for run in runs.values()),
    }


def _world(bundle: Bundle, trace: Trace, length_s: float, run: Streamed) -> World:
    """As that stream was: the trace from its beginning, the bundle's sizes, the head and the server as measured."""
    draw = np.random.default_rng(zlib.crc32(trace.source.encode()))
    choices = [
        Choice(
            width=point.width,
            bits=point.bits,
            link_bytes=point.payload_bytes_mean + FRAMING_BYTES,
            accuracy=point.accuracy,
            head_s=run.head_s,
        )
        for point in bundle.calibration.points
    ]
    ways = Ways(
        round_trip_s=ROUND_TRIP_S, jitter_s=0.001, spike_share=0.0, server_s=run.server_s, busy_s=0.0, size_spread=0.02
    )
    return world_of(
        choices,
        LOCAL_ACCURACY,
        expand(trace, "up", 1.0, 0.0, length_s, draw),
        ways,
        deadline_s=DEADLINE_S,
        fps=FPS,
        length_s=length_s,
        draw=draw,
    )
