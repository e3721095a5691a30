"""Probabilities held to what happened: Platt's two numbers, learnt online.

`logit p' = slope * logit p + shift`, one gradient step of the log loss a frame that was sent. J. Platt, 1999.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

STEP = 0.02
SLOPES, SHIFTS = (0.3, 2.0), (-3.0, 3.0)
SUREST = 1e-4  # no link is surer than that


class Recalibration:
    def __init__(self, step: float = STEP) -> None:
        self.slope, self.shift, self.step = 1.0, 0.0, step

    def apply(self, probability_W: Float64) -> Float64:
        """(W,) to (W,); its order stays."""
        logit_W = _logit(probability_W)
        likely_W: Float64 = 1 / (1 + np.exp(-(self.slope * logit_W + self.shift)))
        return likely_W

    def learn(self, raw: float, is_hit: bool) -> None:
        """raw: the probability before `apply`."""
        logit = float(_logit(np.array(raw)))
        error = is_hit - 1 / (1 + math.exp(-(self.slope * logit + self.shift)))
        # Steps of one size for both: a sure frame that missed would throw the slope away.
        self.slope += self.step * error * math.tanh(logit / 2)
        self.shift += self.step * error
        self.slope = min(max(self.slope, SLOPES[0]), SLOPES[1])
        self.shift = min(max(self.shift, SHIFTS[0]), SHIFTS[1])


def _logit(probability: Float64) -> Float64:
    sound = np.clip(probability, SUREST, 1 - SUREST)
    logit: Float64 = np.log(sound / (1 - sound))
    return logit
