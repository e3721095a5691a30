"""Frames that degrade, message by message: what a server's limit on frames holds back, and what it does not."""

from __future__ import annotations

import asyncio

from splitrt.codec.payload import Codec
from splitrt.device.chunk_queue import PIECE_BYTES, ChunkQueue
from splitrt.device.link import Sending
from splitrt.policy.commit import Commits
from splitrt.policy.degrading import Degrading
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.frames import Frame, Reply
from splitrt.rpc.messages import chunks_to_wire

BASE = b"a" * (2 * PIECE_BYTES)  # in two messages


def queue_of(clock: list[float]) -> ChunkQueue:
    return ChunkQueue(Degrading(LinkEstimate(), Commits([len(BASE)], [0.9], 0.3)), (1,), lambda: clock[0])


def put(queue: ChunkQueue, seq: int, now: float) -> Sending:
    frame = Frame(seq=seq, width=8, bits=4, codec=Codec.PACKED, deadline_ms=1, tables=0, payloads=(BASE,))
    reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    sending = Sending(frame=frame, deadline_at=now + 2.0, reply=reply)
    sending.chunks = chunks_to_wire(frame, queue.most_bytes)
    queue.put(sending)
    return sending


async def test_a_frame_that_was_begun_goes_on_where_no_other_may_begin() -> None:
    clock = [0.0]
    queue = queue_of(clock)
    first = put(queue, 1, 0.0)
    async with asyncio.timeout(5):
        assert await queue.next(max_in_flight=1) is first
        first.sent_at = clock[0] = 0.02
        queue.acked(1)
        second = put(queue, 2, 0.02)
        assert await queue.next(max_in_flight=1) is first
        assert first.payload_bytes == len(BASE)
        clock[0] = 0.04
        queue.acked(2)
        getting = asyncio.create_task(queue.next(max_in_flight=1))
        await asyncio.sleep(0.01)
        assert not getting.done()
        queue.answered(1)
        assert await getting is second
