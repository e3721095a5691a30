from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.round_trip import FIRST_S, MOST_SAMPLES, RECENT_S, RoundTrip

relaxed = settings(deadline=None)


@relaxed
@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), min_size=1, max_size=60))
def test_the_base_is_one_of_the_recent_samples_and_low(samples: list[tuple[float, float]]) -> None:
    trip, now, recent = RoundTrip(), 0.0, list[tuple[float, float]]()
    for gap_s, sample_s in samples:
        now += gap_s
        trip.add(now, sample_s)
        recent = [one for one in [*recent, (now, sample_s)] if one[0] >= now - RECENT_S]
    values = sorted(value for _, value in recent)
    assert trip.base_s == values[int(0.05 * len(values))]


def test_one_reply_that_came_too_early_does_not_rule() -> None:
    trip = RoundTrip()
    for n in range(100):
        trip.add(n / 20, 0.05 if n != 50 else 0.0)
    assert trip.base_s == 0.05


def test_an_old_way_is_forgotten() -> None:
    trip = RoundTrip()
    trip.add(0.0, 0.01)
    trip.add(RECENT_S + 0.1, 0.2)
    assert trip.base_s == 0.2


def test_a_new_connection_is_measured_anew() -> None:
    trip = RoundTrip()
    trip.add(0.0, 0.2)
    trip.forget()
    assert trip.base_s == FIRST_S
    assert not trip.is_known


@pytest.mark.parametrize("same_at", [0.0, 5.0])
def test_memory_is_bounded(same_at: float) -> None:
    trip = RoundTrip()
    for n in range(3 * MOST_SAMPLES):
        trip.add(same_at, float(n))
    assert trip.base_s >= 2 * MOST_SAMPLES  # the oldest are gone
