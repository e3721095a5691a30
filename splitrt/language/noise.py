"""Noise that device and server make alike: Gumbel values keyed by a seed, a token's position and its id.

    state = mix(mix(seed) + position * ODD)        u = (mix(state + id * GOLDEN) >> 11 + 0.5) / 2^53
    gumbel = -log(-log u)                          mix: SplitMix64 (Steele et al., OOPSLA 2014)

The integers are exact on every machine. The logarithms may differ by a last bit between machines: the device's draft
then misses where it would have hit, and what is said is still the server's alone.
Gumbel coupling of drafter and target: Daliri et al., 2024, arXiv:2408.07978.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
UInt64 = npt.NDArray[np.uint64]

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
ODD = 0xD1342543DE82EF95
COIN = 1 << 40  # ids beyond every vocabulary: coins that rejection sampling tosses


def gumbel(seed: int, position: int, vocabulary: int) -> Float64:
    """(V,) values for the token at this position."""
    noise: Float64 = -np.log(-np.log(_uniform(seed, position, np.arange(vocabulary, dtype=np.uint64))))
    return noise


def coin(seed: int, position: int, toss: int) -> float:
    """A uniform value in (0, 1), independent of the Gumbel values of the position."""
    return float(_uniform(seed, position, np.array([COIN + toss], np.uint64))[0])


def _uniform(seed: int, position: int, ids_V: UInt64) -> Float64:
    state = _mix((_mix(seed & MASK) + position * ODD) & MASK)
    with np.errstate(over="ignore"):
        z_V = np.uint64(state) + ids_V * np.uint64(GOLDEN)
        z_V = (z_V ^ (z_V >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z_V = (z_V ^ (z_V >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z_V = z_V ^ (z_V >> np.uint64(31))
    return ((z_V >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
