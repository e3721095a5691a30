"""From logits to the law that a token is drawn from, and to the token.

Shape letters: V vocabulary.
Everything is computed in double, a row at a time, from the row and its own prefix: the same row gives the same token
wherever and among whatever it was computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.errors import InvalidInput
from splitrt.language.noise import gumbel

Float64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

MOST_TOP_K = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Temperature 0 is greedy: then neither top_k, top_p nor the seed changes anything."""

    temperature: float = 0.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    repetition_penalty: float = 1.0  # of tokens that stand in the prefix (Keskar et al., 2019, arXiv:1909.05858)
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = (
            ("temperature", self.temperature, 0 <= self.temperature <= 100, "from 0 to 100"),
            ("top_k", self.top_k, 0 <= self.top_k <= MOST_TOP_K, f"from 0 to {MOST_TOP_K}"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", self.repetition_penalty, 0.01 <= self.repetition_penalty <= 100, "from 0.01 to 100"),
            ("seed", self.seed, 0 <= self.seed < 1 << 64, "from 0 to 2^64 - 1"),
        )
        for name, value, is_sound, wanted in bounds:
            if not is_sound:
                raise InvalidInput(f"{name} must be {wanted}, got {value}")


def choose(logits_V: Floats, prefix: Sequence[int], sampling: Sampling) -> int:
    """The token that follows the prefix: the likeliest, or one drawn with the noise of its position."""
    log_p_V = warp(logits_V, prefix, sampling)
    if sampling.temperature > 0:
        log_p_V = log_p_V + gumbel(sampling.seed, len(prefix), len(log_p_V))
    return int(log_p_V.argmax())


def warp(logits_V: Floats, prefix: Sequence[int], sampling: Sampling) -> Float64:
    """log p_V after penalty, temperature, top_k and top_p, in this order; -inf where a token cannot be drawn."""
    x_V = np.asarray(logits_V, np.float64).copy()
    if sampling.repetition_penalty != 1:
        seen = np.unique(np.asarray(prefix, np.int64))
        x_V[seen] = np.where(
            x_V[seen] > 0, x_V[seen] / sampling.repetition_penalty, x_V[seen] * sampling.repetition_penalty
        )
    if sampling.temperature == 0:
        return log_softmax(x_V)
    x_V /= sampling.temperature
    if 0 < sampling.top_k < len(x_V):
        x_V[np.argsort(-x_V, kind="stable")[sampling.top_k :]] = -np.inf
    if sampling.top_p < 1:
        order = np.argsort(-x_V, kind="stable")
        before_V = np.cumsum(np.exp(log_softmax(x_V)[order]))
        cut = 1 + int(np.searchsorted(before_V, sampling.top_p))  # the first that fills it stays
        x_V[order[cut:]] = -np.inf
    return log_softmax(x_V)


def log_softmax(x_V: Float64) -> Float64:
    shifted_V = x_V - x_V.max()
    result: Float64 = shifted_V - np.log(np.exp(shifted_V).sum())
    return result
