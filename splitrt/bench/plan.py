"""Claim `plan`: what the planner takes for the best way of cutting is the best, or nearly, when all is measured.

Four networks, six links, a device emulated as so many times slower than this machine (it waits after each head, which
leaves the core to the others). Of every plan the four best predicted ways are built, served by a process of their own
behind the link emulator, and measured frame by frame in turns; regret is the planned way's median latency over the
least of them, less one.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.made import Silent
from splitrt.bench.process import server_process
from splitrt.bench.report import Asked, Claim
from splitrt.bundle import Bundle, find_bundle
from splitrt.device.connect import connect_async
from splitrt.device.local import Device, Encoded, Looked
from splitrt.device.strategy import Fixed, Photographs, Strategy
from splitrt.golden import load_golden
from splitrt.netem import Netem
from splitrt.netem.shape import Shape
from splitrt.policy.decision import Choice
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight

MODELS = ("mobilenetv2", "mobilenetv3:size=small", "repvit:variant=m0_9", "edgenext:variant=xx_small")
LINKS = ("1mbit,20ms", "5mbit,40ms", "10mbit,10ms", "20mbit,20ms", "50mbit,5ms", "100mbit,2ms")
SLOWDOWN = 8.0
BEST, ROUNDS = 4, 15
DEADLINE_MS = 60_000.0
PAYLOAD_CAP = 8 << 20

UInt8 = npt.NDArray[np.uint8]


class Slowed:
    """A strategy on a device `factor` times slower: after head and encoder it waits for the rest of that time."""

    def __init__(self, inner: Fixed, factor: float) -> None:
        self._inner, self._factor = inner, factor

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return self._inner.choose(link, left_s, in_flight)

    def recheck(self, link: LinkEstimate, choice: Choice, left_s: float, in_flight: InFlight) -> Choice | None:
        return self._inner.recheck(link, choice, left_s, in_flight)

    def threshold(self, link: LinkEstimate, choice: Choice | None) -> float | None:
        return self._inner.threshold(link, choice)

    def is_final(self, looked: Looked, choice: Choice | None) -> bool:
        return self._inner.is_final(looked, choice)

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        encoded = self._inner.encode(device, frame, looked, choice)
        time.sleep((self._factor - 1) * (looked.head_s + encoded.head_s + encoded.encode_s))
        return encoded

    def ended(self, choice: Choice, is_hit: bool) -> None:
        self._inner.ended(choice, is_hit)

    def answered(self, looked: Looked, output: Any) -> None:
        self._inner.answered(looked, output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A network, profiled, with a bundle for every cut that some plan has among its best."""

    model: str
    best: dict[str, list[Any]]  # by link: the ways of its plan, the best first
    folders: dict[str, Path]  # by cut
    whole: Callable[[], Any]


def measure(asked: Asked) -> Claim:
    models, links = (MODELS[:1], LINKS[1:3]) if asked.quick else (MODELS, LINKS)
    frame_HWC = load_golden(find_bundle("photos").path("golden.npz")).frame_HWC
    rows: list[dict[str, Any]] = []
    for model in models:
        with tempfile.TemporaryDirectory(prefix="splitrt-") as scratch:
            planned = _plan(model, links, Path(scratch))
            rows += asyncio.run(_measured(planned, links, frame_HWC, 5 if asked.quick else ROUNDS))
    regrets = [row["regret"] for row in rows]
    summary = {
        "regret_worst": max(regrets),
        "regret_mean": float(np.mean(regrets)),
        "planned_is_best": sum(row["planned"] == row["best"] for row in rows),
        "pairs": len(rows),
        "prediction_error_median": float(np.median([row["prediction_error"] for row in rows])),
        "device_slowdown": SLOWDOWN,
    }
    return Claim(summary=summary, rows=rows, draw=lambda file: _draw(rows, file))


def _plan(model: str, links: Sequence[str], scratch: Path) -> Planned:
    from splitrt.onnx_session import open_session
    from splitrt.partition.bundle import Order, split_captured
    from splitrt.partition.capture import capture
    from splitrt.partition.cuts import candidates, cuts, find_cut
    from splitrt.partition.model import open_model
    from splitrt.partition.onnx import Cutter
    from splitrt.partition.plan import Machines, parse_link, ranked, ways
    from splitrt.partition.profile import photograph_runs, profile

    opened = open_model(model)
    captured = capture(opened.module, opened.inputs)
    found = cuts(captured)
    inputs = tuple(one.numpy() for one in captured.inputs)
    options = profile(captured, candidates(captured, found), inputs, opened.pixels, Silent())
    real = [option for option in options if "assumed" not in option.how]
    machines = Machines(device_slowdown=SLOWDOWN)
    best = {link: ranked(ways(real, parse_link(link), machines))[:BEST] for link in links}
    names = {way.option.cut for order in best.values() for way in order if way.option.how != "device"}
    order = Order(name="cut", pixels=opened.pixels, bits=(8, 32), kind="classes")
    folders = {
        name: split_captured(captured, find_cut(found, name), replace(order, name=f"cut{place}"), scratch, Silent())
        for place, name in enumerate(sorted(names))
    }
    (scratch / "whole").mkdir()
    session = open_session(Cutter(captured, scratch / "whole").whole)
    given = {session.get_inputs()[0].name: inputs[0]}
    prepare = photograph_runs(opened.pixels).prepare if opened.pixels else (lambda: None)
    return Planned(
        model=model,
        best=best,
        folders=folders,
        whole=lambda: (prepare(), session.run(None, given)),
    )


