"""Frames on their way: a queue from which a frame can still be taken back, and a window of those that cannot.

At most `window_bytes` are handed to the transport and unanswered (one frame always may be), because what
lies in the kernel's buffers can be neither withdrawn nor overtaken. Single event loop, no I/O.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from splitrt.device.link import Sending
from splitrt.errors import SplitError, Withdrawn
from splitrt.policy.queue import InFlight, Unanswered
from splitrt.rpc.frames import Reply
from splitrt.rpc.messages import link_bytes


class Outbox:
    most_bytes: int | None = None  # payload in one message: all of a chunk

    def __init__(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self._waiting: OrderedDict[int, Sending] = OrderedDict()
        self._sent: OrderedDict[int, Sending] = OrderedDict()
        self._changed = asyncio.Event()
        self._is_held = False
        self.sent_bytes = 0

    def put(self, sending: Sending) -> None:
        sending.due = [message for chunk in sending.chunks for message in chunk]
        sending.link_bytes = link_bytes(sending.due) if sending.due else sending.link_bytes
        sending.payload_bytes = sending.frame.payload_bytes
        self._waiting[sending.frame.seq] = sending
        self._changed.set()

    def withdraw(self, sending: Sending) -> bool:
        if self._waiting.get(sending.frame.seq) is not sending:
            return False
        del self._waiting[sending.frame.seq]
        sending.end(Reply(seq=sending.frame.seq, error=Withdrawn("the frame was taken back before it was sent")))
        return True

    def hold(self) -> None:
        """Give nothing out until `release`: the frame being written is written whole, and the next one stays."""
        self._is_held = True
        self._changed.set()

    def release(self) -> None:
        self._is_held = False
        self._changed.set()

    async def next(self, max_in_flight: int) -> Sending | None:
        """The oldest waiting frame, as soon as the window has room for it; it counts as sent from here on.

        None while the outbox is held.
        """
        while not self._is_held:
            if self._waiting and len(self._sent) < max_in_flight:
                seq, sending = next(iter(self._waiting.items()))
                if not self._sent or self.sent_bytes + sending.link_bytes <= self.window_bytes:
                    del self._waiting[seq]
                    self._sent[seq] = sending
                    self.sent_bytes += sending.link_bytes
                    return sending
            self._changed.clear()
            await self._changed.wait()
        return None

    def answered(self, seq: int) -> Sending | None:
        """The frame that this reply belongs to; None where it was answered already or never sent."""
        sending = self._sent.pop(seq, None)
        if sending is not None:
            self.sent_bytes -= sending.link_bytes
            self._changed.set()
        return sending

    def sent(self, seq: int) -> Sending | None:
        """The frame on the wire of that number."""
        return self._sent.get(seq)

    def acked(self, messages: int) -> None:
        """Nothing: the reply to a whole frame says it all."""

    def fail_sent(self, error: SplitError) -> None:
        """The connection ended: what was on the wire will not be answered. What waits, waits on."""
        for sending in self._sent.values():
            sending.end(Reply(seq=sending.frame.seq, error=error))
        self._sent.clear()
        self.sent_bytes = 0
        self._changed.set()

    def fail_all(self, error: SplitError) -> None:
        self.fail_sent(error)
        for sending in self._waiting.values():
            sending.end(Reply(seq=sending.frame.seq, error=error))
        self._waiting.clear()

    def is_idle(self) -> bool:
        return not self._sent

    async def idle(self) -> None:
        """Until nothing that was sent waits for an answer; while held, for it shares its bell with `next`."""
        while not self.is_idle():
            self._changed.clear()
            await self._changed.wait()

    def soonest_deadline(self) -> float | None:
        """Of the frames that wait for a connection."""
        return min((sending.deadline_at for sending in self._waiting.values()), default=None)

    def in_flight(self, now: float) -> InFlight:
        """What waits counts as handed over now: it has been ready for longer, and the transport not for it."""
        frames = (*self._sent.values(), *self._waiting.values())
        return InFlight(
            at=now,
            frames=tuple(
                Unanswered(link_bytes=one.link_bytes, sent_at=now if one.sent_at is None else one.sent_at)
                for one in frames
            ),
        )
