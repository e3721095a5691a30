"""Temporal deltas: what changed since a frame that the other side has, modulo 2**bits, range-coded.

Shape letters: C channels, H W space, A symbols of the alphabet, R spreads.
Most symbols of a camera that stands still are unchanged and most others moved by a step, either way. So a change is
coded under a two-sided geometric law, of a spread that the frame's first byte names: the one with the shortest code. On
`photos` this takes half the bytes of zstd over the packed differences or less. Laws are made with integers alone, so
both sides have the same.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from splitrt.codec import entropy
from splitrt.codec.entropy import TOTAL, Batch, Decoder, Models
from splitrt.errors import BadFrame, InvalidInput

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]

SPREADS_R = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 240, 252)  # / 256: of each step to the one before


def encode(symbols_CHW: UInt8, reference_CHW: UInt8, bits: int) -> bytes:
    """Exact, small where little changed. Raises InvalidInput where the reference has another shape."""
    if symbols_CHW.shape != reference_CHW.shape:
        raise InvalidInput(f"a delta's reference must be {symbols_CHW.shape}, got {reference_CHW.shape}")
    changes_N = ((symbols_CHW - reference_CHW) & np.uint8(2**bits - 1)).reshape(-1)
    counts_A = np.bincount(changes_N, minlength=2**bits)
    spread = int((np.log2(rows(bits)) @ counts_A).argmax())
    return bytes([spread]) + entropy.encode(
        _models(bits), [Batch(symbols_N=changes_N, rows_N=_row(spread, changes_N.size))]
    )


def decode(payload: bytes, reference_CHW: UInt8, bits: int) -> UInt8:
    """The symbols of which this is the delta. Raises BadFrame on bytes that no encoder makes."""
    if not payload or payload[0] >= len(SPREADS_R):
        raise BadFrame(f"a delta must begin with its spread, 0 to {len(SPREADS_R) - 1}", reason="delta")
    decoder = Decoder(_models(bits), payload[1:], reference_CHW.size)
    changes_CHW = decoder.read(_row(payload[0], reference_CHW.size)).reshape(reference_CHW.shape)
    decoder.finish()
    symbols_CHW: UInt8 = (reference_CHW + changes_CHW) & np.uint8(2**bits - 1)
    return symbols_CHW


@cache
def rows(bits: int) -> UInt16:
    """(R, A): frequencies of each change under each spread; each row sums to TOTAL with no change at 0."""
    alphabet = 2**bits
    steps = [min(change, alphabet - change) for change in range(alphabet)]
    laws = []
    for spread in SPREADS_R:
        weights = [(TOTAL * spread**step) >> (8 * step) for step in steps]
        others = [max(1, weight * (TOTAL - alphabet) // sum(weights)) for weight in weights[1:]]
        laws.append([TOTAL - sum(others), *others])
    return np.array(laws, np.uint16)


@cache
def _models(bits: int) -> Models:
    return Models(rows(bits))


def _row(spread: int, count: int) -> UInt16:
    return np.full(count, spread, np.uint16)