async def _measured(planned: Planned, links: Sequence[str], frame_HWC: UInt8, rounds: int) -> list[dict[str, Any]]:
    from splitrt.partition.plan import parse_link

    rows = []
    async with AsyncExitStack() as stack:
        config = next(iter(planned.folders.values())).parent / "server.toml"
        config.write_text(f"[server]\nmax_payload_bytes = {PAYLOAD_CAP}\n")
        folders = [str(folder) for folder in planned.folders.values()]
        server = await stack.enter_async_context(server_process(folders, "--config", str(config)))
        for text in links:
            link = parse_link(text)
            shape = Shape(up_mbit=link.mbit_per_s, down_mbit=link.mbit_per_s, rtt_ms=link.rtt_ms)
            async with Netem(to=server, shape=shape) as net:
                times = await _latencies(planned, planned.best[text], net.address, frame_HWC, rounds)
            rows.append(_row(planned.model, text, planned.best[text], times))
    return rows


async def _latencies(
    planned: Planned, order: Sequence[Any], address: str, frame_HWC: UInt8, rounds: int
) -> npt.NDArray[np.float64]:
    """(rounds, ways) in milliseconds, the ways in turns; a first round warms up."""
    times = np.zeros((rounds + 1, len(order)))
    async with AsyncExitStack() as stack:
        clients: list[Any] = []
        for way in order:
            clients.append(
                None
                if way.option.how == "device"
                else await stack.enter_async_context(
                    connect_async(
                        address,
                        bundle=str(planned.folders[way.option.cut]),
                        deadline_ms=DEADLINE_MS,
                        strategy=_strategy(way.option.how),
                        in_flight_bytes=PAYLOAD_CAP,
                    )
                )
            )
        for row in times:
            for column, client in enumerate(clients):
                if client is not None:
                    row[column] = (await client.infer(frame_HWC)).latency_ms
                else:
                    started = time.perf_counter()
                    planned.whole()
                    time.sleep((SLOWDOWN - 1) * (time.perf_counter() - started))
                    row[column] = 1e3 * (time.perf_counter() - started)
    return times[1:]


def _strategy(how: str) -> Callable[[Bundle], Strategy]:
    """Photographs, or all that crosses at 8 bits; exactly where the bundle has no ranges."""

    def of(bundle: Bundle) -> Strategy:
        seam = bundle.manifest.seam
        quality = int(how.split()[1]) if how.startswith("JPEG") else None
        fixed = Fixed(seam.widths[-1], min(seam.bits)) if quality is None else Photographs(quality)
        return Slowed(fixed, SLOWDOWN)

    return of


def _row(model: str, link: str, order: Sequence[Any], times: npt.NDArray[np.float64]) -> dict[str, Any]:
    medians = np.median(times, axis=0)
    names = [f"{way.option.label} · {way.option.how}" for way in order]
    best = int(medians.argmin())
    return {
        "model": model,
        "link": link,
        "planned": names[0],
        "best": names[best],
        "regret": float(medians[0] / medians[best] - 1),
        "prediction_error": float(abs(order[0].latency_ms / medians[0] - 1)),
        "ways": [
            {
                "way": name,
                "predicted_ms": way.latency_ms,
                "measured_ms": float(median),
                "spread_ms": float(np.subtract(*np.percentile(column, [75, 25]))),
                "link_bytes": way.option.payload_bytes,
            }
            for name, way, median, column in zip(names, order, medians, times.T, strict=True)
        ],
    }


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 4)
    axis = axes[0, 0]
    for place, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
        ways = [way for row in rows if row["model"] == model for way in row["ways"]]
        points = [(way["predicted_ms"], way["measured_ms"]) for way in ways]
        axis.scatter(*zip(*points, strict=True), s=14, color=f"C{place}", label=model)
    ends = [min(way["measured_ms"] for row in rows for way in row["ways"]),
            max(way["measured_ms"] for row in rows for way in row["ways"])]  # fmt: skip
    axis.plot(ends, ends, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("predicted, ms")
    axis.set_ylabel("measured, ms")
    axis.legend(loc="upper left")
    save(drawing, file)
