"""What every way of cutting a network costs on this machine: time, bytes, operations, memory, energy where it is told.

Halves run on ONNX Runtime with its threads pinned, one at a time, all of them once a round, so that what disturbs the
machine disturbs all alike; medians, with the distance between the quartiles.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splitrt.bundle import find_bundle
from splitrt.codec import parts, pixels
from splitrt.codec.parts import Part
from splitrt.codec.quantise import Ranges
from splitrt.golden import load_golden
from splitrt.manifest import Pixels
from splitrt.onnx_session import open_session
from splitrt.partition.bundle import tensor_spec
from splitrt.partition.capture import Captured
from splitrt.partition.costs import activation_bytes, count_flops, measure_joules
from splitrt.partition.cuts import END, START, Cut
from splitrt.partition.divide import divide
from splitrt.partition.onnx import Cutter
from splitrt.partition.plan import Option
from splitrt.watch import Watch

Array = npt.NDArray[Any]

ROUNDS, WARM_UP = 15, 2
BITS = 8
QUALITY = 90  # of the photographs that the all-server way sends
# What a trained bottleneck sends is not known before it is trained: this many channels at so many bits on a map of at
# most such a side. The one of `photos` sends less.
ASSUMED_CHANNELS, ASSUMED_BITS, ASSUMED_SIDE = 8, 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """A cut with its halves ready to run, and what crosses there for the inputs at hand."""

    cut: Cut
    head: Callable[[], Any]
    tail: Callable[[], Any]
    encode: Callable[[], Any]
    decode: Callable[[], Any]
    bits: int
    payload_bytes: int
    head_flops: int
    tail_flops: int
    head_activation_bytes: int


def profile(
    captured: Captured,
    found: Sequence[Cut],
    inputs: tuple[Array, ...],
    photograph: Pixels | None,
    watch: Watch,
    threads: int = 1,
    rounds: int = ROUNDS,
) -> list[Option]:
    """The options at the cuts `found` (without the last), those with a bottleneck assumed, and the undivided ones.

    photograph: what becomes of one, where the network takes photographs.
    """
    photo = photograph_runs(photograph) if photograph else None
    prepare = photo.prepare if photo else _nothing
    with tempfile.TemporaryDirectory(prefix="splitrt-") as scratch:
        watch.line(f"exporting {len(found)} cuts")
        cutter = Cutter(captured, Path(scratch))
        ready = [_ready(captured, cut, cutter, inputs, threads) for cut in found]
        whole = _session(cutter.whole, threads)
        coding = (photo.code, photo.decode) if photo else ()
        tasks: list[Callable[[], Any]] = [prepare, lambda: whole(inputs), *coding]
        first = len(tasks)
        for one in ready:
            tasks += [one.head, one.encode, one.decode, one.tail]
        times = timed(tasks, rounds, watch, threads)
        answer_bytes = float(sum(one.nbytes for one in whole(inputs)))
        joules = measure_joules([one.head for one in ready])
    flops = max(one.head_flops + one.tail_flops for one in ready)
    none = times[:, :0]
    options = [
        way(times[:, [0, 1]], none, END, "device", len(captured.graph.nodes), 0.0, 0.0, head_flops=flops, tail_flops=0,
            head_activation_bytes=activation_bytes(captured)),
    ]  # fmt: skip
    if photo:
        options.append(
            way(times[:, [0, 2]], times[:, [3, 1]], START, f"JPEG {QUALITY}", 0, float(photo.size), answer_bytes,
                head_flops=0, tail_flops=flops)
        )  # fmt: skip
    for place, (one, joule) in enumerate(zip(ready, joules, strict=True)):
        columns = times[:, [0, *range(first + 4 * place, first + 4 * place + 4)]]
        options += _ways_at(one, columns, answer_bytes, joule)
    return sorted(options, key=lambda option: (option.position, option.how))


def _ways_at(one: Profiled, times: npt.NDArray[np.float64], answer_bytes: float, joule: float | None) -> list[Option]:
    """times: (rounds, 5), to prepare, run the head, encode, decode, run the tail."""
    cut, device, server = one.cut, times[:, :3].copy(), times[:, 3:]
    about: dict[str, Any] = {
        "module": cut.module,
        "head_flops": one.head_flops,
        "tail_flops": one.tail_flops,
        "head_activation_bytes": one.head_activation_bytes,
        "head_j": joule,
    }
    options = [
        way(device, server, cut.name, f"{one.bits} bit", cut.position, float(one.payload_bytes), answer_bytes, **about)
    ]
    if cut.fits_bottleneck and cut.name != START:
        shape = cut.seam[0].shape
        # Its encoder at the speed of the head before it; its decoder stands for as much of the tail.
        speed = one.head_flops / max(float(np.median(times[:, 1])), 1e-6)
        device[:, 2] = encoder_flops(shape) / max(speed, 1.0)
        how, size = "bottleneck (assumed)", float(assumed_bytes(shape))
        options.append(way(device, server[:, 1:], cut.name, how, cut.position, size, answer_bytes, **about))
    return options


def _nothing() -> None:
    """What becomes of inputs that are no photograph."""


def encoder_flops(shape: tuple[int, ...]) -> int:
    """Of one like those that recipes train: a strided 3 x 3 to 24 channels, another, then the bottleneck's."""
    places = assumed_bytes(shape) * 8 // (ASSUMED_CHANNELS * ASSUMED_BITS)
    channels = shape[1] if len(shape) == 4 else shape[2]
    return 2 * places * (9 * channels * 24 + 9 * 24 * 24 + 24 * ASSUMED_CHANNELS)


