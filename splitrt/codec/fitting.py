"""Fitting a prior to example maps.

Shape letters: N maps, C channels, H W space, P places of one map, J passes, F features, L levels, S spreads,
A symbols of the alphabet, R rows of frequencies, M contexts of all channels and passes.
Weights by least squares, one matrix of moments a pass for all channels. Many contexts behave alike, so all
share a few rows, found by k-means on code length (context quantisation, Wu and Chen, DCC 1999): coding
time goes with the rows in use. On the photos stem 32 rows cost 1.5 % more bytes and 64 cost 1 % less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec.entropy import TOTAL
from splitrt.codec.interlace import NEIGHBOURS, PASSES, Pass, passes
from splitrt.codec.prediction import Prediction
from splitrt.codec.prior import EXACT, LEVELS, ONE, SPREADS, Prior, known_features
from splitrt.codec.quantise import BITS
from splitrt.errors import InvalidInput

Array = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SHARED_ROWS = 48
ROUNDS = 12  # of k-means: the code length stands still by then
LEAN = 16  # symbols: from 60 images it saves 0.3 to 2 % over 1
RIDGE = 1.0  # added to each feature's sum of squares: 0 where it says nothing
BELOW, ABOVE = 3, 4  # levels span so many deviations around a prediction's mean: features are skewed
AT_ONCE = 1 << 21  # symbols


def fit(symbols_NCHW: UInt8, bits: int) -> Prior:
    """Tables from example maps: more maps give better tables, the size of the maps may differ later."""
    if bits not in BITS or symbols_NCHW.ndim != 4 or not symbols_NCHW.size or int(symbols_NCHW.max()) >= 2**bits:
        raise InvalidInput(f"a prior is fitted to symbols (N, C, H, W) below 2**bits, got {symbols_NCHW.shape}, {bits}")
    channels, alphabet = symbols_NCHW.shape[1], 2**bits
    marginal_CA = np.stack([_counts(symbols_NCHW[:, c], alphabet) for c in range(channels)]) + 0.1
    weights_CJF, spread_CJ = _fit_linear(symbols_NCHW, alphabet)
    leading = (channels, PASSES, LEVELS, SPREADS)
    alone = Prior(
        rows_RA=_to_integers(marginal_CA),
        weights_CJF=weights_CJF,
        spread_CJ=spread_CJ,
        row_CJLS=np.zeros(leading, np.uint16),
    )
    counts_CJLSA = _count(symbols_NCHW, alone).reshape(*leading, alphabet)
    # A context seldom seen leans on its level's and the two beside it, and these on the channel's own.
    by_level_CJL1A = counts_CJLSA.sum(axis=3, keepdims=True) + _share(marginal_CA)[:, None, None, None]
    by_level_CJL1A[:, :, 1:-1] += (by_level_CJL1A[:, :, :-2] + by_level_CJL1A[:, :, 2:]) / 2
    counts_CJLSA += LEAN * _share(by_level_CJL1A)
    row_M, shared_RA = _cluster(counts_CJLSA.reshape(-1, alphabet))
    return Prior(
        rows_RA=_to_integers(np.concatenate([marginal_CA, shared_RA])),
        weights_CJF=weights_CJF,
        spread_CJ=spread_CJ,
        row_CJLS=(row_M + channels).astype(np.uint16).reshape(leading),
    )


def _by_pass(symbols_NCHW: UInt8) -> Iterator[tuple[int, Pass, Float32]]:
    """Each pass' index, and the pass over some maps side by side as if they were one, with their symbols_CP."""
    maps, channels, height, width = symbols_NCHW.shape
    at_once = max(1, AT_ONCE // symbols_NCHW[0].size)
    for first in range(0, maps, at_once):
        some_NCHW = symbols_NCHW[first : first + at_once]
        offset_N1 = np.arange(len(some_NCHW))[:, None] * (height * width)
        symbols_CP = some_NCHW.swapaxes(0, 1).reshape(channels, -1).astype(np.float32)
        for index, one in enumerate(passes(height, width)):
            around = None
            if one.neighbours_4N is not None:
                around = (offset_N1 + one.neighbours_4N[:, None]).reshape(NEIGHBOURS, -1)
            if one.places_N.size:
                yield index, Pass(places_N=(offset_N1 + one.places_N).reshape(-1), neighbours_4N=around), symbols_CP


def _fit_linear(symbols_NCHW: UInt8, alphabet: int) -> tuple[Int32, UInt16]:
    channels = symbols_NCHW.shape[1]
    known_CF = known_features(channels)
    features, near = known_CF.shape[1], NEIGHBOURS * channels
    moments_JFF = np.zeros((PASSES, features, features))
    spread_CJ = np.zeros((channels, PASSES))
    for index, one, symbols_CP in _by_pass(symbols_NCHW):
        features_FN = np.ones((features, one.places_N.size), np.float32)
        features_FN[near:-1] = symbols_CP[:, one.places_N]
        features_FN[:near] = 0
        if one.neighbours_4N is not None:
            around_C4N = symbols_CP[:, one.neighbours_4N]
            features_FN[:near] = around_C4N.reshape(near, -1)
            spread_CJ[:, index] += np.ptp(around_C4N, axis=1).sum(axis=1)
        moments_JFF[index] += features_FN @ features_FN.T
    weights_CJF = np.zeros((channels, PASSES, features), np.int32)
    for channel, index in np.ndindex(channels, PASSES):
        known = np.flatnonzero(known_CF[channel])
        moments_FF = moments_JFF[index][np.ix_(known, known)]
        towards_F = moments_JFF[index][known, near + channel]
        weights_CJF[channel, index, known] = _weights(moments_FF, towards_F, alphabet)
    # The mean spread comes to lie in the middle.
    count_J = np.maximum(1, moments_JFF[:, -1, -1])
    scale_CJ = ONE * SPREADS / 2 / np.maximum(spread_CJ / count_J, 1 / ONE)
    return weights_CJF, np.minimum(scale_CJ, np.iinfo(np.uint16).max).astype(np.uint16)


def _weights(moments_FF: Float64, towards_F: Float64, alphabet: int) -> Float64:
    """Least squares to a symbol, scaled so that what is predicted fills the levels; whole parts of ONE."""
    ridge_F = np.full(len(towards_F), RIDGE)
    ridge_F[-1] = 1e-6
    weights_F = np.linalg.solve(moments_FF + np.diag(ridge_F), towards_F)
    count = max(1.0, moments_FF[-1, -1])
    mean = weights_F @ moments_FF[-1] / count
    deviation = np.sqrt(max(0.0, weights_F @ moments_FF @ weights_F / count - mean**2))
    low, high = max(-0.5, mean - BELOW * deviation), min(alphabet - 0.5, mean + ABOVE * deviation)
    weights_F[-1] -= low
    largest = np.abs(weights_F[:-1]).sum() * (alphabet - 1) + abs(weights_F[-1])
    levels = min(LEVELS / max(1.0, high - low), EXACT / 2 / ONE / max(1.0, largest))
    whole_F: Float64 = np.rint(weights_F * levels * ONE)
    return whole_F


def _count(symbols_NCHW: UInt8, prior: Prior) -> Float64:
    """How often each symbol came in each context: (C, J, L x S x A)."""
    channels, alphabet = prior.channels, 2**prior.bits
    size = LEVELS * SPREADS * alphabet
    counts_CJK = np.zeros((channels, PASSES, size))
    for index, one, symbols_CP in _by_pass(symbols_NCHW):
        symbols_CN = symbols_CP[:, one.places_N]
        contexts_CN = Prediction(symbols_CP, 0, prior, index, one).contexts(symbols_CN, 0, channels)
        joint_CN = contexts_CN * alphabet + symbols_CN.astype(np.intp)
        counts_CJK[:, index] += _counts(joint_CN, channels * size).reshape(channels, size)
    return counts_CJK


def _cluster(counts_MA: Float64) -> tuple[npt.NDArray[np.intp], Float64]:
    """Row of each context and the rows' counts: k-means where distance is the code length a row costs."""
    mean_M = _share(counts_MA) @ np.arange(counts_MA.shape[1])
    order = np.argsort(mean_M, kind="stable")
    count_M = counts_MA.sum(axis=1)[order]
    row_M = np.empty(len(order), np.intp)
    row_M[order] = (np.cumsum(count_M) - count_M / 2) * SHARED_ROWS / count_M.sum()  # about as many symbols a row
    for _ in range(ROUNDS):
        rows_RA = _sum_by(row_M, counts_MA)
        row_M = (counts_MA @ -np.log2(_share(rows_RA)).T).argmin(axis=1)
    _, row_M = np.unique(row_M, return_inverse=True)
    return row_M, _sum_by(row_M, counts_MA)


def _sum_by(row_M: npt.NDArray[np.intp], counts_MA: Float64) -> Float64:
    rows_RA = np.full((int(row_M.max()) + 1, counts_MA.shape[1]), 0.1)
    np.add.at(rows_RA, row_M, counts_MA)
    return rows_RA


def _to_integers(counts_RA: Float64) -> UInt16:
    """Frequencies of at least 1 that sum to TOTAL."""
    rows, alphabet = counts_RA.shape
    frequencies_RA = 1 + np.floor(_share(counts_RA) * (TOTAL - alphabet)).astype(np.int64)
    frequencies_RA[np.arange(rows), counts_RA.argmax(axis=1)] += TOTAL - frequencies_RA.sum(axis=1)
    integers_RA: UInt16 = frequencies_RA.astype(np.uint16)
    return integers_RA


def _share(counts_XA: Float64) -> Float64:
    shares_XA: Float64 = counts_XA / counts_XA.sum(axis=-1, keepdims=True)
    return shares_XA


def _counts(values: Array, size: int) -> Float64:
    return np.bincount(values.reshape(-1), minlength=size).astype(np.float64)
