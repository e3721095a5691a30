"""Lindley's recursion: what a frame waited behind our own is not counted against the link."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.queue import InFlight, OwnQueue, Unanswered

relaxed = settings(deadline=None)
TRIP_S = 0.03
BYTE_S = np.array([1e-6, 1e-5, 1e-4])
FRAMES = st.lists(st.tuples(st.integers(1, 50_000), st.floats(0, 1)), max_size=8)


def on_way(frames: list[tuple[int, float]]) -> tuple[Unanswered, ...]:
    moments = np.cumsum([gap for _, gap in frames]).tolist()
    return tuple(Unanswered(link_bytes=size, sent_at=at) for (size, _), at in zip(frames, moments, strict=True))


@pytest.mark.parametrize("gap_s", [0.0, 0.01, 0.2])
def test_service_is_transmission_however_close_the_frames(gap_s: float) -> None:
    queue, free_s, byte_s = OwnQueue(), 0.0, 1e-5
    for n, size in enumerate([3_000, 10_000, 500, 20_000]):
        sent_s = n * gap_s
        free_s = max(free_s, sent_s) + size * byte_s
        assert queue.service_s(sent_s, free_s + TRIP_S, TRIP_S) == pytest.approx(size * byte_s)
        queue.answered(free_s + TRIP_S)


@relaxed
@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_no_order_of_replies_moves_the_link_back(answered: list[float]) -> None:
    queue, latest = OwnQueue(), float("-inf")
    for at in answered:
        queue.answered(at)
        latest = max(latest, at)
        assert queue.free_at(0.0) == latest


@relaxed
@given(FRAMES, st.floats(0, 10), st.integers(1, 10_000))
def test_a_frame_more_frees_the_link_no_sooner(frames: list[tuple[int, float]], now: float, size: int) -> None:
    queue, some = OwnQueue(), on_way(frames)
    more = (*some, Unanswered(link_bytes=size, sent_at=some[-1].sent_at if some else 0.0))
    fewer_N, more_N = (queue.drained(InFlight(at=now, frames=one), BYTE_S, 0.05, -1.0) for one in (some, more))
    assert np.all(more_N >= fewer_N)


@relaxed
@given(FRAMES, st.floats(0, 10))
def test_a_slower_link_is_free_later(frames: list[tuple[int, float]], now: float) -> None:
    drained_N = OwnQueue().drained(InFlight(at=now, frames=on_way(frames)), BYTE_S, 0.05, -1.0)
    assert np.all(np.diff(drained_N) >= 0)


def test_what_is_unanswered_has_not_left_long_ago() -> None:
    drained_N = OwnQueue().drained(
        InFlight(at=5.0, frames=(Unanswered(link_bytes=10, sent_at=0.0),)), BYTE_S, 0.05, 0.0
    )
    assert np.all(drained_N == pytest.approx(4.95))


def test_a_new_connection_has_nothing_ahead() -> None:
    queue = OwnQueue()
    queue.answered(10.0)
    assert queue.is_behind(5.0, TRIP_S)
    queue.forget()
    assert not queue.is_behind(5.0, TRIP_S)
