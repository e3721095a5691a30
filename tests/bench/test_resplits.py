"""Redrawn calibration sets on a made pool: the certified threshold keeps its bound where the naive one does not."""

from __future__ import annotations

import numpy as np
import pytest

from splitrt.bench.resplits import Pool, curve, naive, redraw
from splitrt.policy.cascade import cascade_of
from splitrt.policy.guarantee import GRID_L, NEVER

EPSILON, DELTA = 0.03, 0.1


@pytest.fixture(scope="module")
def pool() -> Pool:
    draws = np.random.default_rng(7)
    right_S = draws.integers(0, 4, 5_000)
    whole_S = np.where(draws.random(5_000) < 0.9, right_S, draws.integers(0, 4, 5_000))
    logits_SN = draws.normal(size=(5_000, 4))
    logits_SN[np.arange(5_000), right_S] += 4 * draws.random(5_000)
    return Pool(
        name="made",
        cascade=cascade_of([logits_SN], [1.0], "top1", whole_S, right_S),
        whole_S=whole_S,
        right_S=right_S,
    )


def test_certified_thresholds_keep_the_bound_and_naive_ones_do_not(pool: Pool) -> None:
    study = redraw(pool, 500, EPSILON, DELTA, 60)
    assert study["violations"] <= DELTA < study["violations_naive"]
    assert 0 < study["exit_share"] < study["exit_share_naive"]
    assert len(study["risks"]) == len(study["risks_naive"]) == 60


def test_the_naive_threshold_is_within_epsilon_on_its_own_images(pool: Pool) -> None:
    level = naive(pool.cascade, EPSILON)
    assert pool.cascade.risk(level) <= EPSILON
    looser = GRID_L[level > GRID_L][4]
    assert pool.cascade.risk(looser) > EPSILON
    assert naive(pool.cascade, -1.0) == NEVER


def test_accuracy_runs_from_the_whole_model_s_to_the_exit_s(pool: Pool) -> None:
    strict, loose = curve(pool, [NEVER, 0.0])
    assert strict["accuracy"] == pytest.approx((pool.whole_S == pool.right_S).mean())
    assert (strict["share"], strict["risk"]) == (0, 0)
    assert loose["share"] == 1
    assert loose["accuracy"] == pytest.approx((pool.cascade.answer_ES[0] == pool.right_S).mean())
