"""When to try a lost connection again: exponential with full jitter, so that a fleet does not come back at once."""

from __future__ import annotations

import random

FIRST_S = 0.05
MOST_S = 2.0


def delay_s(attempt: int, draw: random.Random, soonest_need_s: float | None = None) -> float:
    """Seconds before attempt number `attempt` (0 is the first retry).

    soonest_need_s: time left to the nearest deadline of a frame that still hopes; the wait is clipped to
    half of it, because an attempt after the deadline helps nobody.
    """
    ceiling = min(MOST_S, FIRST_S * 2.0 ** min(attempt, 20))
    delay = draw.uniform(FIRST_S / 2, ceiling)
    if soonest_need_s is not None:
        delay = min(delay, max(FIRST_S / 2, soonest_need_s / 2))
    return delay
