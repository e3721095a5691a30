"""The device's own queue on the link, by Lindley's recursion: what a frame waited behind is not the link's doing.

A frame of b bytes handed over at s begins when the frame before it has left: `drained = max(s, drained) + b / rate`.
Drain times are on the device's clock, shifted by the base round trip: the moment at which a reply would have come
from a server that takes no time, over a way that has no length. Replies in close order then measure the rate and
not the round trip.

D. V. Lindley, "The theory of queues with a single server", 1952. Shape letter: N states of the link.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A frame on its way. `sent_at`: when it was, or will be, handed over."""

    link_bytes: int
    sent_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """All that is on its way at a moment, oldest first. is_acked: the server says so when it comes, before any work."""

    at: float
    frames: tuple[Unanswered, ...] = ()
    is_acked: bool = False

    @property
    def bytes(self) -> int:
        return sum(frame.link_bytes for frame in self.frames)


class OwnQueue:
    """What the replies so far say of when the link was free of our frames."""

    def __init__(self) -> None:
        self._free_at = float("-inf")  # last drain time, the base round trip still in it

    def free_at(self, round_trip_s: float) -> float:
        """When the link was done with the last answered frame."""
        return self._free_at - round_trip_s

    def is_behind(self, sent_at: float, round_trip_s: float) -> bool:
        """A frame handed over then waits for an answered one: what it took says nothing of the way's length."""
        return sent_at < self.free_at(round_trip_s)

    def service_s(self, sent_at: float, answered_at: float, round_trip_s: float) -> float:
        """Seconds that the link worked on this frame alone.

        answered_at: when the reply came, less the server's time. Jitter can make it negative: which says fast, and
        how sure.
        """
        return answered_at - round_trip_s - max(sent_at, self.free_at(round_trip_s))

    def answered(self, answered_at: float) -> None:
        """A reply that was overtaken moves nothing back: the link was free when the later one said so."""
        self._free_at = max(self._free_at, answered_at)

    def drained(self, in_flight: InFlight, byte_s_N: Float64, shift_s: float, free_at: float) -> Float64:
        """When the link will be free of everything on its way, (N,), for the seconds that a byte takes in each state.

        Nothing unanswered can have left more than `shift_s` (round trip and server) ago, or its reply were here.
        """
        drained_N = np.full(byte_s_N.shape, free_at)
        for frame in in_flight.frames:
            np.maximum(drained_N, frame.sent_at, out=drained_N)
            drained_N += frame.link_bytes * byte_s_N
            np.maximum(drained_N, in_flight.at - shift_s, out=drained_N)
        return drained_N

    def forget(self) -> None:
        """A new connection has nothing of ours in it."""
        self._free_at = float("-inf")
