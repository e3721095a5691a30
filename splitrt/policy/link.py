"""What the device knows of its link: the belief about its rate, its base round trip, the server's time, its own queue.

    reply ── server's time off ── Lindley: own queue off ── round trip off ── service time ── belief
                                                                                  └── noise

Fed by replies, asked before every frame; times in seconds of one monotonic clock, given by the caller. What is on
its way is the caller's to know, and given with the question. What is heard is weighed when something is asked, or when
the caller has time: a reply's frame need not wait for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from splitrt.policy.belief import BYTE_S_R, Belief
from splitrt.policy.noise import PACKET_BYTES, ServiceNoise
from splitrt.policy.queue import InFlight, OwnQueue
from splitrt.policy.round_trip import RoundTrip
from splitrt.policy.server_time import ServerTime

Float64 = npt.NDArray[np.float64]

LEAST_OF_TRIP = 0.4  # of what a reply took that stays round trip, however slow the link is believed
ACK_WEIGHT = 0.6  # of an acknowledgement, as a share of a reply's
SPREADS = 1.0  # standard deviations of it below its mean: where the quick ones lie
MOST_LINK_BYTES = 1 << 30
MOST_WAIT_S = 3_600.0
MOST_UNWEIGHED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The link as it is believed to be at a moment: all that a decision needs. R rates, N outage and rates."""

    at: float
    mass_N: Float64
    byte_s_R: Float64  # seconds a byte
    free_R: Float64  # when the link will have sent all that is on its way
    fixed_s: float  # base round trip and mean time of the server
    variance_s2: float  # of the server's time
    noise: ServiceNoise
    is_idle: bool  # nothing is on its way

    @property
    def mean_byte_s(self) -> float:
        """Seconds that a byte is expected to take while the link carries any."""
        mass_R = self.mass_N[1:]
        return float(mass_R @ self.byte_s_R) / max(float(mass_R.sum()), 1e-12)

    def in_time(self, link_bytes_W: Float64, ready_W: Float64, deadline_at: float | Float64) -> Float64:
        """Probability, (W,), that frames of these bytes, handed over at these moments, are answered in time.

        deadline_at: of all of them, or (W,).
        """
        start_WR = np.maximum(self.free_R, ready_W[:, None])
        ahead_R = np.maximum(self.free_R - self.at, 0.0)
        within_WR = self.noise.within(
            link_bytes_W[:, None] * self.byte_s_R,
            np.asarray(deadline_at)[..., None] - self.fixed_s - start_WR,
            self.byte_s_R,
            ahead_s=ahead_R,
            variance_s2=self.variance_s2,
        )
        inside: Float64 = within_WR @ self.mass_N[1:]
        return inside


