"""The best that anyone could have done who knew the trace, every size and every time of the server beforehand.

A dynamic program, exact: the state is the next packet of the link that is free, and of all ways to get there only
the best accuracy counts; a state is dropped where another is free no later and no less accurate. A frame is sent
only if it will be in time, and replies need not wait for one another: so no whole-frame player does better.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from splitrt.bench.simulation import World


def oracle(world: World) -> float:
    """Mean accuracy over the world's frames."""
    times, last = world.packets.times, len(world.packets.times)
    soonest_s = min((choice.head_s for choice in world.choices), default=0.0)
    front: list[tuple[int, float]] = [(0, 0.0)]  # (next free packet, accuracy so far), both rising
    for frame, captured in enumerate(world.captured_K):
        deadline = captured + world.deadline_s
        # The last packet must have gone by then; the first must begin before the deadline, which follows.
        latest = bisect_right(times, deadline - world.way_K[frame] - world.server_K[frame])
        options = [
            (bisect_left(times, captured + choice.head_s), world.packets_for(frame, choice), choice.accuracy)
            for choice in world.choices
        ]
        idle = bisect_left(times, captured + soonest_s)
        states = []
        for free, value in front:
            begin = max(free, idle)
            states.append((begin, value + world.local_accuracy))
            for ready, packets, accuracy in options:
                end = max(begin, ready) + packets
                if end <= min(latest, last):
                    states.append((end, value + accuracy))
        front = _front(states)
    return front[-1][1] / max(1, len(world.captured_K))


def _front(states: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Those that no other beats."""
    best: list[tuple[int, float]] = []
    for free, value in sorted(states, key=lambda state: (state[0], -state[1])):
        if not best or value > best[-1][1] + 1e-12:
            best.append((free, value))
    return best
