"""How busy a replica is: what its cluster scales by, because it does not see the streams that reach it directly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Of the time since the last report."""

    busy_share: float  # of it, in which a batch was under way
    wait_s: float  # that a frame waited for its batch, in the mean
    streams: int  # of texts that are open now


class Load:
    def __init__(self, clock: Callable[[], float], streams: Callable[[], int]) -> None:
        self._clock, self._since, self._streams = clock, clock(), streams
        self._busy_s = self._waited_s = 0.0
        self._frames = 0

    def ran(self, busy_s: float, waited_s: list[float]) -> None:
        """A batch: how long it took, and how long each of its frames had waited."""
        self._busy_s += busy_s
        self._waited_s += sum(waited_s)
        self._frames += len(waited_s)

    def report(self) -> Report:
        now = self._clock()
        given = Report(
            busy_share=min(1.0, self._busy_s / max(1e-9, now - self._since)),
            wait_s=self._waited_s / max(1, self._frames),
            streams=self._streams(),
        )
        self._since, self._busy_s, self._waited_s, self._frames = now, 0.0, 0.0, 0
        return given
