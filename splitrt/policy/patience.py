"""How long an answer may take before the device goes on alone: mean and spread of the recent ones, as TCP's timer.

Jacobson, SIGCOMM 1988; RFC 6298. Times in seconds.
"""

from __future__ import annotations

FLOOR_S = 0.25
FIRST_S = 2.0  # until measured
MOST_S = 30.0


class Patience:
    def __init__(self, fixed_s: float | None = None) -> None:
        """fixed_s: the caller's own bound, instead of one that is learnt."""
        self._fixed_s = fixed_s
        self._mean_s: float | None = None
        self._spread_s = 0.0

    @property
    def bound_s(self) -> float:
        if self._fixed_s is not None:
            return self._fixed_s
        if self._mean_s is None:
            return FIRST_S
        return min(MOST_S, max(FLOOR_S, self._mean_s + 4 * self._spread_s))

    def answered(self, took_s: float) -> None:
        if self._mean_s is None:
            self._mean_s, self._spread_s = took_s, took_s / 2
            return
        self._spread_s += (abs(took_s - self._mean_s) - self._spread_s) / 4
        self._mean_s += (took_s - self._mean_s) / 8
