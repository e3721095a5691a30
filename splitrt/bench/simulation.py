"""Frames over a link that plays a trace, packet by packet: what every way of deciding is measured on.

    capture ── decide ── head ── queue of ours ── packets of the trace ── way up ── server ── way down ── reply

No clock but the trace's. The link takes one packet of ours at each of its moments; a frame that it has not begun at
the frame's deadline is withdrawn. Replies come in order. What chance gives a frame (size, way, server's time) is
drawn once for all, so that two ways of deciding meet the same frames. Not modelled: TCP's windows and losses, other
traffic, the way down as a bottleneck. Shape letter: K frames.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from splitrt.bench.packets import PACKET_BYTES, Packets
from splitrt.policy.decision import Choice
from splitrt.policy.queue import InFlight, Unanswered

Float64 = npt.NDArray[np.float64]

FRAMING_BYTES = 150
RECENT_S = 0.2  # of the rate that has just been


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One stream of frames and everything that will happen to them, whatever is decided."""

    choices: Sequence[Choice]
    local_accuracy: float
    packets: Packets
    captured_K: Sequence[float]
    deadline_s: float
    size_K: Sequence[float]  # factor on a choice's bytes
    round_trip_s: float  # mean
    way_K: Sequence[float]  # seconds up and down, with jitter
    server_K: Sequence[float]

    def link_bytes(self, frame: int, choice: Choice) -> int:
        return round(choice.link_bytes * self.size_K[frame])

    def packets_for(self, frame: int, choice: Choice) -> int:
        return -(-self.link_bytes(frame, choice) // PACKET_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What lies beside the link: a round trip with jitter, and a server that is now and then busy."""

    round_trip_s: float
    jitter_s: float = 0.003  # mean
    spike_share: float = 0.01
    spike_s: float = 0.04
    server_s: float = 0.01
    busy_s: float = 0.024
    busy_in: float = 0.015  # a frame: a busy spell begins, and ends
    busy_out: float = 0.2
    size_spread: float = 0.15


def world_of(
    choices: Sequence[Choice],
    local_accuracy: float,
    packets: Packets,
    ways: Ways,
    *,
    deadline_s: float,
    fps: float,
    length_s: float,
    draw: np.random.Generator,
) -> World:
    count = round(length_s * fps)
    jitter = draw.gamma(2.0, ways.jitter_s / 2, count)
    jitter += (draw.random(count) < ways.spike_share) * draw.exponential(ways.spike_s, count)
    busy, is_busy = np.zeros(count), False
    for frame, chance in enumerate(draw.random(count)):
        is_busy = chance < ways.busy_in if not is_busy else chance >= ways.busy_out
        busy[frame] = ways.busy_s * is_busy
    return World(
        choices=choices,
        local_accuracy=local_accuracy,
        packets=packets,
        captured_K=(np.arange(count) / fps).tolist(),
        deadline_s=deadline_s,
        size_K=draw.lognormal(0.0, ways.size_spread, count).tolist(),
        round_trip_s=ways.round_trip_s + ways.jitter_s,
        way_K=(ways.round_trip_s + jitter).tolist(),
        server_K=(ways.server_s + busy).tolist(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A decision: which choice; whether the device's own answer covers this frame even where the run is unhedged."""

    index: int
    is_covered: bool = False
    note: Any = None  # the player's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The truth of now, for those who may know it: the rate, and how many packets of ours wait.

    bytes_per_s is that of the trace's step, a little of which lies ahead; recent_bytes_per_s what has just been.
    """

    bytes_per_s: float
    recent_bytes_per_s: float
    waiting_packets: int
    round_trip_s: float


class Player(Protocol):
    """A way of deciding. None: the frame stays on the device."""

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None: ...

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None: ...

    def ended(self, sent: Sent, is_hit: bool) -> None: ...


@runtime_checkable
class Rechecking(Protocol):
    """A way of deciding that looks again when the head is done. None: the frame stays after all, nothing learnt."""

    def recheck(
        self, sent: Sent, now: float, deadline_at: float, in_flight: InFlight, present: Present
    ) -> Sent | None: ...


@dataclass(slots=True, kw_only=True)
class Played:
    """What became of each frame: the choice sent (-1: none), whether it was in time, its value in accuracy."""

    index_K: list[int] = field(default_factory=list)
    is_hit_K: list[bool] = field(default_factory=list)
    value_K: list[float] = field(default_factory=list)
    notes_K: list[Any] = field(default_factory=list)
    replied_K: list[float] = field(default_factory=list)  # inf: never

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.value_K))

    @property
    def missed(self) -> float:
        """Share of the frames sent that were not in time."""
        hits = [hit for index, hit in zip(self.index_K, self.is_hit_K, strict=True) if index >= 0]
        return 1 - sum(hits) / len(hits) if hits else 0.0


def simulate(world: World, player: Player, *, is_hedged: bool) -> Played:
    """Every frame of the world through one player."""
    run = _Run(world, player)
    for frame, now in enumerate(world.captured_K):
        run.until(now)
        run.decide(frame, now)
    run.until(float("inf"))
    missed = world.local_accuracy if is_hedged else 0.0
    for sent, is_hit in zip(run.sent, run.played.is_hit_K, strict=True):
        if sent is None:
            value = world.local_accuracy
        elif is_hit:
            value = world.choices[sent.index].accuracy
        else:
            value = world.local_accuracy if sent.is_covered else missed
        run.played.value_K.append(value)
        run.played.index_K.append(-1 if sent is None else sent.index)
        run.played.notes_K.append(None if sent is None else sent.note)
    return run.played


class _Run:
    """The state of one run: events to come, the link's next free packet, what is on its way."""

    def __init__(self, world: World, player: Player) -> None:
        self.world, self.player = world, player
        self.played = Played()
        self.sent: list[Sent | None] = []
        self._events: list[tuple[float, int, str, int]] = []  # when, order, what, frame
        self._count = 0
        self._next_packet = 0
        self._last_reply = 0.0
        self._on_way: dict[int, Unanswered] = {}

    def until(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, _, what, frame = heapq.heappop(self._events)
            if what == "ready":
                self._hand_over(frame, at)
            elif what == "reply":
                flight = self._on_way.pop(frame)
                self.player.replied(flight.link_bytes, flight.sent_at, at, self.world.server_K[frame])
                if at <= self._deadline(frame):
                    self._end(frame, is_hit=True)
            else:
                if what == "withdrawn":
                    del self._on_way[frame]
                self._end(frame, is_hit=False)

    def decide(self, frame: int, now: float) -> None:
        world = self.world
        sent = self.player.choose(now, self._deadline(frame), self._in_flight(now), self._present(now))
        self.sent.append(sent)
        self.played.is_hit_K.append(False)
        self.played.replied_K.append(float("inf"))
        if sent is not None:
            self._at(now + world.choices[sent.index].head_s, "ready", frame)

    def _in_flight(self, now: float) -> InFlight:
        return InFlight(at=now, frames=tuple(self._on_way.values()))

    def _present(self, now: float) -> Present:
        world, passed = self.world, bisect_left(self.world.packets.times, now)
        recent = passed - bisect_left(world.packets.times, now - RECENT_S)
        return Present(
            bytes_per_s=world.packets.rate_at(now),
            recent_bytes_per_s=recent * PACKET_BYTES / RECENT_S,
            waiting_packets=max(0, self._next_packet - passed),
            round_trip_s=world.round_trip_s,
        )

    def _hand_over(self, frame: int, now: float) -> None:
        world, sent = self.world, self.sent[frame]
        assert sent is not None
        if isinstance(self.player, Rechecking) and self._on_way and not sent.is_covered:
            sent = self.sent[frame] = self.player.recheck(
                sent, now, self._deadline(frame), self._in_flight(now), self._present(now)
            )
        if sent is None:
            return
        choice, times = world.choices[sent.index], world.packets.times
        self._on_way[frame] = Unanswered(link_bytes=world.link_bytes(frame, choice), sent_at=now)
        begin = max(self._next_packet, bisect_left(times, now))
        if begin >= len(times) or times[begin] >= self._deadline(frame):
            self._at(max(now, self._deadline(frame)), "withdrawn", frame)
            return
        self._next_packet = begin + world.packets_for(frame, choice)
        last = self._next_packet - 1
        replied_at = float("inf")
        if last < len(times):
            replied_at = max(self._last_reply, times[last] + world.way_K[frame] + world.server_K[frame])
            self._last_reply = replied_at
            self.played.replied_K[frame] = replied_at
            self._at(replied_at, "reply", frame)
        if replied_at > self._deadline(frame):
            self._at(self._deadline(frame), "late", frame)

    def _end(self, frame: int, *, is_hit: bool) -> None:
        sent = self.sent[frame]
        assert sent is not None
        self.played.is_hit_K[frame] = is_hit
        self.player.ended(sent, is_hit)

    def _deadline(self, frame: int) -> float:
        return self.world.captured_K[frame] + self.world.deadline_s

    def _at(self, at: float, what: str, frame: int) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, what, frame))
