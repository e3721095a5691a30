"""Per-channel affine quantisation under fixed ranges.

Shape letters: C channels, H W space.
A channel's range [low, high] is fixed when the bundle is made and known to both sides, so nothing about
it travels. 2**bits - 1 steps divide it. Rules for odd values: beyond the range, infinities included,
saturates; NaN is refused (a head that gives NaN is broken, and no symbol means it); a constant channel
(low == high) is symbol 0 and comes back as `low`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.errors import ConfigError, InvalidInput

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

BITS = tuple(range(1, 9))
MAX_RANGE = float(np.finfo(np.float32).max) / 2  # a wider one overflows on the way to symbols and back


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Lowest and highest value of each bottleneck channel: float32, finite, low <= high, their distance finite."""

    low_C: Float32
    high_C: Float32

    def __post_init__(self) -> None:
        low, high = self.low_C, self.high_C
        if low.ndim != 1 or low.shape != high.shape or low.dtype != np.float32 or high.dtype != np.float32:
            raise ConfigError(
                f"ranges must be two float32 vectors of one length, got {low.dtype}{low.shape}, "
                f"{high.dtype}{high.shape}"
            )
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            raise ConfigError("ranges must be finite with low <= high in every channel")
        if not (high.astype(np.float64) - low <= MAX_RANGE).all():
            raise ConfigError(f"ranges must be at most {MAX_RANGE:.3g} wide")

    @property
    def channels(self) -> int:
        return len(self.low_C)


def quantise(z_CHW: Float32, ranges: Ranges, bits: int) -> UInt8:
    """Values to symbols 0 .. 2**bits - 1, channel c under range c. Raises InvalidInput on NaN."""
    _check_bits(bits)
    if z_CHW.ndim != 3 or z_CHW.dtype != np.float32 or not 1 <= len(z_CHW) <= ranges.channels:
        raise InvalidInput(f"bottleneck must be float32 (1..{ranges.channels}, H, W), got {z_CHW.dtype}{z_CHW.shape}")
    low_C11, step_C11 = _grid(ranges, len(z_CHW), bits)
    safe_C11 = np.where(step_C11 > 0, step_C11, np.float32(1))
    low_high = ranges.high_C[: len(z_CHW), None, None]
    scaled = np.maximum(z_CHW, low_C11)
    np.minimum(scaled, low_high, out=scaled)
    scaled -= low_C11
    scaled /= safe_C11
    # One NaN anywhere makes the sum NaN; symbols are at most 255 each and cannot overflow it.
    if np.isnan(scaled.sum()):
        raise InvalidInput("bottleneck must not hold NaN: the head's output is broken")
    return np.rint(scaled, out=scaled).astype(np.uint8)


def dequantise(symbols_CHW: UInt8, ranges: Ranges, bits: int) -> Float32:
    """Symbols back to the middle of their steps: float32 (C, H, W)."""
    _check_bits(bits)
    low_C11, step_C11 = _grid(ranges, len(symbols_CHW), bits)
    values_CHW: Float32 = symbols_CHW.astype(np.float32) * step_C11 + low_C11
    return values_CHW


def _grid(ranges: Ranges, channels: int, bits: int) -> tuple[Float32, Float32]:
    low_C11 = ranges.low_C[:channels, None, None]
    high_C11 = ranges.high_C[:channels, None, None]
    # The difference first: its rounding is small beside the range, however far from zero the range lies.
    step_C11 = (high_C11 - low_C11) / np.float32(2**bits - 1)
    # Below the smallest normal number a step is too coarse to count in: such a channel is constant.
    return low_C11, np.where(step_C11 < np.finfo(np.float32).tiny, np.float32(0), step_C11)


def _check_bits(bits: int) -> None:
    if bits not in BITS:
        raise InvalidInput(f"bits must be one of {BITS}, got {bits}")
