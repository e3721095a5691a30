"""When to try a lost connection again: exponential with full jitter, so that a fleet does not come back at once.

What the device knows of its link sets the pace. It begins at the round trip, sooner than which no attempt can be
answered. It slows down to MOST_S, or less where the link was believed out when the connection ended: then the device is
alone with its outage, as no fleet is that lost its server, and an outage is as likely to end in the next moment as in
the first. That belief fades as the time down passes what outages last: odds of an outage against anything else,
`outage * exp(-down / OUTAGE_S) : 1 - outage`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from splitrt.policy.belief import OUTAGE_S
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight

FIRST_S = 0.05
LATEST_FIRST_S = 0.5  # whatever round trip was measured
MOST_S = 2.0
MOST_IN_OUTAGE_S = 0.5
SUREST = 0.99  # of an outage: what is certain would never fade


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """first_s: bound of the first wait; outage: how likely the link was out when the connection ended."""

    first_s: float = FIRST_S
    outage: float = 0.0

    def most_s(self, down_s: float) -> float:
        """Bound of a wait after so long without a connection."""
        outage = min(self.outage, SUREST)
        lasting = outage * math.exp(-max(0.0, down_s) / OUTAGE_S)
        still = lasting / (lasting + 1 - outage)
        return MOST_S + still * (MOST_IN_OUTAGE_S - MOST_S)


PLAIN = Pace()  # nothing is known of the link


def pace_of(estimate: LinkEstimate, in_flight: InFlight) -> Pace:
    """By what is believed at the connection's end, with what was on its way then; the estimate not told of it yet."""
    outage = float(estimate.outlook(in_flight).mass_N[0])  # first: all that was heard is weighed with it
    trip_s = estimate.round_trip_s if estimate.trip.is_known else FIRST_S
    return Pace(first_s=min(max(FIRST_S, trip_s), LATEST_FIRST_S), outage=min(max(0.0, outage), 1.0))


def delay_s(
    attempt: int,
    draw: random.Random,
    soonest_need_s: float | None = None,
    pace: Pace = PLAIN,
    down_s: float = 0.0,
) -> float:
    """Seconds before attempt number `attempt` (0 is the first retry).

    soonest_need_s: time left to the nearest deadline of a frame that still hopes; the wait is clipped to
    half of it, because an attempt after the deadline helps nobody. down_s: since the connection ended.
    """
    ceiling = min(pace.most_s(down_s), pace.first_s * 2.0 ** min(attempt, 20))
    delay = draw.uniform(pace.first_s / 2, max(pace.first_s, ceiling))
    if soonest_need_s is not None:
        delay = min(delay, max(FIRST_S / 2, soonest_need_s / 2))
    return delay
