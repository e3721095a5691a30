"""Several exits under one level: what is counted covers whichever of them answers, at any thresholds above."""

from __future__ import annotations

import numpy as np
import pytest

from splitrt.errors import CalibrationRefused
from splitrt.policy.cascade import Cascade, cascade_of, certify_cascade
from splitrt.policy.guarantee import GRID_L, NEVER, certify


def made(seed: int, samples: int, exits: int = 2, classes: int = 4) -> Cascade:
    """Exits of rising skill before a whole model that is mostly right."""
    draws = np.random.default_rng(seed)
    right_S = draws.integers(0, classes, samples)
    whole_S = np.where(draws.random(samples) < 0.9, right_S, draws.integers(0, classes, samples))
    hard_S = draws.random(samples)
    logits = []
    for place in range(exits):
        logits_SN = draws.normal(size=(samples, classes))
        logits_SN[np.arange(samples), right_S] += (3.0 + place) * (1 - hard_S)
        logits.append(logits_SN)
    return cascade_of(logits, [1.0] * exits, "top1", whole_S, right_S)


@pytest.mark.parametrize("seed", range(4))
def test_no_thresholds_at_or_above_the_certified_level_lose_more_than_was_tested(seed: int) -> None:
    cascade, draws = made(seed, 3_000), np.random.default_rng(seed)
    certified = certify_cascade(cascade, 0.03, 0.1)
    sure_ES, level = cascade.confidence_ES, certified.threshold
    assert level < 1
    tested = float(((sure_ES >= level) & cascade.is_loss_ES).any(0).mean())
    assert certified.losses / 3_000 <= tested < 0.03
    for _ in range(20):  # thresholds of every exit and frame for itself, as a link would ask for them
        own_ES = np.maximum(level, draws.random(sure_ES.shape))
        reaches_ES = sure_ES >= own_ES
        first_S = reaches_ES.argmax(0)
        lost_S = reaches_ES.any(0) & cascade.is_loss_ES[first_S, np.arange(3_000)]
        assert lost_S.mean() <= tested


def test_one_exit_is_certified_as_it_would_be_alone() -> None:
    cascade = made(1, 2_000, exits=1)
    alone = certify(cascade.confidence_ES[0], cascade.is_loss_ES[0], 0.03, 0.1)
    assert certify_cascade(cascade, 0.03, 0.1) == alone
    assert alone.passed


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bound_is_violated_no_more_often_than_it_says(seed: int) -> None:
    pool = made(seed, 6_000)
    draws = np.random.default_rng(seed)
    draw = [pool.some(draws.integers(0, 6_000, 500)) for _ in range(200)]
    violated = [pool.risk(certify_cascade(one, 0.03, 0.1).threshold) > 0.03 for one in draw]
    assert np.mean(violated) <= 0.1


def test_the_first_exit_that_is_sure_answers_and_the_last_where_none_is() -> None:
    cascade = Cascade(
        confidence_ES=np.array([[0.9, 0.2, 0.2, np.nan], [0.1, 0.8, 0.3, np.nan]]),
        answer_ES=np.array([[0, 0, 0, 0], [1, 1, 1, 1]]),
        is_loss_ES=np.array([[True, False, True, True], [False, True, True, True]]),
    )
    assert cascade.place_S(0.5).tolist() == [0, 1, 2, 2]
    assert cascade.own_S(0.5).tolist() == [0, 1, 1, 1]
    assert (cascade.share(0.5), cascade.risk(0.5)) == (0.5, 0.5)
    assert (cascade.share(0.0), cascade.risk(0.0)) == (0.75, 0.5)


def test_exits_that_are_never_right_never_exit() -> None:
    right_S = np.zeros(300, np.int64)
    wrong_SN = np.tile([0.0, 90.0], (300, 1))
    certified = certify_cascade(cascade_of([wrong_SN] * 2, [1.0, 1.0], "margin", right_S, right_S), 0.02, 0.1)
    assert (certified.threshold, certified.passed) == (NEVER, 0)


def test_exits_that_lose_nothing_always_exit() -> None:
    right_S = np.zeros(300, np.int64)
    right_SN = np.tile([9.0, 0.0], (300, 1))
    certified = certify_cascade(cascade_of([right_SN], [1.0], "top1", right_S, right_S), 0.02, 0.1)
    assert (certified.threshold, certified.share) == (GRID_L[-1], 1)


def test_too_few_images_are_refused_with_the_number_needed() -> None:
    with pytest.raises(CalibrationRefused, match="needs at least 114 calibration samples, got 113"):
        certify_cascade(made(0, 113), 0.02, 0.1)
