"""Which pieces go, in what order, and what acknowledgements may say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.commit import Commits
from splitrt.policy.degrading import PROBE_S, Degrading
from splitrt.policy.link import LinkEstimate

LADDER = ((1_000.0, 2_000.0, 4_000.0), (0.60, 0.64, 0.68), 0.55)
CHUNKS = ((1_000,), (1_000,), (1_000, 1_000))
PIECES = sum(map(len, CHUNKS))
EVENTS = st.lists(
    st.one_of(
        st.just(("frame", 0)),
        st.tuples(st.just("acked"), st.integers(-3, 1 << 40)),
        st.tuples(st.just("drop"), st.integers(0, 5)),
        st.just(("lost", 0)),
        st.just(("pass", 0)),
    ),
    max_size=40,
)


def stream() -> Degrading:
    return Degrading(LinkEstimate(), Commits(*LADDER))


def add(queue: Degrading, key: int, now: float, deadline_s: float = 0.2) -> None:
    queue.add(key, now, now + deadline_s)
    for chunk in CHUNKS:
        queue.append(key, chunk)


def gone(queue: Degrading, now: float) -> list[tuple[int, int]]:
    """All that goes at a moment."""
    pieces = []
    while (chosen := queue.next(now)) is not None:
        pieces.append(chosen)
        assert len(pieces) <= 1_000
    return pieces


@settings(deadline=None)
@given(EVENTS, st.floats(0.001, 0.2))
def test_every_piece_goes_at_most_once_and_in_its_order_whatever_happens(
    events: list[tuple[str, int]], gap_s: float
) -> None:
    queue, now, frames, seen = stream(), 0.0, 0, dict[int, int]()
    dropped: set[int] = set()
    for what, number in events:
        now += gap_s
        if what == "frame":
            frames += 1
            add(queue, frames, now)
        elif what == "acked":
            queue.acked(number, now)
        elif what == "drop":
            queue.drop(number)
            dropped |= {number} & set(range(1, frames + 1))
        elif what == "lost":
            queue.lost()
            dropped |= set(seen)
            assert queue.is_idle
        for key, place in gone(queue, now):
            assert key not in dropped
            assert place == seen.get(key, -1) + 1 < PIECES
            seen[key] = place


def test_on_a_link_that_is_known_to_be_fast_all_of_a_frame_goes_at_once() -> None:
    queue, now, sent = stream(), 0.0, 0
    for frame in range(60):
        now = frame * 0.1
        add(queue, frame, now)
        pieces = gone(queue, now)
        sent += len(pieces)
        queue.acked(sent, now + 0.021)
        rest = gone(queue, now + 0.022)
        sent += len(rest)
        queue.acked(sent, now + 0.043)
    assert len(pieces) == PIECES


def test_on_a_slow_link_bases_go_and_the_rest_waits() -> None:
    """12 kB a second and frames of 4 kB, four a second: bases and little else."""
    queue, free_at, sent, arrivals = stream(), 0.0, 0, list[tuple[float, int]]()
    placed: list[int] = []
    for tick in range(6_000):
        now = tick * 0.005
        if tick % 50 == 0:
            add(queue, tick, now, deadline_s=0.24)
        while arrivals and arrivals[0][0] <= now:
            at, count = arrivals.pop(0)
            queue.acked(count, at)
        for _, place in gone(queue, now):
            free_at = max(free_at, now) + 1_000 / 12_000
            sent += 1
            arrivals.append((free_at + 0.02, sent))
            if tick >= 3_000:
                placed.append(place)
        queue.drop(tick - 48)
    frames = 3_000 // 50
    assert placed.count(0) >= 0.9 * frames
    assert placed.count(PIECES - 1) <= 0.2 * frames


def test_a_frame_that_cannot_be_in_time_is_sent_now_and_then_for_the_answer() -> None:
    queue, went, arrivals = stream(), 0, list[tuple[float, int]]()
    queue.estimate.acked(1_000, 0.0, 0.5)  # the way is long, and stays so
    for tick in range(100):
        now = 1.0 + tick * 0.05
        while arrivals and arrivals[0][0] <= now:
            at, count = arrivals.pop(0)
            queue.acked(count, at)
        add(queue, tick, now, deadline_s=0.05)
        went += len(gone(queue, now))
        arrivals.append((now + 0.5, went))
        queue.drop(tick)
    assert 5 <= went <= 100 * 0.05 / PROBE_S + 1


def test_acknowledgements_of_more_than_was_sent_say_nothing_more() -> None:
    queue = stream()
    add(queue, 1, 0.0)
    sent = len(gone(queue, 0.0))
    queue.acked(10_000, 0.05)
    assert queue.is_idle
    assert queue.estimate.rate == pytest.approx(queue.estimate.rate)
    add(queue, 2, 0.1)
    more = len(gone(queue, 0.1))
    assert more > 0
    queue.acked(sent + more - 1, 0.15)
    assert queue.is_idle == (more == 1)


def test_what_was_never_sent_says_so_when_it_is_dropped() -> None:
    queue = stream()
    add(queue, 1, 0.0)
    gone(queue, 0.0)
    queue.add(2, 0.01, 0.2)
    assert queue.drop(2)
    assert not queue.drop(1)
    assert not queue.drop(1)
