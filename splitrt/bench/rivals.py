"""Other ways of deciding, each an idea of the field written down anew and tuned lightly: not the published systems.

    Fixed      one choice, whatever the link does; "local" is none at all
    Fitting    the best choice whose predicted time fits the deadline, for a rate estimated by
               Ewma        smoothed throughput (SPINN, Laskaridis et al., MobiCom 2020, arXiv:2008.06402)
               HarmonicMean  of the last five
               Robust      the same over one and its largest recent error (RobustMPC: Yin et al., SIGCOMM 2015)
               Largest     of a window (BBR: Cardwell et al., ACM Queue 2016)
               Gradient    additive increase, cut when delay grows (GCC: Carlucci et al., MMSys 2016)
    Bola       utility against a virtual queue (Spiteri et al., INFOCOM 2016, arXiv:1601.06748)

All that measure take a throughput sample a reply, the server's time off; their probe after a quarter of a second
without a frame is hedged, as ours is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from splitrt.bench.simulation import Present, Sent
from splitrt.policy.decision import PROBE_S, Choice
from splitrt.policy.queue import InFlight

FIRST_RATE = 125_000.0  # bytes per second
LAST = 5


class Fixed:
    def __init__(self, index: int | None) -> None:
        self._index = index

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        return None if self._index is None else Sent(index=self._index)

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        """It does not listen."""

    def ended(self, sent: Sent, is_hit: bool) -> None:
        """Nor learn."""


class Rate(Protocol):
    """An estimate of the rate from one sample a reply."""

    def add(self, link_bytes: int, net_s: float) -> None: ...

    def bytes_per_s(self) -> float: ...


class Ewma:
    def __init__(self, gain: float = 0.4) -> None:
        self._rate, self._gain = FIRST_RATE, gain

    def add(self, link_bytes: int, net_s: float) -> None:
        self._rate += self._gain * (link_bytes / net_s - self._rate)

    def bytes_per_s(self) -> float:
        return self._rate


class HarmonicMean:
    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=LAST)

    def add(self, link_bytes: int, net_s: float) -> None:
        self._last.append(net_s / link_bytes)

    def bytes_per_s(self) -> float:
        return len(self._last) / sum(self._last) if self._last else FIRST_RATE


class Robust:
    def __init__(self) -> None:
        self._mean = HarmonicMean()
        self._errors: deque[float] = deque(maxlen=LAST)

    def add(self, link_bytes: int, net_s: float) -> None:
        rate = link_bytes / net_s
        self._errors.append(abs(self._mean.bytes_per_s() - rate) / rate)
        self._mean.add(link_bytes, net_s)

    def bytes_per_s(self) -> float:
        return self._mean.bytes_per_s() / (1 + max(self._errors, default=0.0))


class Largest:
    def __init__(self, window: int = 10) -> None:
        self._last: deque[float] = deque(maxlen=window)

    def add(self, link_bytes: int, net_s: float) -> None:
        self._last.append(link_bytes / net_s)

    def bytes_per_s(self) -> float:
        return max(self._last, default=FIRST_RATE)


class Gradient:
    """Up by 8 % a reply while delay is flat, down to .85 of what came through when it grows."""

    def __init__(self, threshold_s: float = 0.012) -> None:
        self._rate, self._smooth_s, self._before_s, self._threshold_s = FIRST_RATE, 0.0, None, threshold_s

    _before_s: float | None

    def add(self, link_bytes: int, net_s: float) -> None:
        slope_s = 0.0 if self._before_s is None else net_s - self._before_s
        self._before_s = net_s
        self._smooth_s += 0.3 * (slope_s - self._smooth_s)
        if self._smooth_s > self._threshold_s:
            self._rate = 0.85 * min(self._rate, link_bytes / net_s)
        elif self._smooth_s > -self._threshold_s:
            self._rate *= 1.08
        self._rate = min(max(self._rate, 1_000.0), 12.5e6)

    def bytes_per_s(self) -> float:
        return self._rate


class Fitting:
    """The dearest choice whose bytes, at the estimated rate, are answered by the deadline."""

    def __init__(
        self,
        choices: Sequence[Choice],
        rate: Rate,
        *,
        margin: float = 1.0,
        has_trip: bool = True,
        has_queue: bool = False,
        has_server: bool = True,
    ) -> None:
        """has_trip: a sample is bytes over all of the wait, so that the round trip is in it and is not taken off twice;
        else the least wait seen is. has_queue: bytes on their way count. has_server: the server's time does.
        """
        self._choices, self._rate = choices, rate
        self._margin, self._has_trip, self._has_queue = margin, has_trip, has_queue
        self._has_server = has_server
        self._trip_s, self._server_s = 0.05, 0.0
        self._sent_at = float("-inf")

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        ahead = in_flight.bytes if self._has_queue else 0
        spare_s = self._margin * (deadline_at - now) - (0.0 if self._has_trip else self._trip_s)
        spare_s -= self._server_s if self._has_server else 0.0
        fitting = [
            index
            for index, choice in enumerate(self._choices)
            if (ahead + choice.link_bytes) / self._rate.bytes_per_s() + choice.head_s <= spare_s
        ]
        if not fitting and now - self._sent_at < PROBE_S:
            return None
        self._sent_at = now
        return Sent(index=fitting[-1] if fitting else 0, is_covered=not fitting)

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        net_s = max(1e-4, replied_at - sent_at - server_s)
        self._server_s += 0.1 * (server_s - self._server_s)
        self._trip_s = min(self._trip_s, net_s)
        self._rate.add(link_bytes, net_s if self._has_trip else max(1e-3, net_s - self._trip_s))

    def ended(self, sent: Sent, is_hit: bool) -> None:
        """It learns from replies."""


class Bola:
    """`max (V * gain - queue) / bytes`, over a queue that holds what was sent and drains at the deadline's pace."""

    def __init__(self, choices: Sequence[Choice], local_accuracy: float, trade: float = 0.5) -> None:
        self._choices, self._trade = choices, trade
        self._gains = [choice.accuracy - local_accuracy for choice in choices]
        self._sent_at = float("-inf")

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        waiting_s = sum(min(0.2, now - frame.sent_at + 0.02) for frame in in_flight.frames)
        queue = waiting_s / (deadline_at - now)
        scores = [
            (gain / self._gains[-1] * (1 + self._trade) - queue) / choice.link_bytes**0.25
            for gain, choice in zip(self._gains, self._choices, strict=True)
        ]
        best = max(range(len(scores)), key=scores.__getitem__)
        is_worth = scores[best] > 0
        if not is_worth and now - self._sent_at < PROBE_S:
            return None
        self._sent_at = now
        return Sent(index=best if is_worth else 0, is_covered=not is_worth)

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        """The queue is all it looks at."""

    def ended(self, sent: Sent, is_hit: bool) -> None:
        """Nothing is learnt."""
