from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.backoff import FIRST_S, MOST_S, delay_s

ATTEMPTS = st.integers(0, 10**9)
relaxed = settings(deadline=None)


@relaxed
@given(attempt=ATTEMPTS, seed=st.integers())
def test_the_delay_lies_between_half_the_first_and_the_most(attempt: int, seed: int) -> None:
    delay = delay_s(attempt, random.Random(seed))
    assert FIRST_S / 2 <= delay <= min(MOST_S, FIRST_S * 2.0 ** min(attempt, 60))


@relaxed
@given(attempt=ATTEMPTS, seed=st.integers(), need_s=st.floats(-1e6, 1e6))
def test_a_frame_that_still_hopes_clips_the_delay_to_half_its_time(attempt: int, seed: int, need_s: float) -> None:
    free, clipped = (delay_s(attempt, random.Random(seed), need) for need in (None, need_s))
    assert clipped == min(free, max(FIRST_S / 2, need_s / 2))


@relaxed
@given(attempt=ATTEMPTS, seed=st.integers(), need_s=st.floats(allow_nan=True, allow_infinity=True))
def test_no_deadline_makes_the_delay_zero_or_endless(attempt: int, seed: int, need_s: float) -> None:
    """Zero would be a loop that never sleeps."""
    assert FIRST_S / 2 <= delay_s(attempt, random.Random(seed), need_s) <= MOST_S


def test_later_attempts_wait_longer_in_the_mean() -> None:
    draw = random.Random(0)
    means = [sum(delay_s(attempt, draw) for _ in range(2000)) / 2000 for attempt in range(8)]
    assert all(later > earlier for earlier, later in zip(means[:5], means[1:6], strict=True))
    assert means[7] == pytest.approx(MOST_S / 2, rel=0.1)


def test_a_fleet_does_not_come_back_at_once() -> None:
    delays = sorted(delay_s(6, random.Random(seed)) for seed in range(500))
    for start in range(10):
        window = [delay for delay in delays if start * 0.2 <= delay < start * 0.2 + 0.2]
        assert len(window) < 100


def test_a_seed_gives_the_same_delays_again() -> None:
    first, again = ([delay_s(n, random.Random(7)) for n in range(9)] for _ in range(2))
    assert first == again
