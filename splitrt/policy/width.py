"""Which operating point a frame is sent at, if at all: first version.

The best calibrated accuracy among the points that should be answered by the deadline. When none should
and nothing is on its way, the cheapest goes anyway: the device's own answer covers the frame, and its
reply is how a link that has come back is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitrt.policy.link import LinkEstimate

HEADROOM = 0.8  # share of the measured rate that we dare to plan with


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to send a frame, as the decision sees it."""

    width: int
    bits: int
    link_bytes: float  # of a typical frame, header included
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """What has been handed to the link and not been answered."""

    bytes: int = 0
    oldest_bytes: int = 0
    silent_s: float = 0.0  # since the oldest of it was sent


def choose(choices: Sequence[Choice], link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
    """choices: cheapest first, accuracy rising; left_s: until the frame's deadline. None: stay on the device."""
    rate = HEADROOM * link.rate_given_silence(in_flight.oldest_bytes, in_flight.silent_s)
    budget_bytes = rate * (left_s - link.round_trip_s - link.server_s) - in_flight.bytes
    fitting = [choice for choice in choices if choice.link_bytes <= budget_bytes]
    if fitting:
        return fitting[-1]
    return choices[0] if choices and in_flight.bytes == 0 else None
