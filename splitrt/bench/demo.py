"""The demo: one stream of frames, four ways to answer it, each on its own copy of the same bad link.

    frames ──┬── gate ─ splitrt ─ link ──┐
             ├── widest always ── link ──┼── one server, in a process of its own
             ├── JPEG ─────────── link ──┘
             └── exit alone

The same frame enters all four at the same moment; each has its own client and its own emulated link that
plays the same trace from the same second. Score: agreement with the undivided model, or accuracy where the
frames have labels. Where the bundle has a gate, the baselines have none, and all are asked what the gate's task asks.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.frames import Labelled, folder_frames, sample_frames
from splitrt.bench.log import FrameLog, summary
from splitrt.bench.process import server_process
from splitrt.bench.ungated import as_asked, without_gate
from splitrt.bundle import Bundle, find_bundle
from splitrt.codec import pixels
from splitrt.device.client import AsyncClient
from splitrt.device.connect import connect_async
from splitrt.device.strategy import Adaptive, Alone, Fixed, Photographs, Strategy
from splitrt.errors import SplitError
from splitrt.manifest import Gate
from splitrt.netem import Netem, Shape, Trace
from splitrt.server.tail import OnnxTail

FPS = 10.0
DEADLINE_MS = 100.0
ROUND_TRIP_MS = 30.0
JPEG_QUALITY = 75
OURS = "splitrt"
OUTAGE_MBIT = 0.001  # below this uplink rate a frame counts as captured in the outage

STRATEGIES: dict[str, Callable[[Bundle], Strategy]] = {
    OURS: Adaptive,
    "widest": lambda bundle: Fixed(bundle.manifest.seam.widths[-1], max(bundle.manifest.seam.bits)),
    "jpeg": lambda bundle: Photographs(JPEG_QUALITY),
    "exit alone": lambda bundle: Alone(),
}


@dataclass(slots=True)
class Stream:
    """One of the four."""

    name: str
    client: AsyncClient
    link: Netem
    gate: Gate | None  # of the bundle that is shown: whether or not this stream runs it, it is asked the same
    log: FrameLog = field(default_factory=FrameLog)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    summary: dict[str, Any]
    logs: dict[str, FrameLog]
    trace: Trace


async def run_demo(
    count: int, images: Path | None, trace: Trace, bundle: str, watch: Callable[[Sequence[Stream], float], None]
) -> Outcome:
    """Stream `count` frames; `watch` is called after every frame with the streams and the trace's second."""
    chosen = find_bundle(bundle)
    wanted = chosen.manifest.photograph
    labels = chosen.manifest.output.labels
    if images is None:
        frames = await asyncio.to_thread(sample_frames, count, wanted.height, wanted.width)
    else:
        frames = await asyncio.to_thread(folder_frames, images, count, labels)
    truth = await asyncio.to_thread(reference, chosen, frames)
    gate = chosen.manifest.gate
    async with AsyncExitStack() as stack:
        plain = bundle
        if gate is not None:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            plain = str((await asyncio.to_thread(without_gate, chosen, scratch)).folder)
        server = await stack.enter_async_context(server_process(list(dict.fromkeys([bundle, plain]))))
        served = {name: bundle if name == OURS else plain for name in STRATEGIES}
        streams = [await _open(stack, name, server, served[name], trace, gate) for name in STRATEGIES]
        for stream in streams:
            stream.link.restart_trace()
        await _play(streams, frames, truth, watch)
    in_outage = [trace.rate_bytes_per_s("up", at / FPS) * 8e-6 < OUTAGE_MBIT for at in range(count)]
    figures = {stream.name: _figures(stream, count, in_outage) for stream in streams}
    ours = figures.pop(OURS)
    if gate is not None:
        ours |= _gated(next(stream.log for stream in streams if stream.name == OURS), gate)
    score = "accuracy" if all(frame.label is not None for frame in frames) else "agreement"
    return Outcome(
        summary={**ours, **_promise(chosen), "score": score, "deadline_ms": DEADLINE_MS, "baselines": figures},
        logs={stream.name: stream.log for stream in streams},
        trace=trace,
    )


