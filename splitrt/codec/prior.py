"""How often each symbol comes, and by what it is predicted: frozen integer tables for one bit depth.

Shape letters: C channels, J passes (interlace.py), F features, L levels of a prediction, S spreads of
neighbours, A symbols of the alphabet, R rows of frequencies.
A symbol's features are the four neighbours of its own and of every earlier channel and, of channels in
earlier layers, the symbols at its own place. Layers are up to four equal parts of the channels, coded
one after another within a pass: on the photos stem one layer costs 20 % more bytes than four, two cost 7 %,
three 1.4 %. A context is a level of the linear prediction and a spread of the neighbours (as in CALIC, Wu and
Memon, IEEE Trans. Comm. 1997, there adapted to each image). Only integers lie between symbols and bytes, so
encoder and decoder cannot disagree; a hyperprior's floats can, and from CPU to GPU did (CompressAI issue 279).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec.entropy import TOTAL, Models
from splitrt.codec.interlace import NEIGHBOURS, PASSES
from splitrt.codec.quantise import BITS
from splitrt.errors import ConfigError

Array = npt.NDArray[Any]
UInt16 = npt.NDArray[np.uint16]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

LAYERS, LAYER_CHANNELS = 4, 4  # at most so many layers, of at least so many channels
LEVELS, SPREADS = 32, 6
ONE = 256  # weights are fixed-point: so much is one level, or one spread
EXACT = 1 << 24  # float32 holds every integer below


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prior:
    """Row c is channel c's own table; row_CJLS is the row of each context.

    Features are four neighbours of each channel, then each channel's symbol at the place itself, then a
    constant 1; weights are 0 for what a channel's decoder does not know, so what is said of channel c
    depends on channels below c only and a narrow frame is coded as the wide one begins. Weights times
    symbols must stay below 2**24 in sum, so that every partial sum is exact in float32 and a product of
    matrices gives the same on any machine, in any order, with any number of threads.
    """

    rows_RA: UInt16
    weights_CJF: Int32
    spread_CJ: UInt16
    row_CJLS: UInt16
    models: Models = field(init=False, repr=False)
    scaled: Scaled = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, dtype, rank in _FIELDS:
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != rank or not array.size:
                raise ConfigError(f"{name} must be {dtype} of {rank} sizes above 0, got {array.dtype}{array.shape}")
        rows, alphabet = self.rows_RA.shape
        if alphabet not in [2**bits for bits in BITS]:
            raise ConfigError(f"rows_RA must have 2, 4, .. or 256 symbols, got {alphabet}")
        if not self.rows_RA.all() or (self.rows_RA.sum(axis=1, dtype=np.int64) != TOTAL).any():
            raise ConfigError(f"each row of rows_RA must sum to {TOTAL} with no symbol at 0")
        leading = (self.channels, PASSES)
        wanted = ((*leading, (NEIGHBOURS + 1) * self.channels + 1), leading, (*leading, LEVELS, SPREADS))
        given = (self.weights_CJF.shape, self.spread_CJ.shape, self.row_CJLS.shape)
        if given != wanted:
            raise ConfigError(f"weights, spreads and contexts must have shapes {wanted}, got {given}")
        if rows < self.channels or int(self.row_CJLS.max()) >= rows:
            raise ConfigError(f"rows_RA must have a row for each of {self.channels} channels and every context")
        if (self.weights_CJF * ~known_features(self.channels)[:, None]).any():
            raise ConfigError("weights_CJF must be 0 for what is not yet known where a channel is decoded")
        sizes_CJF = np.abs(self.weights_CJF.astype(np.int64))
        largest = int((sizes_CJF[..., :-1].sum(axis=-1) * (alphabet - 1) + sizes_CJF[..., -1]).max())
        if largest >= EXACT:
            raise ConfigError(f"weights_CJF times symbols must stay below {EXACT} in sum, got {largest}")
        object.__setattr__(self, "models", Models(self.rows_RA))
        object.__setattr__(self, "scaled", _scaled(self))

    @property
    def bits(self) -> int:
        alphabet: int = self.rows_RA.shape[1]
        return alphabet.bit_length() - 1

    @property
    def channels(self) -> int:
        return len(self.row_CJLS)

    def to_arrays(self, prefix: str) -> dict[str, Array]:
        """What `from_arrays` reads back."""
        return {prefix + name: getattr(self, name) for name, _, _ in _FIELDS}


_FIELDS = (
    ("rows_RA", np.uint16, 2),
    ("weights_CJF", np.int32, 3),
    ("spread_CJ", np.uint16, 2),
    ("row_CJLS", np.uint16, 4),
)


def from_arrays(arrays: Mapping[str, Array], prefix: str) -> Prior:
    """Raises ConfigError on arrays that are no prior, KeyError where one is missing."""
    return Prior(**{name: arrays[prefix + name] for name, _, _ in _FIELDS})


def layers(channels: int) -> list[range]:
    """The channels of each layer; by the channels of the prior, not of the frame."""
    count = min(LAYERS, max(1, channels // LAYER_CHANNELS))
    bounds = [channels * layer // count for layer in range(count + 1)]
    return [range(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]


def known_features(channels: int) -> npt.NDArray[np.bool_]:
    """(C, F): which features each channel may be predicted from."""
    near = NEIGHBOURS * channels
    known_CF = np.zeros((channels, near + channels + 1), np.bool_)
    known_CF[:, -1] = True
    for layer in layers(channels):
        for channel in layer:
            known_CF[channel, : NEIGHBOURS * (channel + 1)] = True
            known_CF[channel, near : near + layer.start] = True
    return known_CF


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """A prior's tables as coding uses them, pass by pass: exact multiples of 1 / ONE, rows of each context."""

    near_JCF: Float32
    beside_JCC: Float32
    constant_JC1: Float32
    spread_JC1: Float32
    row_JK: UInt16


def _scaled(prior: Prior) -> Scaled:
    near = NEIGHBOURS * prior.channels
    weights_JCF = prior.weights_CJF.astype(np.float32).swapaxes(0, 1) / np.float32(ONE)
    return Scaled(
        near_JCF=np.ascontiguousarray(weights_JCF[..., :near]),
        beside_JCC=np.ascontiguousarray(weights_JCF[..., near:-1]),
        constant_JC1=np.ascontiguousarray(weights_JCF[..., -1:]),
        spread_JC1=prior.spread_CJ.T[..., None].astype(np.float32) / np.float32(ONE),
        row_JK=np.ascontiguousarray(prior.row_CJLS.swapaxes(0, 1)).reshape(PASSES, -1),
    )
