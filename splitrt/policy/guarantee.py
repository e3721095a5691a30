"""A threshold with a promise: with probability at least 1 - delta, losses above it are at most a share epsilon.

Learn-then-Test (Angelopoulos et al., 2021, arXiv:2110.01052) by fixed sequence: thresholds of a grid that no data has
seen are tried from strict to loose; each is tested by the exact binomial tail of its losses, and the first that fails
ends the walk. One sample's loss is 0 or 1 and can only appear as the threshold falls, so no correction is needed.

    exit:  confidence of the exit, a loss where the whole model is right and the exit wrong
    gate:  certainty that there is nothing, among positives only: every one that is stopped is a loss

Shape letters: S samples, L thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.errors import CalibrationRefused, InvalidInput

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

NEVER = 1.01  # a threshold that no confidence reaches
# Even in the logit: confidences crowd near 1. Strict to loose.
GRID_L: Float64 = 1 / (1 + np.exp(-np.linspace(14.0, -7.0, 1_051)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """The loosest threshold that passed. `confidence >= threshold` is let through."""

    threshold: float
    epsilon: float
    delta: float
    samples: int
    losses: int  # of the samples, at the threshold
    passed: int  # let through

    @property
    def share(self) -> float:
        return self.passed / self.samples


def certify(confidence_S: npt.ArrayLike, is_loss_S: npt.ArrayLike, epsilon: float, delta: float) -> Certified:
    """The loosest threshold of GRID_L whose risk, losses over all samples, is certified at most epsilon.

    NaN confidence is never let through. Raises CalibrationRefused where even no loss at all could not certify this
    epsilon at this delta, with the number of samples that could; InvalidInput on shapes or levels out of range.
    """
    confidence_S = np.nan_to_num(np.asarray(confidence_S, np.float64), nan=-1.0)
    is_loss_S = np.asarray(is_loss_S, np.bool_)
    if confidence_S.ndim != 1 or confidence_S.shape != is_loss_S.shape:
        raise InvalidInput(f"one loss a confidence is wanted, got {confidence_S.shape} and {is_loss_S.shape}")
    samples, needed = len(confidence_S), samples_needed(epsilon, delta)
    if samples < needed:
        raise CalibrationRefused(
            f"epsilon {epsilon:g} at delta {delta:g} needs at least {needed} calibration samples, got {samples}"
        )
    allowed = most_losses(samples, epsilon, delta)
    lost_L = _reaching(confidence_S[is_loss_S])
    # Losses only grow along the grid: the walk ends where they first pass what is allowed.
    count = int(np.searchsorted(lost_L, allowed, side="right"))
    if not count:
        return Certified(threshold=NEVER, epsilon=epsilon, delta=delta, samples=samples, losses=0, passed=0)
    passed_L = _reaching(confidence_S)
    return Certified(
        threshold=float(GRID_L[count - 1]),
        epsilon=epsilon,
        delta=delta,
        samples=samples,
        losses=int(lost_L[count - 1]),
        passed=int(passed_L[count - 1]),
    )


def binomial_tail(losses: int, samples: int, share: float) -> float:
    """P(Bin(samples, share) <= losses)."""
    if losses < 0:
        return 0.0
    if losses >= samples:
        return 1.0
    k = np.arange(losses + 1)
    choose = math.lgamma(samples + 1) - np.array([math.lgamma(n + 1) + math.lgamma(samples - n + 1) for n in k])
    return min(1.0, float(np.exp(choose + k * math.log(share) + (samples - k) * math.log1p(-share)).sum()))


def most_losses(samples: int, epsilon: float, delta: float) -> int:
    """The most losses that still certify epsilon; -1 where none do."""
    low, high = -1, samples  # low certifies, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_tail(middle, samples, epsilon) <= delta else (low, middle)
    return low


def samples_needed(epsilon: float, delta: float) -> int:
    """Fewest samples by which anything can be certified: those without a single loss."""
    if not (0 < epsilon < 1 and 0 < delta < 1):
        raise InvalidInput(f"epsilon and delta must be above 0 and below 1, got {epsilon} and {delta}")
    return math.ceil(math.log(delta) / math.log1p(-epsilon))


def _reaching(confidence_S: Float64) -> npt.NDArray[np.int64]:
    """How many reach each threshold of the grid, (L,)."""
    counted: npt.NDArray[np.int64] = len(confidence_S) - np.searchsorted(np.sort(confidence_S), GRID_L, side="left")
    return counted
