"""The filter alone: probabilities stay probabilities, spreading is a walk, replies sharpen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.belief import BYTE_S_R, RATES, RATES_R, Belief, broad
from splitrt.policy.noise import ServiceNoise

relaxed = settings(deadline=None)
HEARD = st.lists(st.tuples(st.floats(0, 100), st.integers(1, 1 << 20), st.floats(-1, 100)), max_size=30)


def is_a_distribution(mass_N: npt.NDArray[np.float64]) -> bool:
    return bool(np.all(mass_N >= 0)) and math.isclose(float(mass_N.sum()), 1.0, abs_tol=1e-9)


def hear(belief: Belief, at: float, link_bytes: int, service_s: float) -> None:
    density_R = ServiceNoise().density(link_bytes * BYTE_S_R, BYTE_S_R, service_s)
    belief.hear(at, density_R, service_s)


@relaxed
@given(HEARD, st.floats(0, 1e6))
def test_the_posterior_sums_to_one(heard: list[tuple[float, int, float]], later_s: float) -> None:
    belief, now = Belief(), 0.0
    for gap_s, link_bytes, service_s in heard:
        now += gap_s
        hear(belief, now, link_bytes, service_s)
        assert is_a_distribution(belief.mass_N)
        assert is_a_distribution(belief.usual_N)
    assert is_a_distribution(belief.ahead(now + later_s))
    assert RATES_R[0] <= belief.rate() <= RATES_R[-1]


def test_the_first_prior_is_a_distribution() -> None:
    assert is_a_distribution(broad())


def test_looking_ahead_changes_nothing() -> None:
    belief = Belief()
    hear(belief, 1.0, 10_000, 0.05)
    before = belief.mass_N.copy()
    belief.ahead(100.0)
    assert np.array_equal(belief.mass_N, before)


@pytest.mark.parametrize("rate", [20e3, 200e3, 2e6])
def test_replies_of_a_steady_link_sharpen_the_belief_at_its_rate(rate: float) -> None:
    belief = Belief()
    for n in range(50):
        hear(belief, n / 10, 20_000, 20_000 / rate)
    assert belief.rate() == pytest.approx(rate, rel=0.25)
    assert belief.mass_N[1:].max() > 0.1
    assert belief.outage < 0.02


def test_a_belief_widens_with_time() -> None:
    belief = Belief()
    for n in range(50):
        hear(belief, n / 10, 20_000, 0.1)
    spreads = [float((belief.ahead(5.0 + later_s)[1:] ** 2).sum()) for later_s in (0.0, 0.1, 1.0, 10.0)]
    assert spreads == sorted(spreads, reverse=True)


def test_in_the_end_the_link_is_what_it_usually_is() -> None:
    belief = Belief()
    hear(belief, 0.0, 20_000, 0.1)
    assert np.allclose(belief.ahead(1e4), belief.usual_N, atol=1e-6)


def test_after_an_outage_the_link_is_what_it_usually_was() -> None:
    """And not slow, as the one frame that was caught in it would have it."""
    belief = Belief()
    for n in range(200):
        hear(belief, n / 10, 4_000, 4_000 / 500e3)
    hear(belief, 22.0, 4_000, 2.0)
    assert belief.rate() > 50e3


def test_another_connection_is_believed_less() -> None:
    belief = Belief()
    for n in range(50):
        hear(belief, n / 10, 20_000, 0.1)
    sharp = belief.mass_N.max()
    belief.doubt()
    assert is_a_distribution(belief.mass_N)
    assert belief.mass_N.max() < sharp


def test_a_density_that_explains_nothing_is_passed_over() -> None:
    belief = Belief()
    before = belief.mass_N.copy()
    belief.hear(1.0, np.full(RATES, np.nan), 0.1)
    assert np.array_equal(belief.mass_N, before)
