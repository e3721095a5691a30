from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.backoff import FIRST_S, MOST_IN_OUTAGE_S, MOST_S, Pace, delay_s, pace_of
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight, Unanswered

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


PACES = st.builds(Pace, first_s=st.floats(FIRST_S, 0.5), outage=st.floats(0, 1))


@relaxed
@given(attempt=ATTEMPTS, seed=st.integers(), pace=PACES, down_s=st.floats(-1e6, 1e6))
def test_no_belief_makes_an_attempt_sooner_than_half_a_round_trip_or_later_than_the_most(
    attempt: int, seed: int, pace: Pace, down_s: float
) -> None:
    assert pace.first_s / 2 <= delay_s(attempt, random.Random(seed), None, pace, down_s) <= MOST_S


@relaxed
@given(outage=st.floats(0, 1), down_s=st.floats(0, 100), more_s=st.floats(0, 100))
def test_the_longer_it_lasts_the_less_it_is_an_outage(outage: float, down_s: float, more_s: float) -> None:
    pace = Pace(outage=outage)
    assert MOST_IN_OUTAGE_S - 1e-9 <= pace.most_s(down_s) <= pace.most_s(down_s + more_s) + 1e-9 <= MOST_S + 1e-6
    assert Pace(outage=0).most_s(down_s) == MOST_S


def heard(took_s: float) -> LinkEstimate:
    estimate = LinkEstimate()
    for n in range(50):
        estimate.replied(1_000, 0.1 * n, 0.1 * n + took_s, 0.0)
    return estimate


def test_silence_before_the_end_is_an_outage_and_a_link_that_spoke_is_none() -> None:
    on_way = (Unanswered(link_bytes=1_000, sent_at=5.0),)
    spoke = pace_of(heard(0.04), InFlight(at=5.01, frames=on_way))
    was_silent = pace_of(heard(0.04), InFlight(at=7.0, frames=on_way))
    assert spoke.outage < 0.1
    assert was_silent.outage > 0.9
    waits = [
        np.mean([delay_s(6, random.Random(n), None, pace, 1.0) for n in range(500)]) for pace in (was_silent, spoke)
    ]
    assert waits[0] < 0.3 < 0.8 < waits[1]


def test_a_long_way_is_not_tried_twice_in_a_round_trip() -> None:
    pace = pace_of(heard(0.3), InFlight(at=5.0))
    assert 0.2 < pace.first_s <= 0.31
    assert min(delay_s(0, random.Random(n), None, pace) for n in range(100)) >= pace.first_s / 2
