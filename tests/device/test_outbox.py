"""Frames on their way: what waits can be taken back, what is sent cannot, and the window holds."""

from __future__ import annotations

import asyncio

import pytest

from splitrt.codec.payload import Codec
from splitrt.device.link import Sending
from splitrt.device.outbox import Outbox
from splitrt.errors import ClientClosed, LinkLost, SplitError, Withdrawn
from splitrt.policy.queue import Unanswered
from splitrt.rpc.frames import Frame, Reply

MANY = 100


def sending(seq: int, link_bytes: int = 100, deadline_at: float = 1.0) -> Sending:
    frame = Frame(seq=seq, width=1, bits=2, codec=Codec.PACKED, deadline_ms=1, tables=0, payloads=(b"",))
    reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    return Sending(frame=frame, deadline_at=deadline_at, reply=reply, link_bytes=link_bytes)


def filled(*sendings: Sending, window_bytes: int = 250) -> Outbox:
    outbox = Outbox(window_bytes)
    for one in sendings:
        outbox.put(one)
    return outbox


async def stands_still(outbox: Outbox, max_in_flight: int = MANY) -> bool:
    """Nothing may go now."""
    getting = asyncio.create_task(outbox.next(max_in_flight))
    for _ in range(3):
        await asyncio.sleep(0)
    is_still = not getting.done()
    getting.cancel()
    await asyncio.gather(getting, return_exceptions=True)
    return is_still


def error_of(one: Sending) -> SplitError | None:
    return one.reply.result().error


async def test_frames_go_oldest_first() -> None:
    sendings = [sending(seq) for seq in (5, 3, 9)]
    outbox = filled(*sendings, window_bytes=1000)
    assert [await outbox.next(MANY) for _ in sendings] == sendings


async def test_the_window_is_full_until_an_answer_makes_room() -> None:
    one, two, three = (sending(seq) for seq in (1, 2, 3))
    outbox = filled(one, two, three)
    await outbox.next(MANY)
    await outbox.next(MANY)
    assert await stands_still(outbox)
    getting = asyncio.create_task(outbox.next(MANY))
    assert outbox.answered(1) is one
    assert await getting is three


async def test_a_frame_larger_than_the_window_goes_alone() -> None:
    small, large = sending(1), sending(2, link_bytes=10_000)
    outbox = filled(small, large)
    await outbox.next(MANY)
    assert await stands_still(outbox)
    outbox.answered(1)
    assert await outbox.next(MANY) is large


async def test_the_servers_count_of_frames_holds_as_well() -> None:
    outbox = filled(sending(1, 1), sending(2, 1))
    await outbox.next(1)
    assert await stands_still(outbox, max_in_flight=1)


async def test_a_waiting_frame_can_be_taken_back_once() -> None:
    one, two = sending(1), sending(2)
    outbox = filled(one, two)
    assert outbox.withdraw(one)
    assert isinstance(error_of(one), Withdrawn)
    assert not outbox.withdraw(one)
    assert await outbox.next(MANY) is two


async def test_a_sent_frame_cannot_be_taken_back() -> None:
    one = sending(1)
    outbox = filled(one)
    await outbox.next(MANY)
    assert not outbox.withdraw(one)
    assert not one.reply.done()
    assert outbox.answered(1) is one


async def test_a_frame_of_the_same_number_is_not_taken_for_another() -> None:
    old, new = sending(1), sending(1)
    outbox = filled(new)
    assert not outbox.withdraw(old)
    assert await outbox.next(MANY) is new


async def test_only_what_is_sent_is_answered_and_only_once() -> None:
    outbox = filled(sending(1), sending(2))
    await outbox.next(MANY)
    assert outbox.answered(2) is None
    assert outbox.answered(77) is None
    assert outbox.answered(1) is not None
    assert outbox.answered(1) is None
    assert outbox.is_idle()
    assert outbox.sent_bytes == 0


async def test_a_lost_connection_ends_what_was_sent_and_keeps_what_waits() -> None:
    sent, waiting = sending(1), sending(2)
    outbox = filled(sent, waiting, window_bytes=100)
    await outbox.next(MANY)
    outbox.fail_sent(LinkLost("gone"))
    assert isinstance(error_of(sent), LinkLost)
    assert not waiting.reply.done()
    assert await outbox.next(MANY) is waiting


async def test_a_closed_client_ends_all() -> None:
    sent, waiting = sending(1), sending(2)
    outbox = filled(sent, waiting, window_bytes=100)
    await outbox.next(MANY)
    outbox.fail_all(ClientClosed("closed"))
    assert isinstance(error_of(sent), ClientClosed)
    assert isinstance(error_of(waiting), ClientClosed)
    assert await stands_still(outbox)


async def test_the_soonest_deadline_is_of_what_waits() -> None:
    outbox = filled(sending(1, deadline_at=5.0), sending(2, deadline_at=9.0), sending(3, deadline_at=7.0))
    assert outbox.soonest_deadline() == 5.0
    await outbox.next(MANY)
    assert outbox.soonest_deadline() == 7.0
    assert Outbox(1).soonest_deadline() is None


async def test_what_is_in_flight_is_what_was_sent_and_then_what_waits() -> None:
    one, two = sending(1, 100), sending(2, 30)
    outbox = filled(one, two, window_bytes=100)
    assert outbox.in_flight(1.0).bytes == 130
    await outbox.next(MANY)
    one.sent_at = 10.0
    now = outbox.in_flight(12.5)
    assert (now.at, now.bytes) == (12.5, 130)
    assert now.frames == (Unanswered(link_bytes=100, sent_at=10.0), Unanswered(link_bytes=30, sent_at=12.5))


async def test_held_it_gives_nothing_out_and_lets_go_of_who_waits() -> None:
    outbox = Outbox(100)
    waiting = asyncio.create_task(outbox.next(MANY))
    await asyncio.sleep(0)
    outbox.hold()
    assert await waiting is None
    one = sending(1)
    outbox.put(one)
    assert await outbox.next(MANY) is None
    outbox.release()
    assert await outbox.next(MANY) is one


@pytest.mark.parametrize("late", [False, True])
async def test_a_frame_ends_once(late: bool) -> None:
    one = sending(1)
    first, second = Reply(seq=1), Reply(seq=1, error=LinkLost("late"))
    one.end(first)
    if late:
        one.end(second)
    assert one.reply.result() is first
