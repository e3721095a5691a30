from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.payload import Codec
from splitrt.errors import DeadlineExceeded, Overloaded, ServerDraining, SplitError
from splitrt.server.admission import Admission
from splitrt.server.work import Outcome, Ticket, Work

FAR_S = 1e6
relaxed = settings(deadline=None)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Futures need one; nothing here runs on it."""
    some = asyncio.new_event_loop()
    yield some
    some.close()


def ticket(
    loop: asyncio.AbstractEventLoop, principal: str = "a", *, arrived_at: float = 0.0, deadline_at: float = FAR_S
) -> Ticket:
    work = Work(
        principal=principal,
        width=1,
        bits=8,
        codec=Codec.PACKED,
        payloads=(b"",),
        arrived_at=arrived_at,
        deadline_at=deadline_at,
    )
    return Ticket(work, loop.create_future())


def offer_all(admission: Admission, loop: asyncio.AbstractEventLoop, principals: str) -> list[Ticket]:
    """One ticket a letter, in order."""
    tickets = [ticket(loop, principal) for principal in principals]
    for one in tickets:
        admission.offer(one, 0.0)
    return tickets


def names(tickets: list[Ticket]) -> str:
    return "".join(one.work.principal for one in tickets)


def error_of(one: Ticket) -> SplitError | None:
    assert one.done.done()
    return one.done.result().error


# ── turns ───────────────────────────────────────────────────────────────────────────────────────────


def test_principals_are_taken_in_turn(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    offer_all(admission, loop, "aaaaabbc")
    assert names(admission.take(0.0, 100)) == "abcabaaa"


def test_the_turn_goes_on_where_the_last_batch_ended(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    offer_all(admission, loop, "aaabbbccc")
    assert [names(admission.take(0.0, 2)) for _ in range(5)] == ["ab", "ca", "bc", "ab", "c"]


def test_one_principals_frames_keep_their_order(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    tickets = offer_all(admission, loop, "aaaa")
    assert admission.take(0.0, 3) + admission.take(0.0, 3) == tickets


@relaxed
@given(sent=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), room=st.integers(1, 16))
def test_in_one_batch_nobody_gets_two_more_than_another_who_still_waits(
    loop: asyncio.AbstractEventLoop, sent: list[str], room: int
) -> None:
    admission = Admission(100)
    offer_all(admission, loop, "".join(sent))
    got, left = Counter(names(admission.take(0.0, room))), Counter(sent)
    left.subtract(got)
    for hungry in (name for name, count in left.items() if count):
        assert max(got.values()) <= got[hungry] + 1


# ── fullness ────────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_of_the_greediest_gives_way_to_a_newcomer(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(6)
    tickets = offer_all(admission, loop, "babaaa")
    newcomer = ticket(loop, "c")
    admission.offer(newcomer, 0.0)
    refusal = error_of(tickets[-1])
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after_ms >= 1
    assert [one.done.done() for one in tickets[:-1]] == [False] * 5
    assert len(admission) == 6
    assert newcomer in admission.take(0.0, 100)


def test_with_equal_shares_a_full_queue_refuses(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(4)
    tickets = offer_all(admission, loop, "aabb")
    for principal in "ab":
        with pytest.raises(Overloaded, match="4 frames wait, at most 4 may") as refusal:
            admission.offer(ticket(loop, principal), 0.0)
        assert refusal.value.retry_after_ms >= 1
    assert admission.take(0.0, 100) == [tickets[0], tickets[2], tickets[1], tickets[3]]


def test_the_greedy_one_cannot_displace_anybody(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(4)
    tickets = offer_all(admission, loop, "aaab")
    with pytest.raises(Overloaded):
        admission.offer(ticket(loop, "a"), 0.0)
    assert not any(one.done.done() for one in tickets)


@relaxed
@given(st.lists(st.sampled_from("aaaaaabcd"), max_size=60))
def test_shares_of_a_full_queue_even_out(loop: asyncio.AbstractEventLoop, sent: list[str]) -> None:
    """However greedy one is, a polite one that asks for no more than its share gets it."""
    admission = Admission(8)
    for principal in ["a"] * 20 + sent + list("bbccdd"):
        try:
            admission.offer(ticket(loop, principal), 0.0)
        except Overloaded:
            continue
    shares = Counter(names(admission.take(0.0, 100)))
    assert sum(shares.values()) == 8
    assert shares.keys() == set("abcd")
    assert max(shares.values()) - min(shares.values()) <= 1


# ── time ────────────────────────────────────────────────────────────────────────────────────────────


def test_work_that_cannot_be_done_by_its_deadline_is_refused_at_once(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    offer_all(admission, loop, "abc")
    admission.measured(4, 0.2)  # 50 ms each
    with pytest.raises(Overloaded, match="200 ms of work ahead") as refusal:
        admission.offer(ticket(loop, deadline_at=0.199), 0.0)
    assert refusal.value.retry_after_ms == pytest.approx(200)
    admission.offer(ticket(loop, deadline_at=0.201), 0.0)
    assert len(admission) == 4


@pytest.mark.parametrize("late_s", [0.0, 0.001, 1e9])
def test_work_whose_deadline_has_passed_is_refused_as_such(loop: asyncio.AbstractEventLoop, late_s: float) -> None:
    admission = Admission(100)
    with pytest.raises(DeadlineExceeded) as refusal:
        admission.offer(ticket(loop, deadline_at=5.0), 5.0 + late_s)
    assert refusal.value.stage == "uplink"
    assert len(admission) == 0


def test_what_expired_while_it_waited_is_answered_and_never_taken(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    early, late = ticket(loop, arrived_at=1.0, deadline_at=1.1), ticket(loop, arrived_at=1.0, deadline_at=2.0)
    for one in (early, late):
        admission.offer(one, 1.0)
    assert admission.take(1.5, 100) == [late]
    refusal = error_of(early)
    assert isinstance(refusal, DeadlineExceeded)
    assert refusal.stage == "queue"
    assert early.done.result().queue_s == pytest.approx(0.5)


def test_what_has_less_time_left_than_the_tail_takes_is_not_started(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    tight = ticket(loop, deadline_at=1.0)
    admission.offer(tight, 0.0)
    admission.measured(1, 0.1)
    assert admission.take(0.95, 100) == []
    assert isinstance(error_of(tight), DeadlineExceeded)


def test_the_batch_under_way_is_work_ahead(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    admission.measured(1, 0.05)
    offer_all(admission, loop, "abc")
    assert len(admission.take(0.0, 100)) == 3  # until 0.15
    with pytest.raises(Overloaded, match="150 ms of work ahead"):
        admission.offer(ticket(loop, deadline_at=0.199), 0.05)
    admission.offer(ticket(loop, deadline_at=0.201), 0.05)
    admission.measured(3, 0.15)
    admission.offer(ticket(loop, deadline_at=0.301), 0.2)


@relaxed
@given(lefts_s=st.lists(st.floats(0.0101, 0.3), min_size=1, max_size=20))
def test_a_batch_takes_no_longer_than_the_one_with_least_time_in_it_can_wait(
    loop: asyncio.AbstractEventLoop, lefts_s: list[float]
) -> None:
    admission = Admission(100)
    tickets = [ticket(loop, deadline_at=left_s) for left_s in lefts_s]
    for one in tickets:
        admission.offer(one, 0.0)
    admission.measured(1, 0.01)
    batch = admission.take(0.0, 16)
    assert batch
    assert len(batch) * 0.01 <= min(one.work.deadline_at for one in batch)
    assert batch == tickets[: len(batch)]


def test_a_tail_whose_times_vary_is_given_more_of_them(loop: asyncio.AbstractEventLoop) -> None:
    steady, varied = Admission(100), Admission(100)
    for number in range(200):
        steady.measured(1, 0.02)
        varied.measured(1, 0.01 if number % 2 else 0.03)
    steady.offer(ticket(loop, deadline_at=0.025), 0.0)
    with pytest.raises(Overloaded):
        varied.offer(ticket(loop, deadline_at=0.025), 0.0)


def test_one_stall_costs_a_busy_tail_little_of_its_queue(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    for _ in range(50):
        admission.measured(1, 0.013)
    admission.measured(1, 0.5)
    for _ in range(6):  # frames of 13 ms that 200 ms are enough for, with room
        admission.offer(ticket(loop, deadline_at=0.2), 0.0)
    for _ in range(50):
        admission.measured(1, 0.13)  # this lasts: it is believed
    assert admission.frame_s > 0.1


def test_expired_work_takes_no_place_in_the_batch(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    for deadline_at in (1.0, 1.0, 9.0, 1.0, 9.0):
        admission.offer(ticket(loop, deadline_at=deadline_at), 0.0)
    assert len(admission.take(2.0, 2)) == 2


def test_abandoned_work_is_never_taken(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    tickets = offer_all(admission, loop, "aaa")
    tickets[1].done.cancel()
    assert admission.take(0.0, 100) == [tickets[0], tickets[2]]


def test_a_measurement_moves_the_estimate_towards_itself(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    admission.measured(10, 0.1)
    assert admission.frame_s == pytest.approx(0.01)
    admission.measured(1, 0.02)
    assert 0.01 < admission.frame_s < 0.02
    for _ in range(200):
        admission.measured(1, 0.02)
    assert admission.frame_s == pytest.approx(0.02)


@pytest.mark.parametrize("stall_s", [30.0, 0.0998])
def test_one_stall_of_the_tail_does_not_close_the_queue_for_ever(
    loop: asyncio.AbstractEventLoop, stall_s: float
) -> None:
    """30 frames a second, 100 ms each; the batcher wakes 0.5 ms after an offer, so one may be late only then."""
    admission = Admission(100)
    admission.measured(1, stall_s)
    for n in range(600):
        now = 100 + n / 30
        try:
            admission.offer(ticket(loop, arrived_at=now, deadline_at=now + 0.1), now)
        except Overloaded:
            continue
        batch = admission.take(now + 0.0005, 16)
        if batch:
            admission.measured(len(batch), 0.005)
    assert admission.frame_s < 0.01


def test_a_tail_that_is_really_too_slow_is_seldom_tried(loop: asyncio.AbstractEventLoop) -> None:
    admission, tried = Admission(100), 0
    admission.measured(1, 1.0)
    for n in range(3000):
        now = n / 30
        try:
            admission.offer(ticket(loop, arrived_at=now, deadline_at=now + 0.1), now)
        except Overloaded:
            continue
        batch = admission.take(now, 16)
        tried += len(batch)
        if batch:
            admission.measured(len(batch), 1.0)
    assert 0 < tried < 600


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────


def test_refuse_all_answers_everything_that_waits_once(loop: asyncio.AbstractEventLoop) -> None:
    admission = Admission(100)
    tickets = offer_all(admission, loop, "aabc")
    tickets[0].done.set_result(Outcome())
    admission.refuse_all(ServerDraining("stopping"))
    assert error_of(tickets[0]) is None
    assert all(isinstance(error_of(one), ServerDraining) for one in tickets[1:])
    assert len(admission) == 0
    assert admission.take(0.0, 100) == []


OPERATIONS = st.lists(
    st.tuples(st.just("offer"), st.sampled_from("aaabc"), st.floats(-0.05, 1.0))
    | st.tuples(st.just("take"), st.integers(1, 4), st.floats(0, 0.3))
    | st.tuples(st.just("measured"), st.integers(1, 4), st.floats(0, 0.5))
    | st.tuples(st.just("refuse_all"), st.none(), st.none()),
    max_size=60,
)


@settings(deadline=None, max_examples=200)
@given(operations=OPERATIONS, most=st.integers(1, 6))
def test_every_ticket_ends_once_and_the_count_is_of_those_that_wait(
    loop: asyncio.AbstractEventLoop, operations: list[tuple[str, object, float]], most: int
) -> None:
    admission, now = Admission(most), 0.0
    accepted: list[Ticket] = []
    taken: list[Ticket] = []
    for verb, what, seconds in operations:
        if verb == "offer":
            one = ticket(loop, str(what), arrived_at=now, deadline_at=now + seconds)
            try:
                admission.offer(one, now)
                accepted.append(one)
            except (Overloaded, DeadlineExceeded):
                assert not one.done.done()
        elif verb == "take":
            now += seconds
            batch = admission.take(now, int(str(what)))
            assert len(batch) <= int(str(what))
            assert all(one.work.deadline_at > now and not one.done.done() for one in batch)
            taken += batch
        elif verb == "measured":
            admission.measured(int(str(what)), seconds)
        else:
            admission.refuse_all(ServerDraining("stopping"))
        waiting = [one for one in accepted if one not in taken and not one.done.done()]
        assert len(admission) == len(waiting) <= most
    assert len(taken) == len({id(one) for one in taken})
    admission.frame_s = 0.0
    assert set(map(id, admission.take(now, 1000))) <= {id(one) for one in accepted} - {id(one) for one in taken}
    assert len(admission) == 0


@relaxed
@given(sent=st.lists(st.sampled_from("abc"), min_size=1, max_size=20), gone=st.sets(st.integers(0, 19)))
def test_abandoned_work_leaves_no_trace_in_the_count(
    loop: asyncio.AbstractEventLoop, sent: list[str], gone: set[int]
) -> None:
    admission = Admission(100)
    tickets = offer_all(admission, loop, "".join(sent))
    for place, one in enumerate(tickets):
        if place in gone:
            one.done.cancel()
    taken = []
    while batch := admission.take(0.0, 3):
        taken += batch
    assert {id(one) for one in taken} == {id(one) for place, one in enumerate(tickets) if place not in gone}
    assert len(admission) == 0
