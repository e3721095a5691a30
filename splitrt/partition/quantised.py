"""What crosses a captured network's cut, quantised: ranges from inputs at hand, and what they cost its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splitrt.calibration import Calibration, Point
from splitrt.codec import parts
from splitrt.codec.parts import EXACT, Part
from splitrt.codec.quantise import MAX_RANGE, Ranges
from splitrt.codec.tables import Tables
from splitrt.golden import MASK
from splitrt.manifest import Seam
from splitrt.nn.interpreter import GraphModule, laid_out

Array = npt.NDArray[Any]
Sample = tuple[Array, ...]  # one frame's inputs, or what crosses the cut for it


def run_half(half: GraphModule, sample: Sample) -> Sample:
    with torch.inference_mode():
        return tuple(one.numpy() for one in half(*laid_out(half.graph.inputs, sample)))


def ranges_of(seam: Sequence[Part], sent: Sequence[Sample], wanted: tuple[int, ...]) -> tuple[tuple[int, ...], Tables]:
    """Each channel's range over the samples. Where values are beyond any range (masks), only exact bits are left."""
    low, high = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for place, part in enumerate(seam):
        if part.channels:
            rows = [parts.by_channel(tensors[place], part).reshape(part.channels, -1) for tensors in sent]
            low.append(np.min([row.min(1) for row in rows], axis=0))
            high.append(np.max([row.max(1) for row in rows], axis=0))
    low_C, high_C = np.concatenate(low), np.concatenate(high)
    is_sound = len(low_C) > 0 and bool(np.isfinite(low_C).all() and np.isfinite(high_C).all())
    if not is_sound or np.abs([low_C, high_C]).max() > min(MASK, MAX_RANGE / 2):
        low_C = high_C = np.zeros(parts.channels(seam), np.float32)
        wanted = (EXACT,)
    ranges = Ranges(low_C=low_C.astype(np.float32), high_C=high_C.astype(np.float32))
    return wanted, Tables(ranges={bits: ranges for bits in wanted if bits != EXACT} or {8: ranges}, priors={})


def calibrate(tail: GraphModule, seam: Seam, sent: Sequence[Sample], tables: Tables) -> Calibration:
    """Bytes, and how often the likeliest of every row of the first output is the same as without quantisation."""
    exact = [run_half(tail, tensors)[0] for tensors in sent]
    points = []
    for depth in seam.bits:
        ranges = None if depth == EXACT else tables.ranges_at(depth)
        coded = [parts.encode(tensors, seam.parts, depth, ranges) for tensors in sent]
        sizes = [len(payload) for _, payload in coded]
        agreed = 1.0
        if depth != EXACT:
            given = [run_half(tail, tuple(parts.decode(*one, seam.parts, depth, ranges))) for one in coded]
            agreed = float(np.mean([_same(one[0], other) for one, other in zip(given, exact, strict=True)]))
        points.append(
            Point(
                width=seam.widths[0],
                bits=depth,
                payload_bytes_mean=float(np.mean(sizes)),
                payload_bytes_p95=float(np.percentile(sizes, 95)),
                accuracy=agreed,
            )
        )
    return Calibration(
        data="captured inputs", images=len(sent), score="agreement", whole_accuracy=1.0, points=tuple(points)
    )


def _same(given: Array, wanted: Array) -> float:
    if not wanted.ndim or wanted.shape[-1] < 2:
        return float(np.isclose(given, wanted, rtol=0.05, atol=0.05 * (np.abs(wanted).max(initial=0) + 1e-9)).mean())
    return float((given.argmax(-1) == wanted.argmax(-1)).mean())
