"""Maps and priors for the tests of this folder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitrt.codec.fitting import fit
from splitrt.codec.prior import Prior

UInt8 = npt.NDArray[np.uint8]


def smooth(maps: int, channels: int, height: int, width: int, bits: int, seed: int = 0) -> UInt8:
    """Random walks down and across: neighbours are alike, as in features."""
    noise = np.random.default_rng(seed).normal(size=(maps, channels, height, width))
    walk = noise.cumsum(axis=2).cumsum(axis=3)
    scale = np.abs(walk).max(axis=(2, 3), keepdims=True) + 1e-9
    symbols: UInt8 = np.rint((walk / scale + 1) / 2 * (2**bits - 1)).astype(np.uint8)
    return symbols


def alike(maps: int, channels: int, height: int, width: int, bits: int, seed: int = 0) -> UInt8:
    """Every channel is about the first, so each tells of those after it."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 2**bits, (maps, 1, height, width))
    near = first + rng.integers(-1, 2, (maps, channels, height, width))
    symbols: UInt8 = np.clip(near, 0, 2**bits - 1).astype(np.uint8)
    return symbols


CHANNELS = 9  # two layers: 4 and 5
PRIORS: dict[int, Prior] = {bits: fit(smooth(20, CHANNELS, 9, 8, bits), bits) for bits in range(1, 9)}
