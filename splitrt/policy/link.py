"""What the device knows of its link: base round trip, rate, server time, and what silence says.

First version, simple on purpose. A reply at `r` to `b` bytes sent at `s`, for which the server spent `S`,
took `net = r - s - S` on the link. The base round trip is the smallest recent `net`. What lies above it is
transmission, behind whatever of ours was still ahead: `max(s, previous r)` takes our own queue out
(Lindley), so that replies in close order measure the rate and not the round trip.

Kept in seconds a byte, where a link that turned slow shows at once. Noise only adds time: a reply that came
sooner than the rate allows disproves it, one that came later does so only beyond what jitter explains.
"""

from __future__ import annotations

from collections import deque

RECENT_S = 15.0  # window of the base round trip
JITTER_GAIN = 0.1
MOST_JITTER_S = 0.03  # a larger change is the link's, not noise
NOISE = 3.0  # times the jitter: surprises up to that say nothing
LEAST_JITTER_S = 0.001
LEAST_SHARE = 0.5  # of the time a byte takes that one early reply may leave
FIRST_RATE = 125_000.0  # bytes per second, until measured: 1 Mbit/s
FASTEST_RATE = 125e6
SLOWEST_RATE = 10.0
FIRST_ROUND_TRIP_S = 0.05


class LinkEstimate:
    """Fed by replies; asked before every frame. Times in seconds of one monotonic clock."""

    def __init__(self, rate: float = FIRST_RATE) -> None:
        """rate: bytes per second to begin with."""
        self.server_s = 0.0
        self.jitter_s = LEAST_JITTER_S  # mean change of the surprise from one reply to the next
        self._surprise_s = 0.0
        self._byte_s = 1 / rate
        self._bases: deque[tuple[float, float]] = deque()  # (when, seconds), rising: the window's minima to come
        self._drained_at = float("-inf")  # when the last reply would have come from a server that takes no time

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return 1 / self._byte_s

    @property
    def round_trip_s(self) -> float:
        """Propagation and framing, no transmission to speak of."""
        return self._bases[0][1] if self._bases else FIRST_ROUND_TRIP_S

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        """One reply. A server time that is negative, no number or longer than the wait is clamped."""
        waited_s = max(0.0, replied_at - sent_at)
        server_s = min(max(0.0, server_s), waited_s) if server_s == server_s else 0.0
        net_s = waited_s - server_s
        self.server_s += JITTER_GAIN * (server_s - self.server_s)
        # Since the previous reply came, the link worked on this frame alone.
        behind_s = max(0.0, self._drained_at - self.round_trip_s - sent_at)
        self._drained_at = max(self._drained_at, replied_at - server_s)
        own_s = max(0.0, net_s - behind_s)
        self._remember(replied_at, own_s)
        self._update(max(1, link_bytes), max(0.0, own_s - self.round_trip_s))

    def lost(self) -> None:
        """The connection ended: the round trip of the next one may be another."""
        self._bases.clear()
        self._drained_at = float("-inf")

    def rate_given_silence(self, oldest_bytes: int, silent_s: float) -> float:
        """The rate, bounded by the fact that `oldest_bytes` have not been answered for `silent_s` seconds."""
        spare_s = silent_s - self.round_trip_s - self.server_s - NOISE * self.jitter_s
        return min(self.rate, oldest_bytes / spare_s) if spare_s > 0 else self.rate

    def _update(self, link_bytes: int, through_s: float) -> None:
        surprise_s = through_s - link_bytes * self._byte_s
        if surprise_s < 0 or surprise_s > NOISE * self.jitter_s:
            # What is lost in the jitter cannot be told from nothing: it proves no faster link than this.
            provable_s = min(self._byte_s, self.jitter_s / link_bytes)
            byte_s = max(through_s / link_bytes, provable_s, LEAST_SHARE * self._byte_s)
            self._byte_s = min(1 / SLOWEST_RATE, max(1 / FASTEST_RATE, byte_s))
        change_s = min(MOST_JITTER_S, abs(surprise_s - self._surprise_s))
        self._surprise_s = surprise_s
        self.jitter_s = max(LEAST_JITTER_S, self.jitter_s + JITTER_GAIN * (change_s - self.jitter_s))

    def _remember(self, replied_at: float, base_s: float) -> None:
        """Into the sliding minimum."""
        while self._bases and self._bases[-1][1] >= base_s:
            self._bases.pop()
        self._bases.append((replied_at, base_s))
        while self._bases[0][0] < replied_at - RECENT_S:
            self._bases.popleft()
