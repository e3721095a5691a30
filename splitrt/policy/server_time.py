"""How long the server keeps a frame, kept apart from the link: by its own word, within what can be true.

A server may lie, by malice or by a clock of its own. A claim that is negative, no number or longer than the whole
wait is clamped to what can be, and counted.
"""

from __future__ import annotations

GAIN = 0.1  # of the mean
SPREAD_GAIN = 0.03
MOST_SURPRISE_S = 0.1  # one hiccup of the tail does not fill the spread for minutes


class ServerTime:
    """Queue and compute of the server, in seconds: mean and spread of the recent replies."""

    def __init__(self) -> None:
        self.mean_s = 0.0
        self.variance_s2 = 0.0
        self.lies = 0  # claims that could not be true
        self._is_first = True

    def add(self, claimed_s: float, waited_s: float) -> float:
        """The claim of a reply that was `waited_s` seconds under way, clamped: what is believed."""
        believed_s = min(max(0.0, claimed_s), waited_s) if claimed_s == claimed_s else 0.0
        self.lies += believed_s != claimed_s
        if self._is_first:
            self.mean_s, self._is_first = believed_s, False
        surprise_s = min(MOST_SURPRISE_S, max(-MOST_SURPRISE_S, believed_s - self.mean_s))
        self.variance_s2 += SPREAD_GAIN * (surprise_s**2 - self.variance_s2)
        self.mean_s += GAIN * (believed_s - self.mean_s)
        return believed_s
