"""Running a head, one stage at a time, so that a frame that needs less does less.

Shape letters: F feature channels, Z bottleneck channels, K channels of one group, M hidden channels so far,
H W space, N classes.

    features = stem(x) ── exits(features): one after the other ── sure? done
                      └── encode(features, width): links 1 .. k, each reading what those before it carry on

All sessions are open from the start: a width switch is an argument, nothing is loaded or rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import pixels
from splitrt.codec.quantise import quantise
from splitrt.errors import WidthUnsupported
from splitrt.golden import agree, load_golden
from splitrt.onnx_session import open_session

Float32 = npt.NDArray[np.float32]


class Head(Protocol):
    """Batches of one: what a device runs. Not reentrant; one thread calls it."""

    def stem(self, x_CHW: Float32) -> Float32:
        """A normalised frame -> features_1FHW."""

    def exits(self, features_1FHW: Float32) -> Iterator[Float32]:
        """logits_N of each early exit, cheap first; each is computed when it is asked for."""

    def encode(self, features_1FHW: Float32, width: int) -> Float32:
        """z_KHW with the width's channels. Raises WidthUnsupported."""


class OnnxHead:
    """The head on ONNX Runtime: the default on a device."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self._widths = bundle.manifest.seam.widths
        self._is_sum = bundle.manifest.seam.sum_channels is not None
        self._stem = open_session(bundle.path("head/stem.onnx"), threads)
        count = len(bundle.manifest.exits.chain) if bundle.manifest.exits is not None else 0
        self._exits = [open_session(bundle.path(f"head/exit_{k}.onnx"), threads) for k in range(1, count + 1)]
        self._groups = [
            open_session(bundle.path(f"head/encoder_{k}.onnx"), threads) for k in range(1, len(self._widths) + 1)
        ]

    def stem(self, x_CHW: Float32) -> Float32:
        features: Float32 = self._stem.run(None, {"frame": x_CHW[None]})[0]
        return features

    def exits(self, features_1FHW: Float32) -> Iterator[Float32]:
        carried = features_1FHW
        for session in self._exits:
            logits_1N, carried = session.run(None, {"features": carried})
            yield logits_1N[0]

    def encode(self, features_1FHW: Float32, width: int) -> Float32:
        inputs, outputs = {"features": features_1FHW}, []
        for group in self._groups[: group_count(self._widths, width)]:
            z_1KHW, inputs["hidden"] = group.run(None, inputs)
            outputs.append(z_1KHW[0])
        return outputs[-1] if self._is_sum else np.concatenate(outputs)


def group_count(widths: tuple[int, ...], width: int) -> int:
    """How many groups make this width. Raises WidthUnsupported."""
    if width not in widths:
        raise WidthUnsupported(f"width must be one of {widths}, got {width}")
    return widths.index(width) + 1


def check_golden(bundle: Bundle, head: Head) -> float:
    """Re-run the golden sample's head here: the largest difference. Raises BundleError beyond tolerance.

    Symbols may differ by one step in 1e-4 of them (rounding at a step's edge on another CPU), never more.
    """
    manifest, golden = bundle.manifest, load_golden(bundle.path("golden.npz"))
    tolerance, wanted = manifest.golden_tolerance, manifest.photograph
    frame_HWC = pixels.fit(golden.frame_HWC, wanted.height, wanted.width, wanted.fit)
    features = head.stem(pixels.normalise(frame_HWC, wanted.mean, wanted.std))
    worst = 0.0
    for place, logits_N in enumerate(head.exits(features)):
        worst = max(worst, agree(f"exit {place + 1}", logits_N, golden.exits_EN[place], tolerance))
    bits, off = max(manifest.seam.bits), []
    for place, width in enumerate(manifest.seam.widths):
        sent = manifest.seam.channels_at(width)
        z_ZHW = head.encode(features, width)
        worst = max(worst, agree(f"bottleneck at width {width}", z_ZHW, golden.z_KZHW[place, :sent], tolerance))
        symbols = quantise(z_ZHW, bundle.tables.ranges_at(bits), bits).astype(np.int64)
        off.append(np.abs(symbols - golden.symbols_KZHW[place, :sent]).reshape(-1))
    steps = np.concatenate(off)
    agree("symbols", steps, np.zeros_like(steps), 1)
    agree(
        "count of symbols one step off",
        np.array([np.count_nonzero(steps)]),
        np.array([0]),
        1e-4 * steps.size + 1,
    )
    return worst
