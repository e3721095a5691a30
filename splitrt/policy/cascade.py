"""Exits in a chain under one certified level: the first whose confidence reaches it answers.

Several thresholds are certified along one path that no data has seen (Angelopoulos et al., 2021, arXiv:2110.01052,
section 3.2): here all exits share the level, after a temperature of each has made their confidences comparable. What
is counted as a loss at a level is an image that the whole model answers rightly and ANY exit that reaches the level
wrongly. That is at least what is lost when the first of them answers; it can only come up as the level falls; and it
is all that can be lost whichever exits are asked, under any thresholds from the level up, one an exit and frame. So
one exact test a level is enough, and a threshold that the link or an audit raises needs no certificate of its own.

Shape letters: E exits, cheap first, S samples, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from splitrt.policy.confidence import Measure, confidence
from splitrt.policy.guarantee import Certified, certify

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """What every exit says of every sample, how sure it is, and whether the whole model is right where it is not."""

    confidence_ES: Float64  # NaN where nothing can be said
    answer_ES: Int64
    is_loss_ES: Bool

    @property
    def samples(self) -> int:
        return len(self.answer_ES[0])

    def some(self, chosen_S: Int64) -> Cascade:
        """The samples of these places, as often as they are named."""
        return Cascade(
            confidence_ES=self.confidence_ES[:, chosen_S],
            answer_ES=self.answer_ES[:, chosen_S],
            is_loss_ES=self.is_loss_ES[:, chosen_S],
        )

    def place_S(self, level: float) -> Int64:
        """The exit that answers at a level; E where none does."""
        reaches_ES = np.nan_to_num(self.confidence_ES, nan=-1.0) >= level
        return np.where(reaches_ES.any(0), reaches_ES.argmax(0), len(reaches_ES))

    def share(self, level: float) -> float:
        """Of samples that an exit answers."""
        return float((self.place_S(level) < len(self.answer_ES)).mean())

    def risk(self, level: float) -> float:
        """Share of all samples that an exit answers wrongly and the whole model rightly."""
        return float(self.picked(self.is_loss_ES, level).mean())

    def picked(self, of_ES: Bool, level: float) -> Bool:
        """Of the exit that answers; False where none does."""
        place_S = self.place_S(level)
        inside_S = np.minimum(place_S, len(of_ES) - 1)
        found_S: Bool = of_ES[inside_S, np.arange(of_ES.shape[1])] & (place_S < len(of_ES))
        return found_S

    def own_S(self, level: float) -> Int64:
        """The exit whose answer is the device's own: the one that answers, else the last."""
        return np.minimum(self.place_S(level), len(self.answer_ES) - 1)


def cascade_of(
    logits: Sequence[npt.ArrayLike],
    temperatures: Sequence[float],
    measure: Measure,
    whole_S: Int64,
    right_S: Int64,
) -> Cascade:
    """From the (S, N) logits of each exit. whole_S: the whole model's answers; right_S: labels, or those again."""
    arrays = [np.asarray(one, np.float64) for one in logits]
    answer_ES = np.stack([one.argmax(1) for one in arrays])
    return Cascade(
        confidence_ES=np.stack([confidence(measure, *each) for each in zip(arrays, temperatures, strict=True)]),
        answer_ES=answer_ES,
        is_loss_ES=(whole_S == right_S) & (answer_ES != right_S),
    )


def certify_cascade(cascade: Cascade, epsilon: float, delta: float) -> Certified:
    """The loosest level whose risk is certified at most epsilon. Raises as `certify`.

    `losses` and `passed` are those of the exits that answer; the test has counted every exit that reaches the level.
    """
    sure_ES = np.nan_to_num(cascade.confidence_ES, nan=-1.0)
    wrong_S = np.where(cascade.is_loss_ES, sure_ES, -np.inf).max(0)
    is_loss_S = cascade.is_loss_ES.any(0)
    certified = certify(np.where(is_loss_S, wrong_S, sure_ES.max(0)), is_loss_S, epsilon, delta)
    level = certified.threshold
    return replace(
        certified,
        losses=int(cascade.picked(cascade.is_loss_ES, level).sum()),
        passed=round(cascade.share(level) * cascade.samples),
    )
