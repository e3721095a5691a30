from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.recalibration import SLOPES, Recalibration

relaxed = settings(deadline=None)


@relaxed
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=200))
def test_no_sequence_of_outcomes_turns_the_order_around(ended: list[tuple[float, bool]]) -> None:
    recalibration = Recalibration()
    for raw, is_hit in ended:
        recalibration.learn(raw, is_hit)
    likely_W = recalibration.apply(np.linspace(0, 1, 21))
    assert np.all(np.diff(likely_W) >= 0)
    assert np.all((likely_W > 0) & (likely_W < 1))
    assert SLOPES[0] <= recalibration.slope <= SLOPES[1]


def test_nothing_is_changed_before_anything_is_learnt() -> None:
    raw_W = np.array([0.01, 0.4, 0.99])
    assert np.allclose(Recalibration().apply(raw_W), raw_W)


@pytest.mark.parametrize(("said", "true"), [(0.9, 0.6), (0.5, 0.8)])
def test_a_model_that_is_wrong_is_put_right(said: float, true: float) -> None:
    recalibration, draw = Recalibration(), np.random.default_rng(0)
    for hit in draw.random(3_000) < true:
        recalibration.learn(said, bool(hit))
    assert recalibration.apply(np.array([said]))[0] == pytest.approx(true, abs=0.1)
