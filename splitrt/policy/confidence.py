"""How sure an answer is, from its logits: 0 to 1 under one of three names. Nothing is sure of NaN.

    top1     the largest probability
    margin   how far it is ahead of the second
    entropy  1 - H / log N: 1 where one class has it all, 0 where all have the same

Shape letters: S samples, N classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from splitrt.errors import InvalidInput

Float64 = npt.NDArray[np.float64]
Measure = Literal["top1", "entropy", "margin"]

LEAST_NATS = 1e-12  # of one class alone, which is always certain


def confidence(measure: Measure, logits_SN: npt.ArrayLike, temperature: float = 1.0) -> Float64:
    """(S, N) to (S,). NaN, which reaches no threshold, where logits are NaN or infinitely large."""
    probabilities_SN = softmax(logits_SN, temperature)
    if measure == "top1":
        top_S: Float64 = probabilities_SN.max(1)
        return top_S
    if measure == "margin":
        ranked_SN = np.sort(probabilities_SN, axis=1)
        return ranked_SN[:, -1] - (ranked_SN[:, -2] if ranked_SN.shape[1] > 1 else 0.0)
    if measure != "entropy":
        raise InvalidInput(f"confidence must be top1, entropy or margin, got {measure!r}")
    nats_SN = probabilities_SN * np.log(np.where(probabilities_SN > 0, probabilities_SN, 1.0))
    certain_S: Float64 = 1 + nats_SN.sum(1) / max(np.log(probabilities_SN.shape[1]), LEAST_NATS)
    return certain_S


def softmax(logits_SN: npt.ArrayLike, temperature: float = 1.0) -> Float64:
    """Raises InvalidInput on another shape than (S, N) with a class at least."""
    scaled_SN = np.asarray(logits_SN, np.float64) / temperature
    if scaled_SN.ndim != 2 or not scaled_SN.shape[1]:
        raise InvalidInput(f"logits must have shape (samples, classes), got {scaled_SN.shape}")
    with np.errstate(invalid="ignore"):  # infinity less infinity is the NaN that is meant
        weights_SN = np.exp(scaled_SN - scaled_SN.max(1, keepdims=True))
        probabilities_SN: Float64 = weights_SN / weights_SN.sum(1, keepdims=True)
    return probabilities_SN
