"""Ours, and the genie: one decision, fed by what a device sees or by the truth of the moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splitrt.bench.packets import PACKET_BYTES
from splitrt.bench.simulation import Present, Sent
from splitrt.policy.decision import Choice, Decided, WholeFrames
from splitrt.policy.link import LinkEstimate, Outlook
from splitrt.policy.noise import ServiceNoise
from splitrt.policy.queue import InFlight
from splitrt.policy.server_time import ServerTime

GENIE_JITTER_S = 0.003
SLOWEST = 1.0  # bytes per second: slower is an outage


class Ours:
    """The estimator and the whole-frame decision, as on a device."""

    def __init__(
        self, choices: Sequence[Choice], local_accuracy: float, *, is_hedged: bool, most_misses: float | None = None
    ) -> None:
        self.estimator = LinkEstimate()
        self.frames = WholeFrames(choices, local_accuracy, is_hedged=is_hedged, most_misses=most_misses)

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        return _sent(self.frames.choose(self.estimator.outlook(in_flight), deadline_at))

    def recheck(self, sent: Sent, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        return _sent(self.frames.recheck(self.estimator.outlook(in_flight), deadline_at, sent.index))

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        self.estimator.replied(link_bytes, sent_at, replied_at, server_s)

    def ended(self, sent: Sent, is_hit: bool) -> None:
        self.frames.ended(sent.note.raw, sent.note.is_probe, is_hit)


class Genie:
    """The same decision for one who knows the present rate, this frame's way and the length of the queue, and nothing
    of the future: no bound, but what is left to win by estimating better.
    """

    def __init__(
        self, choices: Sequence[Choice], local_accuracy: float, *, is_hedged: bool, is_causal: bool = False
    ) -> None:
        """is_causal: the rate is what has just been, and not that of the trace's step, which is not over yet."""
        self._is_causal = is_causal
        self.frames = WholeFrames(choices, local_accuracy, is_hedged=is_hedged)
        self.noise, self.server = ServiceNoise(), ServerTime()
        self.noise.jitter_s = GENIE_JITTER_S

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        return _sent(self.frames.choose(self._outlook(now, in_flight, present), deadline_at))

    def recheck(self, sent: Sent, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        return _sent(self.frames.recheck(self._outlook(now, in_flight, present), deadline_at, sent.index))

    def _outlook(self, now: float, in_flight: InFlight, present: Present) -> Outlook:
        rate = max(present.recent_bytes_per_s if self._is_causal else present.bytes_per_s, SLOWEST)
        return Outlook(
            at=now,
            mass_N=np.array([0.0, 1.0]),
            byte_s_R=np.array([1 / rate]),
            free_R=np.array([now + present.waiting_packets * PACKET_BYTES / rate]),
            fixed_s=present.round_trip_s + self.server.mean_s,
            variance_s2=self.server.variance_s2,
            noise=self.noise,
            is_idle=not in_flight.frames,
        )

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        self.server.add(server_s, replied_at - sent_at)

    def ended(self, sent: Sent, is_hit: bool) -> None:
        self.frames.ended(sent.note.raw, sent.note.is_probe, is_hit)


def _sent(decided: Decided | None) -> Sent | None:
    return None if decided is None else Sent(index=decided.index, is_covered=decided.is_probe, note=decided)
