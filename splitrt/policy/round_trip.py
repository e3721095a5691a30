"""The base round trip: what an exchange takes beside transmission, our own queue and the server.

A low quantile of the last seconds and not the minimum: one reply that came too early (a clock that was set, a
server that claims more time than it took) would poison a minimum for the whole window.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

RECENT_S = 15.0
MOST_SAMPLES = 512
QUANTILE = 0.05
FIRST_S = 0.05  # until measured


class RoundTrip:
    """Fed with one sample a reply; times in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()  # (when, seconds), oldest first
        self._sorted: list[float] = []

    @property
    def is_known(self) -> bool:
        return bool(self._sorted)

    @property
    def base_s(self) -> float:
        return self._sorted[int(QUANTILE * len(self._sorted))] if self._sorted else FIRST_S

    def add(self, at: float, sample_s: float) -> None:
        self._samples.append((at, sample_s))
        insort(self._sorted, sample_s)
        while len(self._samples) > MOST_SAMPLES or self._samples[0][0] < at - RECENT_S:
            _, old_s = self._samples.popleft()
            del self._sorted[bisect_left(self._sorted, old_s)]

    def forget(self) -> None:
        """Another connection, another way."""
        self._samples.clear()
        self._sorted.clear()
