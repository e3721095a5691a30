"""The queue of frames that degrade: an outbox that gives out one message at a time, the one that is worth most.

What goes, and whether anything does, is for `splitrt.policy.degrading` to say; here are the messages. A frame stays
until all of it is answered or its owner takes it back at its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise

from splitrt.device.link import Sending
from splitrt.errors import SplitError, Withdrawn
from splitrt.policy.commit import STEP_S
from splitrt.policy.degrading import Degrading
from splitrt.policy.queue import InFlight
from splitrt.rpc.frames import Reply
from splitrt.rpc.messages import link_bytes, payload_bytes

PIECE_BYTES = 1_380  # payload in a message: with its framing, TLS and TCP about a packet


class ChunkQueue:
    most_bytes = PIECE_BYTES

    def __init__(self, degrading: Degrading, rungs: Sequence[int], clock: Callable[[], float]) -> None:
        """rungs: how many chunks make each step of the ladder that `degrading` climbs."""
        self._degrading, self._rungs, self._clock = degrading, rungs, clock
        self._frames: dict[int, Sending] = {}
        self._changed = asyncio.Event()
        self._is_held = False

    def put(self, sending: Sending) -> None:
        seq = sending.frame.seq
        sending.is_acked = True
        self._frames[seq] = sending
        self._degrading.add(seq, self._clock(), sending.deadline_at)
        for start, stop in pairwise((0, *self._rungs)):
            messages = [message for chunk in sending.chunks[start:stop] for message in chunk]
            if messages:  # a frame of fewer chunks is over
                self._degrading.append(seq, [link_bytes([message]) for message in messages])
        self._changed.set()

    def withdraw(self, sending: Sending) -> bool:
        """True: none of it went. What has not gone will not."""
        seq = sending.frame.seq
        if self._frames.get(seq) is not sending:
            return False
        del self._frames[seq]
        is_unsent = self._degrading.drop(seq)
        if is_unsent:
            sending.end(Reply(seq=seq, error=Withdrawn("the frame was taken back before it was sent")))
        self._changed.set()
        return is_unsent

    def hold(self) -> None:
        """Give nothing out until `release`."""
        self._is_held = True
        self._changed.set()

    def release(self) -> None:
        self._is_held = False
        self._changed.set()

    async def next(self, max_in_flight: int) -> Sending | None:
        """A frame of which a message is `due`, as soon as one is worth its price; it counts as sent from here on.

        None while the queue is held.
        """
        while not self._is_held:
            has_room = sum(one.sent_at is not None for one in self._frames.values()) < max_in_flight
            chosen = self._degrading.next(self._clock(), can_begin=has_room)
            if chosen is not None:
                seq, place = chosen
                sending = self._frames[seq]
                messages = [message for chunk in sending.chunks for message in chunk]
                sending.due = messages[place : place + 1]
                sending.link_bytes += link_bytes(sending.due)
                sending.payload_bytes = sum(map(payload_bytes, messages[: place + 1]))
                return sending
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(STEP_S if self._degrading.is_waiting else None):
                    await self._changed.wait()
        return None

    def answered(self, seq: int) -> Sending | None:
        """The frame that this last reply belongs to; None where it was taken back or never sent."""
        sending = self.sent(seq)
        if sending is not None:
            del self._frames[seq]
            self._degrading.drop(seq)
            self._changed.set()
        return sending

    def sent(self, seq: int) -> Sending | None:
        """The frame of that number, some of which is on the wire."""
        sending = self._frames.get(seq)
        return None if sending is None or sending.sent_at is None else sending

    def acked(self, messages: int) -> None:
        self._degrading.acked(messages, self._clock())
        self._changed.set()

    def fail_sent(self, error: SplitError) -> None:
        """The connection ended: what was on the wire will not be answered. What waits, waits on."""
        self._degrading.lost()
        for seq, sending in list(self._frames.items()):
            if sending.sent_at is not None:
                del self._frames[seq]
                sending.end(Reply(seq=seq, error=error))
        self._changed.set()

    def fail_all(self, error: SplitError) -> None:
        self.fail_sent(error)
        for seq, sending in self._frames.items():
            self._degrading.drop(seq)
            sending.end(Reply(seq=seq, error=error))
        self._frames.clear()

    def is_idle(self) -> bool:
        return all(sending.sent_at is None for sending in self._frames.values())

    async def idle(self) -> None:
        """Until nothing that was sent waits for an answer; while held, for it shares its bell with `next`."""
        while not self.is_idle():
            self._changed.clear()
            await self._changed.wait()

    def soonest_deadline(self) -> float | None:
        """Of the frames that wait for a connection."""
        return min((sending.deadline_at for sending in self._frames.values()), default=None)

    def in_flight(self, now: float) -> InFlight:
        return self._degrading.in_flight(now)
