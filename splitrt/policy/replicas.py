"""How many replicas a tail should have, by what its replicas report.

A frame's tail is busy or it is not: work spreads over replicas, so the wanted number is the busy time of all of them
over the share that one should be busy. A queue that frames wait in for long says that this comes too late. A text
holds memory on its replica as long as it is open, so open texts count by number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BUSY_SHARE = 0.6  # that a replica should be busy; above it waiting grows faster than work
WAIT_S = 0.02  # longer than a frame should wait for its batch: then half as many replicas again
STREAMS = 32  # open texts a replica


def replicas_wanted(busy_shares: Sequence[float], waits_s: Sequence[float], streams: Sequence[float]) -> int:
    """At least 1; each sequence has one value for each replica that reported, and none may have."""
    by_work = sum(busy_shares) / BUSY_SHARE
    by_wait = 1.5 * len(waits_s) if waits_s and max(waits_s) > WAIT_S else 0.0
    by_streams = sum(streams) / STREAMS
    return max(1, math.ceil(max(by_work, by_wait, by_streams) - 1e-9))
