"""Frames that degrade over the same worlds: chunks in pieces of a packet at most, a byte stream to the link.

    capture ── base ready ── further chunks ready ── the device's queue ── packets of the trace ── server
                                                          └ acknowledged, a way later

A frame is worth its widest prefix of chunks that arrives in time for the server to answer, as whole frames are worth
theirs; without any, the device's own answer. The device's side is `splitrt.policy.degrading`, as on a device.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left
from collections import deque

import numpy as np

from splitrt.bench.packets import PACKET_BYTES
from splitrt.bench.simulation import FRAMING_BYTES, World
from splitrt.policy.commit import STEP_S, Commits
from splitrt.policy.degrading import Degrading
from splitrt.policy.link import LinkEstimate

PIECE_FRAMING_BYTES = 40  # of each, as much as whole frames pay in a packet's share


def simulate_degrading(world: World, *, acks_packets: bool) -> float:
    """Mean accuracy. acks_packets: every packet is acknowledged, else every chunk when it is whole."""
    run = _Run(world, acks_packets=acks_packets)
    while run.events:
        run.step()
    return float(np.mean(run.value_K))


def pieces_of(world: World, frame: int, chunk: int) -> list[int]:
    """Bytes on the link of each piece of a frame's chunk."""
    payloads = [choice.link_bytes - FRAMING_BYTES for choice in world.choices]
    own = payloads[chunk] - (payloads[chunk - 1] if chunk else 0)
    left = max(1, round(own * world.size_K[frame]))
    full, rest = divmod(left, PACKET_BYTES - PIECE_FRAMING_BYTES)
    return [PACKET_BYTES] * full + ([rest + PIECE_FRAMING_BYTES] if rest else [])


class _Run:
    def __init__(self, world: World, *, acks_packets: bool) -> None:
        self.world, self.acks_packets = world, acks_packets
        payloads = [choice.link_bytes - FRAMING_BYTES for choice in world.choices]
        self.accuracies = [choice.accuracy for choice in world.choices]
        self.queue = Degrading(LinkEstimate(), Commits(payloads, self.accuracies, world.local_accuracy))
        self.value_K = [world.local_accuracy] * len(world.captured_K)
        self.events: list[tuple[float, int, str, int, int]] = []  # when, order, what, frame or count, chunk
        self._count = 0
        self._next_packet = 0
        self._sent = 0  # messages
        self._last_ack = 0.0
        self._sizes: dict[int, list[int]] = {}  # of each piece
        self._ends: dict[int, list[int]] = {}  # place of each chunk's last piece
        self._link: deque[list[int]] = deque()  # handed over: frame, place, message, bytes left of it
        self._is_ticking = False
        for frame, captured in enumerate(world.captured_K):
            for chunk, choice in enumerate(world.choices):
                self._at(captured + choice.head_s, "ready", frame, chunk)
            self._at(captured + world.deadline_s, "over", frame)

    def step(self) -> None:
        now, _, what, frame, chunk = heapq.heappop(self.events)
        if what == "ready":
            if chunk == 0:
                self.queue.add(frame, now, self._deadline(frame))
                chunks = [pieces_of(self.world, frame, k) for k in range(len(self.accuracies))]
                self._sizes[frame] = [size for pieces in chunks for size in pieces]
                self._ends[frame] = [total - 1 for total in itertools.accumulate(map(len, chunks))]
            self.queue.append(frame, pieces_of(self.world, frame, chunk))
        elif what == "acked":
            self.queue.acked(frame, now)
        elif what == "served":
            self.queue.estimate.served(self.world.server_K[frame], now)
        elif what == "packet":
            self._carry(now)
        elif what == "over":
            self.queue.drop(frame)
        else:
            self._is_ticking = False
        while (chosen := self.queue.next(now)) is not None:
            self._send(*chosen, now)
        if not self._is_ticking and self.queue.is_waiting:
            self._is_ticking = True
            self._at(now + STEP_S, "tick")

    def _send(self, frame: int, place: int, now: float) -> None:
        self._sent += 1
        self._link.append([frame, place, self._sent, self._sizes[frame][place]])
        if len(self._link) == 1:
            self._next_packet = max(self._next_packet, bisect_left(self.world.packets.times, now))
            self._await_packet()

    def _await_packet(self) -> None:
        times = self.world.packets.times
        if self._link and self._next_packet < len(times):
            self._at(times[self._next_packet], "packet")

    def _carry(self, now: float) -> None:
        """One packet: as much as it holds of what waits for the link, across pieces as a byte stream is."""
        room = PACKET_BYTES
        self._next_packet += 1
        while self._link and room > 0:
            frame, place, message, left = self._link[0]
            taken = min(room, left)
            room -= taken
            self._link[0][3] -= taken
            if taken == left:
                self._link.popleft()
                self._arrived(frame, place, message, now)
        self._await_packet()

    def _arrived(self, frame: int, place: int, message: int, now: float) -> None:
        world = self.world
        arrived_at = now + world.way_K[frame]
        self._last_ack = max(self._last_ack, arrived_at)
        is_end = place in self._ends[frame]
        # Of a chunk that is not whole a frame's last answer says what came of it.
        heard_at = self._last_ack if self.acks_packets or is_end else max(self._last_ack, self._deadline(frame))
        self._at(heard_at, "acked", message)
        if is_end:
            chunk = self._ends[frame].index(place)
            replied_at = arrived_at + world.server_K[frame]
            self._at(replied_at, "served", frame)
            if replied_at <= self._deadline(frame):
                self.value_K[frame] = max(self.value_K[frame], self.accuracies[chunk])

    def _deadline(self, frame: int) -> float:
        return self.world.captured_K[frame] + self.world.deadline_s

    def _at(self, at: float, what: str, frame: int = 0, chunk: int = 0) -> None:
        self._count += 1
        heapq.heappush(self.events, (at, self._count, what, frame, chunk))
