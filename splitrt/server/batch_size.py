"""How many frames a tail may take at once, by how long its batches were: no longer than a frame can wait for one.

A tail's time hardly grows with the batch on a GPU and grows in proportion on a CPU; only measuring tells. A size that
was not tried is allowed where half of it took less than half of the budget, so sizes are found by doubling. One that
took too long is not run again and so not measured: what it took fades, since it may have been a stall.
"""

from __future__ import annotations

SMOOTHING = 0.2  # weight of the newest batch
FADING = 0.02  # at each batch, of what a size took beyond twice the half of it


class BatchSize:
    def __init__(self, most: int, budget_s: float) -> None:
        """most: frames, whatever is measured."""
        self._most, self._budget_s = most, budget_s
        self._each: list[float | None] = []  # seconds, by the size's number of bits: 1, 2-3, 4-7, ..

    @property
    def now(self) -> int:
        """At least 1."""
        size = 1
        while size < self._most and self._time_of(2 * size) <= self._budget_s:
            size *= 2
        return min(size, self._most)

    def measured(self, frames: int, seconds: float) -> None:
        place = frames.bit_length() - 1
        while len(self._each) <= place:
            self._each.append(None)
        known = self._each[place]
        now = self._each[place] = seconds if known is None else known + SMOOTHING * (seconds - known)
        above = self._each[place + 1] if place + 1 < len(self._each) else None
        if above is not None:
            self._each[place + 1] = min(above, above + FADING * (2 * now - above))

    def _time_of(self, size: int) -> float:
        """Expected: measured, or twice that of half the size, or nothing where nothing is known."""
        place = size.bit_length() - 1
        for known in range(min(place, len(self._each) - 1), -1, -1):
            seconds = self._each[known]
            if seconds is not None:
                return seconds * (1 << (place - known))
        return 0.0
