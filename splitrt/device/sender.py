"""Frames onto the link: the message made of what was encoded, and what its replies teach.

encoded ── whole, or as the difference to the last answered frame ── link ── replies ── estimate
                                                                        └── the best answer so far
"""

from __future__ import annotations

import asyncio

from splitrt.codec.payload import Codec
from splitrt.device.link import Link, Sending
from splitrt.device.local import Device, Encoded, Reference
from splitrt.device.pending import Pending
from splitrt.errors import FrameTooLarge
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.frames import MOST_BACK, Frame, Reply, tables_prefix

WEIGH_AFTER_S = 0.005  # what a reply says of the link, where no frame that follows asks for it or waits meanwhile


class Sender:
    """One client's. has_deltas: the server keeps answered frames, and later ones may be differences to them."""

    def __init__(self, device: Device, link: Link, estimate: LinkEstimate, *, has_deltas: bool) -> None:
        self._device, self._link, self._estimate, self._has_deltas = device, link, estimate, has_deltas
        self._tables = tables_prefix(device.bundle.tables.digest())
        self._loop = asyncio.get_running_loop()

    async def send(self, pending: Pending, encoded: Encoded) -> Reply:
        """Raises FrameTooLarge; any other error is the reply's."""
        pending.encoded = encoded
        codec, payloads, back, difference = encoded.codec, encoded.payloads, 0, encoded.difference
        # A frame that is sent again may have been overtaken, and after many exits the reference lies too far back.
        if difference is not None and 0 < pending.seq - difference.reference_seq <= MOST_BACK:
            codec, payloads, back = Codec.DELTA, (difference.payload,), pending.seq - difference.reference_seq
        frame = Frame(
            seq=pending.seq,
            width=encoded.width,
            bits=encoded.bits,
            codec=codec,
            deadline_ms=0,
            tables=self._tables,
            payloads=payloads,
            back=back,
        )
        most = self._link.max_payload_bytes
        if frame.payload_bytes > most:
            raise FrameTooLarge(f"payload must be at most {most} bytes for this server, got {frame.payload_bytes}")
        pending.sending = self._link.send(
            frame, pending.deadline_at, lambda sent, reply: self._hear(pending, sent, reply)
        )
        self._loop.call_soon(self._estimate.weigh)  # once the frame has gone: until its reply there is time
        reply = await pending.sending.reply
        if self._has_deltas:
            self._refer(pending.seq, encoded, reply)
        return reply

    def _refer(self, seq: int, encoded: Encoded, reply: Reply) -> None:
        """Frames to come may be differences to an answered one; after anything else the next is a key frame."""
        self._device.reference = None
        if reply.error is None and encoded.symbols_KHW is not None:
            self._device.reference = Reference(
                seq=seq, width=encoded.width, bits=encoded.bits, symbols_KHW=encoded.symbols_KHW
            )

    def _hear(self, pending: Pending, sending: Sending, reply: Reply) -> None:
        """Every reply is a sample, also one that came too late for its frame; an answer of some chunks is kept."""
        if sending.sent_at is None or sending.replied_at is None:
            return
        server_s = reply.queue_s + reply.decode_s + reply.tail_s
        if sending.is_acked:
            self._estimate.served(server_s, sending.replied_at - sending.sent_at)
        else:
            self._estimate.replied(sending.link_bytes, sending.sent_at, sending.replied_at, server_s)
        self._loop.call_later(WEIGH_AFTER_S, self._estimate.weigh)
        least = pending.choice.least_chunks if pending.choice else 0
        is_wider = reply.chunks > (pending.best.chunks if pending.best else 0)
        # A server may claim more chunks than the frame has.
        if reply.error is None and is_wider and 0 < least <= reply.chunks <= len(sending.frame.payloads):
            pending.best = reply