def assumed_bytes(shape: tuple[int, ...]) -> int:
    """Of a bottleneck on a map (1, C, H, W) or on tokens (1, T, D)."""
    is_map = len(shape) == 4
    places = min(shape[2], ASSUMED_SIDE) * min(shape[3], ASSUMED_SIDE) if is_map else shape[1]
    return (places * ASSUMED_CHANNELS * ASSUMED_BITS + 7) // 8


def _ready(captured: Captured, cut: Cut, cutter: Cutter, inputs: tuple[Array, ...], threads: int) -> Profiled:
    halves = divide(captured, cut)
    head_file, tail_file = cutter.halves(cut)
    head = _session(head_file, threads) if cut.name != START else (lambda given: given)
    tail = _session(tail_file, threads)
    sent = head(inputs)
    seam = tuple(tensor_spec(value).part for value in cut.seam)
    ranges = _ranges(seam, sent)
    bits = parts.EXACT if ranges is None else BITS
    codec, payload = parts.encode(sent, seam, bits, ranges)
    head_flops, given = count_flops(halves.head, [torch.from_numpy(one) for one in inputs])
    tail_flops, _ = count_flops(halves.tail, given)
    return Profiled(
        cut=cut,
        head=lambda: head(inputs),
        tail=lambda: tail(sent),
        encode=lambda: parts.encode(sent, seam, bits, ranges),
        decode=lambda: parts.decode(codec, payload, seam, bits, ranges),
        bits=bits,
        payload_bytes=len(payload),
        head_flops=head_flops,
        tail_flops=tail_flops,
        head_activation_bytes=activation_bytes(halves.head),
    )


def _ranges(seam: Sequence[Part], sent: Sequence[Array]) -> Ranges | None:
    """Of these very tensors; None where nothing can be quantised."""
    rows = [parts.by_channel(one, part) for one, part in zip(sent, seam, strict=True) if part.channels]
    if not rows or not all(np.isfinite(row).all() for row in rows):
        return None
    low_C, high_C = (np.concatenate([edge(row, axis=(1, 2)) for row in rows]) for edge in (np.min, np.max))
    return Ranges(low_C=low_C, high_C=high_C) if np.abs([low_C, high_C]).max() < 1e30 else None


def _session(file: Path, threads: int) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
    session = open_session(file, threads)
    names = [one.name for one in session.get_inputs()]

    def run(given: Sequence[Array]) -> tuple[Array, ...]:
        return tuple(session.run(None, dict(zip(names, map(np.ascontiguousarray, given), strict=True))))

    return run


def timed(tasks: Sequence[Callable[[], Any]], rounds: int, watch: Watch, threads: int) -> npt.NDArray[np.float64]:
    """(rounds, tasks) in milliseconds: on one thread its own time, which other work on the machine does not stretch."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    times = np.zeros((rounds, len(tasks)))
    for place in range(-WARM_UP, rounds):
        for column, task in enumerate(tasks):
            task()  # its caches are warm then, as those of a machine that does nothing else
            started = clock()
            task()
            if place >= 0:
                times[place, column] = 1e3 * (clock() - started)
        watch.step("profiling", place + WARM_UP + 1, rounds + WARM_UP)
    return times


def way(
    device: npt.NDArray[np.float64],
    server: npt.NDArray[np.float64],
    cut: str,
    how: str,
    position: int,
    payload_bytes: float,
    answer_bytes: float,
    **about: Any,
) -> Option:
    """device, server: (rounds, parts) whose sums are the two times."""
    (head_ms, head_spread_ms), (tail_ms, tail_spread_ms) = _middle(device), _middle(server)
    return Option(
        cut=cut,
        how=how,
        position=position,
        head_ms=head_ms,
        head_spread_ms=head_spread_ms,
        tail_ms=tail_ms,
        tail_spread_ms=tail_spread_ms,
        payload_bytes=payload_bytes,
        answer_bytes=answer_bytes,
        **about,
    )


def _middle(times: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Sum of the parts' medians, and the distance between the sums' quartiles."""
    if not times.shape[1]:
        return 0.0, 0.0
    low, high = np.percentile(times.sum(1), [25, 75])
    return float(np.median(times, axis=0).sum()), float(high - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotographRuns:
    """A real photograph at a network's size: made its input, coded, decoded; its bytes as coded."""

    prepare: Callable[[], Any]
    code: Callable[[], Any]
    decode: Callable[[], Any]
    size: int


def photograph_runs(wanted: Pixels) -> PhotographRuns:
    """Of the photograph in the bundle `photos`."""
    frame_HWC = load_golden(find_bundle("photos").path("golden.npz")).frame_HWC

    def fitted() -> npt.NDArray[np.uint8]:
        return pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)

    data = pixels.to_jpeg(fitted(), QUALITY)
    return PhotographRuns(
        prepare=lambda: pixels.normalise(fitted(), wanted.mean, wanted.std),
        code=lambda: pixels.to_jpeg(fitted(), QUALITY),
        decode=lambda: pixels.normalise(pixels.from_jpeg(data), wanted.mean, wanted.std),
        size=len(data),
    )
