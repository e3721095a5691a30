"""What the device knows of its link: base round trip, rate, server time, and what silence says.

First version, simple on purpose. A reply at `r` to `b` bytes sent at `s`, for which the server spent `S`,
took `net = r - s - S` on the link. The base round trip is the smallest recent `net`. What lies above it
is transmission, behind whatever of ours was still ahead: `max(s, previous r)` takes our own queue out
(Lindley), so that replies in close order measure the rate and not the round trip. Frames are small, so the
network's jitter is told apart first: what it explains is no sign of a slow link, only of one at least so
fast.
"""

from __future__ import annotations

from collections import deque

RECENT_S = 15.0  # window of the base round trip
GAIN = 0.35  # weight of the newest rate sample
JITTER_GAIN = 0.1
MOST_JITTER_S = 0.03  # a larger change from one reply to the next is the link's, not noise
RESOLUTION_S = 0.002  # shorter transmissions say only "at least this fast"
FIRST_RATE = 125_000.0  # bytes per second, until measured: 1 Mbit/s
FIRST_ROUND_TRIP_S = 0.05


class LinkEstimate:
    """Fed by replies; asked before every frame. Times in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.rate = FIRST_RATE
        self.server_s = 0.0
        self.jitter_s = 0.0  # mean change of the time on the link from one reply to the next
        self._nets: deque[tuple[float, float]] = deque()  # (when, net seconds), rising: the window's minima to come
        self._last_net_s: float | None = None
        self._last_reply = float("-inf")

    @property
    def round_trip_s(self) -> float:
        """The smallest recent time on the link: propagation and framing, no transmission to speak of."""
        return self._nets[0][1] if self._nets else FIRST_ROUND_TRIP_S

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        """One reply. A server time that is negative or longer than the wait is clamped."""
        waited_s = max(0.0, replied_at - sent_at)
        server_s = min(max(0.0, server_s), waited_s)
        net_s = waited_s - server_s
        self._remember(replied_at, net_s)
        self.server_s += GAIN * (server_s - self.server_s)
        # Since the previous reply came, the link worked on this frame alone.
        behind_s = max(0.0, self._last_reply - self.round_trip_s - sent_at)
        self._last_reply = replied_at
        through_s = net_s - self.round_trip_s - behind_s - self.jitter_s
        if through_s > RESOLUTION_S:
            # In seconds a byte, where a link that turned slow shows at once.
            self.rate = 1 / (1 / self.rate + GAIN * (through_s / max(1, link_bytes) - 1 / self.rate))
        else:
            self.rate = max(self.rate, link_bytes / RESOLUTION_S)

    def lost(self) -> None:
        """The connection ended: the round trip of the next one may be another."""
        self._nets.clear()
        self._last_net_s = None
        self._last_reply = float("-inf")

    def rate_given_silence(self, oldest_bytes: int, silent_s: float) -> float:
        """The rate, bounded by the fact that `oldest_bytes` have not been answered for `silent_s` seconds."""
        spare_s = silent_s - self.round_trip_s - self.server_s
        return min(self.rate, oldest_bytes / spare_s) if spare_s > RESOLUTION_S else self.rate

    def _remember(self, replied_at: float, net_s: float) -> None:
        """Into the sliding minimum and the jitter."""
        if self._last_net_s is not None:
            change_s = min(MOST_JITTER_S, abs(net_s - self._last_net_s))
            self.jitter_s += JITTER_GAIN * (change_s - self.jitter_s)
        self._last_net_s = net_s
        while self._nets and self._nets[-1][1] >= net_s:
            self._nets.pop()
        self._nets.append((replied_at, net_s))
        while self._nets[0][0] < replied_at - RECENT_S:
            self._nets.popleft()
