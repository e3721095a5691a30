"""The price of the link: a threshold that falls as sending gets dearer, slower or less likely to help."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.guarantee import NEVER
from splitrt.policy.price import Gains, Prices, binned, edges

relaxed = settings(deadline=None)
GAINS = Gains(
    edge_K=np.array([0.0, 0.5, 0.8, 0.95]),
    own_K=np.array([0.4, 0.7, 0.9, 0.99]),
    remote_K=np.array([0.7, 0.85, 0.94, 0.99]),
)
RISING = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(sorted).map(np.array)


def test_a_frame_stays_where_the_gain_is_not_worth_the_cost() -> None:
    assert [GAINS.threshold(1.0, cost) for cost in (0.0, 0.05, 0.2, 0.31)] == [0.95, 0.8, 0.5, 0.0]


def test_where_the_server_is_better_at_any_confidence_and_sending_is_free_all_is_sent() -> None:
    better = Gains(edge_K=GAINS.edge_K, own_K=GAINS.own_K, remote_K=np.ones(4))
    assert better.threshold(1.0, 0.0) == NEVER


def test_a_link_that_is_gone_asks_for_nothing() -> None:
    assert GAINS.threshold(0.0, 0.0) == 0.0


@relaxed
@given(own_K=RISING, remote_K=RISING, costs=st.tuples(st.floats(0, 1), st.floats(0, 1)), chance=st.floats(0, 1))
def test_dearer_or_less_likely_never_asks_for_more(
    own_K: np.ndarray, remote_K: np.ndarray, costs: tuple[float, float], chance: float
) -> None:
    gains = Gains(edge_K=GAINS.edge_K, own_K=own_K, remote_K=remote_K)
    cheap, dear = sorted(costs)
    assert gains.threshold(1.0, dear) <= gains.threshold(1.0, cheap)
    assert gains.threshold(chance, cheap) <= gains.threshold(1.0, cheap)


def test_each_price_is_paid_for_what_it_is_of() -> None:
    assert Prices(second=2.0).of(0.05, 900, 0.01) == pytest.approx(0.1)
    assert Prices(kilobyte=0.1).of(0.05, 2048, 0.01) == pytest.approx(0.2)
    assert Prices(joule=3.0, radio_w=0.5).of(0.05, 900, 0.01) == pytest.approx(0.015)


@relaxed
@given(seed=st.integers(0, 99), samples=st.integers(1, 80))
def test_how_often_it_is_right_rises_with_confidence_and_keeps_the_mean(seed: int, samples: int) -> None:
    draws = np.random.default_rng(seed)
    sure_S, right_S = draws.random(samples), draws.random(samples) < 0.6
    edge_K = edges(sure_S, 6)
    right_K = binned(sure_S, right_S, edge_K)
    assert (np.diff(right_K) >= 0).all()
    assert right_K.shape == edge_K.shape
    each_S = right_K[np.searchsorted(edge_K, sure_S, side="right") - 1]
    assert each_S.mean() == pytest.approx(right_S.mean())


def test_a_bin_without_samples_says_what_the_one_below_it_does() -> None:
    right_K = binned(np.array([0.1, 0.2, 0.9]), np.array([True, False, True]), np.array([0.0, 0.4, 0.6]))
    assert right_K.tolist() == [0.5, 0.5, 1.0]
