"""The contexts of one pass' symbols: a linear prediction from what is known around them.

Shape letters: C channels from the prior's first, X those to be coded, which are the last of them, P places of
a map, N places of the pass, F neighbours of all channels.
All in float32, exactly: values are multiples of 1 / ONE within the bound that a Prior keeps (prior.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitrt.codec.interlace import NEIGHBOURS, Pass
from splitrt.codec.prior import LEVELS, SPREADS, Prior

Float32 = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]

# A product of matrices that is larger is shared by OpenBLAS among threads (its SMP_THRESHOLD_MIN x 4): for these
# small ones that gains nothing, and on busy cores it waited 16 ms for what one thread does in 0.03.
ONE_THREAD = 1 << 18


class Prediction:
    """What earlier passes tell of this pass' symbols, for all channels at once."""

    def __init__(self, known_CP: Float32, first: int, prior: Prior, index: int, one: Pass) -> None:
        """known_CP is right at the pass' neighbours, of channels before `first` as well."""
        channels, scaled = len(known_CP), prior.scaled
        around_C4N = _around(known_CP, one)
        self._first = first
        self._beside_CC = scaled.beside_JCC[index]
        self._near_XN = _product(
            scaled.near_JCF[index, first:channels, : NEIGHBOURS * channels],
            around_C4N.reshape(NEIGHBOURS * channels, -1),
        )
        self._near_XN += scaled.constant_JC1[index, first:channels]
        spread_XN = np.ptp(around_C4N[first:], axis=1)
        spread_XN *= scaled.spread_JC1[index, first:channels]
        np.minimum(spread_XN, SPREADS - 1, out=spread_XN)
        self._context_XN = spread_XN.astype(np.intp)
        self._context_XN += np.arange(first, channels)[:, None] * (LEVELS * SPREADS)

    def contexts(self, symbols_CN: Float32, start: int, stop: int) -> Places:
        """Of channels start to stop, given this pass' symbols of all channels in earlier layers: as flat (C, L, S)."""
        chosen = slice(start - self._first, stop - self._first)
        level_XN = _product(self._beside_CC[start:stop, : len(symbols_CN)], symbols_CN)
        level_XN += self._near_XN[chosen]
        np.maximum(level_XN, 0, out=level_XN)
        np.minimum(level_XN, LEVELS - 1, out=level_XN)
        context_XN = level_XN.astype(np.intp)
        context_XN *= SPREADS
        context_XN += self._context_XN[chosen]
        return context_XN


def _around(known_CP: Float32, one: Pass) -> Float32:
    if one.neighbours_4N is None:
        return np.zeros((len(known_CP), NEIGHBOURS, one.places_N.size), np.float32)
    around_C4N: Float32 = known_CP.take(one.neighbours_4N, axis=1)
    return around_C4N


def _product(weights_XF: Float32, features_FN: Float32) -> Float32:
    """weights @ features, in pieces of columns that one thread does."""
    columns = max(1, ONE_THREAD // max(1, weights_XF.size))
    if columns >= features_FN.shape[1]:
        return weights_XF @ features_FN
    product_XN = np.empty((len(weights_XF), features_FN.shape[1]), np.float32)
    for start in range(0, features_FN.shape[1], columns):
        piece = slice(start, start + columns)
        np.matmul(weights_XF, features_FN[:, piece], out=product_XN[:, piece])
    return product_XN
