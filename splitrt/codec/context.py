"""Symbols to range-coded bytes under a prior: each by its channel alone, or by what is known around it too.

Shape letters: X channels of a chunk, C those and all before them, H W space, P places of one map (H x W),
N places of one pass.
`before` are the symbols of the channels before a chunk's, which its decoder has from earlier chunks. Passes
(interlace.py) go one after another, and within a pass layers (prior.py). The encoder, who knows all symbols,
does the layers of a pass at once: weights are 0 for what the decoder does not know.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitrt.codec.entropy import Batch, Decoder
from splitrt.codec.interlace import passes
from splitrt.codec.prediction import Prediction
from splitrt.codec.prior import Prior, layers

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]
Shape = tuple[int, int, int]


def factorised(symbols_XHW: UInt8, prior: Prior, before_CHW: UInt8 | None) -> list[Batch]:
    """One batch: each symbol under its channel's own row."""
    channels, height, width = symbols_XHW.shape
    rows_N = _own_rows(before_CHW, channels, height * width)
    return [Batch(symbols_N=symbols_XHW.reshape(-1), rows_N=rows_N)]


def contextual(symbols_XHW: UInt8, prior: Prior, before_CHW: UInt8 | None) -> list[Batch]:
    """One batch for each layer of each pass: each symbol under the row of its context."""
    channels, height, width = symbols_XHW.shape
    known_CP = _known(symbols_XHW, before_CHW)
    stop = len(known_CP)
    first, batches = stop - channels, []
    parts = _layers(prior, first, stop)
    for index, one in enumerate(passes(height, width)):
        if not one.places_N.size:
            continue
        symbols_CN = known_CP.take(one.places_N, axis=1)
        contexts_XN = Prediction(known_CP, first, prior, index, one).contexts(symbols_CN, first, stop)
        rows_XN = prior.scaled.row_JK[index][contexts_XN]
        coded_XN = symbols_CN[first:].astype(np.uint8)
        for layer in parts:
            part = slice(layer.start - first, layer.stop - first)
            batches.append(Batch(symbols_N=coded_XN[part].reshape(-1), rows_N=rows_XN[part].reshape(-1)))
    return batches


def decode_factorised(payload: bytes, shape_XHW: Shape, prior: Prior, before_CHW: UInt8 | None) -> UInt8:
    """Raises BadFrame on bytes that cannot be such symbols, or too many."""
    channels, height, width = shape_XHW
    decoder = Decoder(prior.models, payload, channels * height * width)
    symbols_XHW = decoder.read(_own_rows(before_CHW, channels, height * width)).reshape(shape_XHW)
    decoder.finish()
    return symbols_XHW


def decode_contextual(payload: bytes, shape_XHW: Shape, prior: Prior, before_CHW: UInt8 | None) -> UInt8:
    """Raises BadFrame on bytes that cannot be such symbols, or too many."""
    channels, height, width = shape_XHW
    decoder = Decoder(prior.models, payload, channels * height * width)
    known_CP = _known(np.zeros(shape_XHW, np.uint8), before_CHW)
    stop = len(known_CP)
    first = stop - channels
    parts = _layers(prior, first, stop)
    for index, one in enumerate(passes(height, width)):
        if not one.places_N.size:
            continue
        symbols_CN = known_CP.take(one.places_N, axis=1)
        prediction = Prediction(known_CP, first, prior, index, one)
        for layer in parts:
            contexts_XN = prediction.contexts(symbols_CN[: layer.start], layer.start, layer.stop)
            rows_XN = prior.scaled.row_JK[index][contexts_XN]
            symbols_CN[layer.start : layer.stop] = decoder.read(rows_XN.reshape(-1)).reshape(rows_XN.shape)
        known_CP[first:, one.places_N] = symbols_CN[first:]
    decoder.finish()
    return known_CP[first:].astype(np.uint8).reshape(shape_XHW)


def _known(symbols_XHW: UInt8, before_CHW: UInt8 | None) -> Float32:
    together_CHW = symbols_XHW if before_CHW is None else np.concatenate([before_CHW, symbols_XHW])
    return together_CHW.reshape(len(together_CHW), -1).astype(np.float32)


def _layers(prior: Prior, first: int, stop: int) -> list[range]:
    """The layers of channels first to stop, each cut to these."""
    cut = [range(max(first, one.start), min(stop, one.stop)) for one in layers(prior.channels)]
    return [one for one in cut if one]


def _own_rows(before_CHW: UInt8 | None, channels: int, places: int) -> UInt16:
    first = 0 if before_CHW is None else len(before_CHW)
    return np.repeat(np.arange(first, first + channels, dtype=np.uint16), places)
