"""A trace as packets: the moments at which a link takes one of ours.

A trace says how much is carried in each of its steps, not when. The moments within a step are drawn, by seed; a trace
in steps of a second, which hides stalls shorter than that, is first drawn finer. Shape letter: S packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.netem import Trace
from splitrt.netem.trace import BYTES_PER_S_OF_MBIT, Direction
from splitrt.netem.tracefile import DELIVERY_BYTES

Float64 = npt.NDArray[np.float64]

PACKET_BYTES = 1448  # of ours in one delivery of the trace
STEP_S = 0.1  # traces coarser than this are drawn finer
FLICKER, FLICKER_KEPT = 0.25, 0.8  # of such a trace's rate: spread, and correlation from step to step
AFTER_S = 5.0  # played on after the last frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """When the link takes a packet, (S,) rising, and the rate that they were drawn from, step by step."""

    times: Sequence[float]  # a list: bisected one at a time
    edges: Float64
    bytes_per_s: Float64  # of ours

    def rate_at(self, at: float) -> float:
        place = int(np.searchsorted(self.edges, at, side="right")) - 1
        return float(self.bytes_per_s[min(max(place, 0), len(self.bytes_per_s) - 1)])


def expand(
    trace: Trace, direction: Direction, scale: float, start_s: float, length_s: float, draw: np.random.Generator
) -> Packets:
    """`length_s` of a trace from `start_s` on as packets: as many a step as the trace says, at moments drawn in it.

    A trace in steps longer than STEP_S is first drawn as a line through its rates that flickers.
    """
    steps = round((length_s + AFTER_S) / STEP_S)
    edges: Float64 = STEP_S * np.arange(steps + 1, dtype=np.float64)
    coarse_s = trace.duration_s / len(trace.times_s)
    if coarse_s > 2 * STEP_S:
        middles = start_s + edges[:-1] + STEP_S / 2
        before = np.floor(middles / coarse_s - 0.5)
        left, right = (
            np.array([trace.rate_bytes_per_s(direction, (at + 0.5) * coarse_s) for at in before + shift])
            for shift in (0, 1)
        )
        share = middles / coarse_s - 0.5 - before
        bytes_per_s = left + share * (right - left)
        noise = np.empty(steps)
        state = 0.0
        for place, normal in enumerate(draw.normal(size=steps)):
            state = FLICKER_KEPT * state + (1 - FLICKER_KEPT**2) ** 0.5 * FLICKER * normal
            noise[place] = state
        bytes_per_s = bytes_per_s * np.exp(noise - FLICKER**2 / 2)
    else:
        carried = [
            trace.bytes_between(direction, start_s + edge, start_s + edge + STEP_S) for edge in edges[:-1].tolist()
        ]
        bytes_per_s = np.array(carried) / STEP_S
    bytes_per_s = np.maximum(bytes_per_s, 0.0) * scale
    return packets_of(bytes_per_s, draw)


def packets_of(bytes_per_s: Float64, draw: np.random.Generator) -> Packets:
    """Of a rate every STEP_S: counts are carried over, so that none is lost to rounding."""
    edges: Float64 = STEP_S * np.arange(len(bytes_per_s) + 1, dtype=np.float64)
    through = np.concatenate([[0.0], np.cumsum(bytes_per_s * STEP_S)]) / DELIVERY_BYTES
    counts = np.diff(np.floor(through + 0.5)).astype(int)
    times = np.sort(np.repeat(edges[:-1], counts) + draw.uniform(0, STEP_S, int(counts.sum())))
    return Packets(times=times.tolist(), edges=edges, bytes_per_s=bytes_per_s * (PACKET_BYTES / DELIVERY_BYTES))


def steady_rate(mbit: float, length_s: float) -> Float64:
    """Bytes per second every STEP_S."""
    return np.full(round(length_s / STEP_S), mbit * BYTES_PER_S_OF_MBIT)