class LinkEstimate:
    """One link of one device. Its parts (belief, trip, ..) say what they knew at the last weighing, from any thread."""

    def __init__(self) -> None:
        self.belief = Belief()
        self.noise = ServiceNoise()
        self.server = ServerTime()
        self.trip = RoundTrip()
        self.queue = OwnQueue()
        self._unweighed: deque[Callable[[], object]] = deque()

    @property
    def rate(self) -> float:
        """Bytes per second: the median of what is believed."""
        self.weigh()
        return self.belief.rate()

    @property
    def round_trip_s(self) -> float:
        self.weigh()
        return self.trip.base_s

    @property
    def server_s(self) -> float:
        self.weigh()
        return self.server.mean_s

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        """One reply, in time or not. A wait that cannot be (a clock that was set) is no sample."""
        if 0 <= replied_at - sent_at <= MOST_WAIT_S:
            self._keep(partial(self._reply, link_bytes, sent_at, replied_at, server_s))

    def acked(self, link_bytes: int, sent_at: float, acked_at: float) -> None:
        """Some bytes of a frame have come, says the server, who does nothing for that: packets of one burst say less
        than as many frames would.
        """
        if 0 <= acked_at - sent_at <= MOST_WAIT_S:
            self._keep(partial(self._hear, link_bytes, sent_at, acked_at, acked_at, ACK_WEIGHT))

    def served(self, server_s: float, waited_s: float) -> None:
        """What the server took for a frame of which it acknowledged the bytes."""
        if 0 <= waited_s <= MOST_WAIT_S:
            self._keep(partial(self.server.add, server_s, waited_s))

    def weigh(self) -> None:
        """Everything heard so far."""
        while self._unweighed:
            self._unweighed.popleft()()

    def _keep(self, sample: Callable[[], object]) -> None:
        self._unweighed.append(sample)
        if len(self._unweighed) > MOST_UNWEIGHED:
            self.weigh()

    def _reply(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        answered_at = replied_at - self.server.add(server_s, replied_at - sent_at)
        self._hear(link_bytes, sent_at, answered_at, replied_at, 1.0)

    def _hear(self, link_bytes: int, sent_at: float, answered_at: float, heard_at: float, weight: float) -> None:
        """answered_at: when it would have been heard of without the server's time."""
        link_bytes = min(max(1, link_bytes), MOST_LINK_BYTES)
        is_behind = self.queue.is_behind(sent_at, self.trip.base_s)
        service_s = self.queue.service_s(sent_at, answered_at, self.trip.base_s)
        net_s = answered_at - sent_at
        if not self.trip.is_known:  # its share of a way that nobody has measured
            service_s = max(service_s, LEAST_OF_TRIP * net_s)
        service_s = max(service_s, -MOST_WAIT_S)  # a clock that was set back
        self.queue.answered(answered_at)
        density_R = self.noise.density(link_bytes * BYTE_S_R, BYTE_S_R, service_s)
        self.belief.hear(heard_at, density_R**weight if weight < 1 else density_R, service_s)
        byte_s = 1 / self.belief.rate()
        self.noise.learn(self.belief.mass_N[1:], link_bytes * BYTE_S_R, BYTE_S_R, service_s, weight)
        if not (is_behind and self.trip.is_known):
            quick_s = min(self._quick_s(link_bytes, byte_s), (1 - LEAST_OF_TRIP) * net_s)
            self.trip.add(heard_at, max(0.0, net_s - quick_s))

    def lost(self) -> None:
        """The connection ended: the way of the next one may be another, and nothing of ours lies in it."""
        self.weigh()
        self.trip.forget()
        self.queue.forget()
        self.belief.doubt()

    def outlook(self, in_flight: InFlight) -> Outlook:
        """Silence counted: that the oldest frame on its way is not answered yet speaks against every rate at which it
        should be.
        """
        self.weigh()
        now = in_flight.at
        fixed_s, free_at = self.trip.base_s + self.server.mean_s, self.queue.free_at(self.trip.base_s)
        heard_s = self.trip.base_s if in_flight.is_acked else fixed_s
        mass_N = self.belief.ahead(now)
        if in_flight.frames:
            oldest = in_flight.frames[0]
            waited_s = now - heard_s - max(oldest.sent_at, free_at)
            if waited_s > 0:
                there_R = self.noise.within(
                    oldest.link_bytes * BYTE_S_R, waited_s, BYTE_S_R, variance_s2=self.server.variance_s2
                )
                mass_N = mass_N * np.concatenate([[1.0], np.maximum(1 - there_R, 0.0)])
                mass_N /= mass_N.sum()
        return Outlook(
            at=now,
            mass_N=mass_N,
            byte_s_R=BYTE_S_R,
            free_R=self.queue.drained(in_flight, BYTE_S_R, heard_s, free_at),
            fixed_s=fixed_s,
            variance_s2=self.server.variance_s2,
            noise=self.noise,
            is_idle=not in_flight.frames,
        )

    def _quick_s(self, link_bytes: int, byte_s: float) -> float:
        """What transmission takes when it is quick, as in the samples that the low quantile is about."""
        spread = SPREADS * math.sqrt(self.noise.burst * PACKET_BYTES / link_bytes)
        return link_bytes * byte_s * max(0.05, 1 - spread)
