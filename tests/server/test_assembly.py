"""When a frame in chunks is answered, and with how many."""

from __future__ import annotations

import asyncio
import time

import pytest

from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.errors import BadFrame, DeadlineExceeded, IntegrityError
from splitrt.rpc.frames import FrameChunk, FrameStart
from splitrt.server.assembly import PATIENCE, Assembly

SEQ, WIDTH, BITS = 7, 4, 8


def start(*, deadline_ms: int = 200, chunks: int = 3, is_open: bool = False) -> FrameStart:
    return FrameStart(
        seq=SEQ, width=WIDTH, bits=BITS, codec=Codec.PACKED,
        deadline_ms=deadline_ms, tables=0, crc32c=0, payload=b"base",
        chunks=chunks, is_open=is_open,
    )  # fmt: skip


def assembly(*, degrades: bool, **fields: int) -> Assembly:
    return Assembly(start(**fields), Codec.PACKED, time.monotonic(), degrades=degrades)  # type: ignore[arg-type]


def chunk(index: int, payload: bytes = b"more", *, is_open: bool = False) -> FrameChunk:
    crc = codec_payload.checksum(SEQ, WIDTH, BITS, Codec.PACKED, index, payload)
    return FrameChunk(slot=SEQ, crc32c=crc, payload=payload, is_open=is_open)


async def test_a_whole_frame_is_answered_when_all_of_it_is_there_and_not_before() -> None:
    one = assembly(degrades=False)
    waiting = asyncio.create_task(one.more(0, time.monotonic))
    one.add(chunk(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    one.add(chunk(2))
    assert await waiting == 3


async def test_a_degrading_frame_is_answered_with_what_is_there_and_again_with_more() -> None:
    one = assembly(degrades=True)
    one.add(chunk(1))
    assert await one.more(0, time.monotonic) == 2
    assert time.monotonic() - one.arrived_at >= PATIENCE * 0.2
    waiting = asyncio.create_task(one.more(2, time.monotonic))
    await asyncio.sleep(0)
    assert not waiting.done()
    one.add(chunk(2))
    assert await waiting == 3


async def test_all_of_a_degrading_frame_is_answered_without_waiting() -> None:
    one = assembly(degrades=True, deadline_ms=60_000)
    one.add(chunk(1))
    one.add(chunk(2))
    assert await one.more(0, time.monotonic) == 3


@pytest.mark.parametrize("degrades", [True, False])
async def test_a_frame_whose_rest_does_not_come_ends_at_its_deadline(degrades: bool) -> None:
    one = assembly(degrades=degrades, deadline_ms=30)
    if degrades:
        assert await one.more(0, time.monotonic) == 1
    with pytest.raises(DeadlineExceeded, match="1 of 3 chunks came in time"):
        await one.more(int(degrades), time.monotonic)


async def test_a_chunk_in_several_messages_counts_when_its_last_has_come() -> None:
    one = assembly(degrades=True, deadline_ms=1_000, chunks=2, is_open=True)
    assert one.chunks == []
    one.add(chunk(1, b" and", is_open=True))
    one.add(chunk(2, b" end"))
    assert one.chunks == [b"base and end"]
    one.add(chunk(3))
    assert (one.is_whole, one.size) == (True, 16)


def test_a_chunk_out_of_its_place_fails_its_checksum() -> None:
    one = assembly(degrades=True)
    with pytest.raises(IntegrityError):
        one.add(chunk(2))


def test_a_message_of_nothing_that_goes_on_is_refused() -> None:
    one = assembly(degrades=True)
    with pytest.raises(BadFrame, match="must hold some of it"):
        one.add(chunk(1, b"", is_open=True))


async def test_the_error_of_a_frame_wakes_whoever_waits() -> None:
    one = assembly(degrades=True, deadline_ms=10_000)
    waiting = asyncio.create_task(one.more(0, time.monotonic))
    await asyncio.sleep(0)
    one.fail(IntegrityError("the checksum differs", reason="checksum"))
    with pytest.raises(IntegrityError):
        await waiting
