"""Batches as large as their measured time allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from splitrt.server.batch_size import BatchSize


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), max_size=40), st.integers(1, 64))
def test_whatever_is_measured_it_is_between_one_and_the_most(batches: list[tuple[int, float]], most: int) -> None:
    size = BatchSize(most, 0.05)
    for frames, seconds in batches:
        size.measured(frames, seconds)
        assert 1 <= size.now <= most


@given(each_ms=st.floats(0.01, 200), fixed_ms=st.floats(0, 200), most=st.integers(1, 64))
def test_it_settles_on_a_size_whose_time_is_within_the_budget(each_ms: float, fixed_ms: float, most: int) -> None:
    size = BatchSize(most, 0.05)
    taken = []
    for _ in range(40):
        taken.append(size.now)
        size.measured(taken[-1], (fixed_ms + each_ms * taken[-1]) / 1e3)
    last = taken[-1]
    assert last == 1 or (fixed_ms + each_ms * last) / 1e3 <= 0.05 * 1.001


def test_a_tail_whose_time_does_not_grow_gets_the_largest_batches() -> None:
    size = BatchSize(16, 0.05)
    for _ in range(20):
        size.measured(size.now, 0.02)
    assert size.now == 16


def test_one_stall_does_not_end_batching_for_good() -> None:
    size = BatchSize(16, 0.05)
    for _ in range(20):
        size.measured(size.now, 0.01)
    size.measured(16, 1.0)
    assert size.now < 16
    for _ in range(60):
        size.measured(size.now, 0.01)
    assert size.now >= 8


@given(st.integers(1, 4))
def test_a_stall_of_whatever_size_is_forgotten_though_that_size_is_not_run_meanwhile(exponent: int) -> None:
    size = BatchSize(16, 0.05)
    for _ in range(20):
        size.measured(size.now, 0.01)
    size.measured(1 << exponent, 1.0)
    for _ in range(400):
        size.measured(size.now, 0.01)
    assert size.now == 16


def test_a_size_that_takes_too_long_each_time_is_tried_again_but_rarely() -> None:
    size, tried = BatchSize(4, 0.05), 0
    for _ in range(1_000):
        taken = size.now
        tried += taken == 4
        size.measured(taken, {1: 0.01, 2: 0.02, 4: 0.5}[taken])
    assert 0 < tried < 30
