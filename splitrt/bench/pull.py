"""Frames that degrade without a queue in the network: a link that asks for a packet in the moment it can carry one.

Nothing is committed beforehand, so nothing of ours waits in the network and no estimate is needed. At each of its
moments the link takes what brings the most accuracy a byte, of the chunks that are ready and would still be in time.
It knows of a frame's own way and server time, and of nothing to come: a mark to measure by, no bound.
"""

from __future__ import annotations

import numpy as np

from splitrt.bench.degrading import pieces_of
from splitrt.bench.packets import PACKET_BYTES
from splitrt.bench.simulation import World


def simulate_pull(world: World) -> float:
    """Mean accuracy."""
    accuracies = [choice.accuracy for choice in world.choices]
    gains = np.diff([world.local_accuracy, *accuracies]).tolist()
    left = [[sum(pieces_of(world, frame, k)) for k in range(len(gains))] for frame in range(len(world.captured_K))]
    chunk_K = [0] * len(left)  # the first that is not whole
    oldest = 0
    for at in world.packets.times:
        while oldest < len(left) and world.captured_K[oldest] + world.deadline_s < at:
            oldest += 1
        room = PACKET_BYTES
        while room > 0 and (frame := _best(world, at, oldest, chunk_K, left, gains)) is not None:
            taken = min(room, left[frame][chunk_K[frame]])
            room -= taken
            left[frame][chunk_K[frame]] -= taken
            chunk_K[frame] += left[frame][chunk_K[frame]] == 0
    return float(np.mean([[world.local_accuracy, *accuracies][chunk] for chunk in chunk_K]))


def _best(
    world: World, at: float, oldest: int, chunk_K: list[int], left: list[list[int]], gains: list[float]
) -> int | None:
    best, most = None, 0.0
    for frame in range(oldest, len(left)):
        captured, chunk = world.captured_K[frame], chunk_K[frame]
        if captured > at:
            break
        if chunk == len(gains) or at < captured + world.choices[chunk].head_s:
            continue
        if at + world.way_K[frame] + world.server_K[frame] > captured + world.deadline_s:
            continue
        worth = gains[chunk] / left[frame][chunk]
        if worth > most:
            best, most = frame, worth
    return best
