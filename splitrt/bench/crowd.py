"""How many clients one server carries before their 95th percentile of time a token is above a bound, in virtual time.

The server takes one round at a time, first come, first served. No batching on either side of the comparison.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from splitrt.bench.course import down_size, up_size
from splitrt.bench.profiles import Costs, Profile
from splitrt.bench.stories import Told

CLIENTS_AT_MOST = 4_096


TEXTS_EACH = 3  # one after the other; the first is not counted, for the crowd has only begun


def token_s_p95(
    clients: int, texts: Sequence[Told], profile: Profile, costs: Costs, length: int, *, split: bool
) -> float:
    """Of all clients' texts; split: drafted on the devices, else on the server."""
    draw = np.random.default_rng(0)
    waiting = [
        (float(draw.random()), client, 0, 0) for client in range(clients)
    ]  # (when there, who, which text, place)
    began = {client: when for when, client, _, _ in waiting}
    heapq.heapify(waiting)
    free_at, times = 0.0, []
    while waiting:
        there_at, client, turn, place = heapq.heappop(waiting)
        told = texts[(client + turn) % len(texts)]
        nodes = min(length, len(told.tokens) - place - 1)
        server_s = costs.verify_s(nodes) + (0.0 if split else nodes * costs.server_draft_s)
        free_at = max(free_at, there_at) + server_s
        accepted = told.accepted(place, nodes)
        place += accepted + 1
        back_at = profile.down(free_at, down_size(accepted))
        again_at = profile.up(back_at + nodes * costs.draft_s, up_size(nodes)) if split else free_at
        if place >= len(told.tokens):
            if turn:
                times.append((back_at - began[client]) / len(told.tokens))
            began[client], place, turn = back_at, 0, turn + 1
            again_at = profile.up(back_at, up_size(0))
        if turn < TEXTS_EACH:
            heapq.heappush(waiting, (again_at, client, turn, place))
    return float(np.percentile(times, 95))


def alone_s_p95(texts: Sequence[Told], profile: Profile, costs: Costs, length: int, *, split: bool) -> float:
    """Of clients that have the server for themselves, one a text."""
    each = [token_s_p95(1, [told], profile, costs, length, split=split) for told in texts]
    return float(np.percentile(each, 95))


def capacity(bound_s: float, texts: Sequence[Told], profile: Profile, costs: Costs, length: int, *, split: bool) -> int:
    """The most clients within the bound; 0 where one alone is not."""

    def holds(clients: int) -> bool:
        return token_s_p95(clients, texts, profile, costs, length, split=split) <= bound_s

    if not holds(1):  # the first text alone
        return 0
    low, high = 1, 2
    while high <= CLIENTS_AT_MOST and holds(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
