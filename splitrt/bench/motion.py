"""What temporal deltas save on video: test photographs seen by a camera that stands still, and by one that pans.

There is no video among the data, so a camera is made of a photograph: a window cut from it, noise of a sensor added to
each frame. Standing, the window stays; panning, it moves by a pixel a frame. No thing moves of itself: real video lies
between the two, or is worse where much moves. Every delta is decoded again and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import delta as temporal
from splitrt.codec import payload, pixels
from splitrt.codec.quantise import quantise
from splitrt.device.head import Head

UInt8 = npt.NDArray[np.uint8]

FRAMES = 12
WINDOW = 7 / 8  # of the photograph's side
NOISE = 2.0  # of 255, standard deviation
PANS = {"still": 0, "pan": 1}  # pixels a frame


def motion_rows(bundle: Bundle, head: Head, photographs: Sequence[UInt8]) -> list[dict[str, Any]]:
    """For each motion, width and depth: mean bytes of key frames, of deltas, and of the smaller one frame by frame."""
    seam = bundle.manifest.seam
    rows: list[dict[str, Any]] = []
    for motion, step in PANS.items():
        sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for seed, photograph_HWC in enumerate(photographs):
            features = [_stem(bundle, head, view_HWC) for view_HWC in _views(photograph_HWC, step, seed)]
            for width in seam.widths:
                z_TKHW = [head.encode(one, width) for one in features]
                for bits in seam.bits:
                    symbols_TKHW = [quantise(one, bundle.tables.ranges_at(bits), bits) for one in z_TKHW]
                    sizes.setdefault((width, bits), []).extend(_sizes(bundle, symbols_TKHW, bits))
        rows += [
            {"what": motion, "width": width, "bits": bits, **_means(found)} for (width, bits), found in sizes.items()
        ]
    return rows


def _views(photograph_HWC: UInt8, step: int, seed: int) -> Iterator[UInt8]:
    draw = np.random.default_rng(seed)
    high, wide = (int(WINDOW * side) for side in photograph_HWC.shape[:2])
    for number in range(FRAMES):
        left = min(number * step, photograph_HWC.shape[1] - wide)
        seen_HWC = photograph_HWC[:high, left : left + wide] + draw.normal(0, NOISE, (high, wide, 3))
        yield np.clip(np.rint(seen_HWC), 0, 255).astype(np.uint8)


def _stem(bundle: Bundle, head: Head, view_HWC: UInt8) -> npt.NDArray[np.float32]:
    wanted = bundle.manifest.photograph
    fitted_HWC = pixels.fit(view_HWC, wanted.height, wanted.width, wanted.fit)
    return head.stem(pixels.normalise(fitted_HWC, wanted.mean, wanted.std))


def _sizes(bundle: Bundle, symbols_TKHW: Sequence[UInt8], bits: int) -> Iterator[tuple[int, int]]:
    """Of each frame but the first: as a key frame, and as the difference to the one before."""
    prior = bundle.tables.prior_at(bits)
    for before_KHW, symbols_KHW in zip(symbols_TKHW, symbols_TKHW[1:], strict=False):
        delta = temporal.encode(symbols_KHW, before_KHW, bits)
        np.testing.assert_array_equal(temporal.decode(delta, before_KHW, bits), symbols_KHW)
        yield len(payload.encode(symbols_KHW, bits, prior)[1]), len(delta)


def _means(sizes: Sequence[tuple[int, int]]) -> dict[str, float]:
    sizes_N2 = np.array(sizes, np.float64)
    return {
        "key_bytes": float(sizes_N2[:, 0].mean()),
        "delta_bytes": float(sizes_N2[:, 1].mean()),
        "smaller_bytes": float(sizes_N2.min(1).mean()),
    }