def _promise(bundle: Bundle) -> dict[str, float]:
    """What the bundle says of its exits and its gate; nothing where it has none."""
    said: dict[str, float] = {}
    curve, record = bundle.calibration.exit, bundle.calibration.gate
    if curve is not None and bundle.manifest.exits is not None:
        said |= {
            "exit_epsilon": curve.epsilon,
            "exit_delta": curve.delta,
            "exit_threshold": bundle.manifest.exits.threshold,
            "calibration_images": bundle.calibration.images,
        }
    if record is not None and bundle.manifest.gate is not None:
        said |= {
            "gate_recall": record.recall,
            "gate_delta": record.delta,
            "gate_threshold": bundle.manifest.gate.threshold,
            "gate_calibration_positives": record.positives,
        }
    return said


def _gated(log: FrameLog, gate: Gate) -> dict[str, float]:
    """Frames by what is right for them: those with something that were let through, those without that were stopped."""
    nothing = [row["source"] == "gate" for row in log.rows if row["right"] == gate.answer]
    something = [row["source"] != "gate" for row in log.rows if row["right"] != gate.answer]
    return {
        "frames_with_something": len(something),
        "frames_with_something_let_through": sum(something),
        "frames_with_nothing": len(nothing),
        "frames_with_nothing_stopped": sum(nothing),
    }


def reference(bundle: Bundle, frames: Sequence[Labelled]) -> list[str]:
    """The right answer of each frame: its label, else what the undivided model says; as the gate's task has it."""
    tail, wanted, labels = OnnxTail(bundle), bundle.manifest.photograph, bundle.manifest.output.labels
    answers: list[str | None] = []
    for one in frames:
        if one.label is not None:
            answers.append(one.label)
            continue
        fitted = pixels.fit(one.frame_HWC, wanted.height, wanted.width)
        outputs_N = tail.run_whole(pixels.normalise(fitted, wanted.mean, wanted.std)[None])[0]
        answers.append(labels[int(outputs_N.argmax())])
    return [str(as_asked(bundle.manifest.gate, answer)) for answer in answers]


async def _open(stack: AsyncExitStack, name: str, server: str, bundle: str, trace: Trace, gate: Gate | None) -> Stream:
    shape = Shape(trace=trace, rtt_ms=ROUND_TRIP_MS)
    link = await stack.enter_async_context(Netem(to=server, shape=shape))
    client = await stack.enter_async_context(
        connect_async(link.address, bundle=bundle, deadline_ms=DEADLINE_MS, strategy=STRATEGIES[name])
    )
    return Stream(name, client, link, gate)


async def _play(
    streams: Sequence[Stream],
    frames: Sequence[Labelled],
    truth: Sequence[str],
    watch: Callable[[Sequence[Stream], float], None],
) -> None:
    """Every frame into every stream at its moment; returns when all have ended."""
    loop = asyncio.get_running_loop()
    started, ends = loop.time(), []
    for number, (one, right) in enumerate(zip(frames, truth, strict=True)):
        at_s = number / FPS
        await asyncio.sleep(started + at_s - loop.time())
        for stream in streams:
            future = stream.client.submit(one.frame_HWC)
            ends.append(asyncio.create_task(_note(stream, future, at_s, right)))
        watch(streams, at_s)
    await asyncio.gather(*ends)


async def _note(stream: Stream, future: asyncio.Future[Any], at_s: float, right: str) -> None:
    loop = asyncio.get_running_loop()
    submitted_at = loop.time()
    belief = stream.client.estimate.belief
    low, middle, high = (belief.rate(share) * 8e-6 for share in (0.1, 0.5, 0.9))
    more = {
        "at_s": at_s, "rate_mbit": middle, "rate_low_mbit": low, "rate_high_mbit": high, "outage": belief.outage,
        "right": right,
    }  # fmt: skip
    try:
        result = await future
        stream.log.add(result, is_right=as_asked(stream.gate, result.label) == right, **more)
    except SplitError as error:
        stream.log.fail(error.code, (loop.time() - submitted_at) * 1e3, is_right=False, **more)


def _figures(stream: Stream, count: int, in_outage: Sequence[bool]) -> dict[str, float]:
    stream.log.rows.sort(key=lambda row: row["at_s"])
    rows = stream.log.rows
    figures = summary(stream.log, DEADLINE_MS, count)
    figures["agreement"] = float(np.mean([row["is_right"] for row in rows]))
    during = [row for row in rows if in_outage[round(row["at_s"] * FPS)]]
    figures["outage_frames"] = len(during)
    figures["outage_frames_answered"] = sum(row["label"] is not None for row in during)
    figures["widths_used"] = len({row["width"] for row in rows if row["source"] == "remote"})
    return figures
