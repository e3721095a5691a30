from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.errors import CalibrationRefused, InvalidInput
from splitrt.policy.guarantee import GRID_L, NEVER, binomial_tail, certify, most_losses, samples_needed

LEVELS = st.floats(0.005, 0.5)


@given(st.integers(1, 60), LEVELS, st.integers(-1, 70))
def test_the_tail_is_the_sum_of_its_terms(samples: int, share: float, losses: int) -> None:
    terms = [math.comb(samples, k) * share**k * (1 - share) ** (samples - k) for k in range(samples + 1)]
    assert binomial_tail(losses, samples, share) == pytest.approx(sum(terms[: max(0, losses + 1)]), abs=1e-12)


@given(st.integers(1, 5_000), LEVELS, LEVELS)
def test_one_loss_more_than_the_most_does_not_certify(samples: int, epsilon: float, delta: float) -> None:
    most = most_losses(samples, epsilon, delta)
    assert binomial_tail(most, samples, epsilon) <= delta < binomial_tail(most + 1, samples, epsilon)


@given(LEVELS, LEVELS)
def test_as_many_samples_as_are_needed_do_and_one_less_does_not(epsilon: float, delta: float) -> None:
    needed = samples_needed(epsilon, delta)
    assert most_losses(needed, epsilon, delta) >= 0
    assert needed == 1 or most_losses(needed - 1, epsilon, delta) == -1


@given(st.integers(0, 1 << 30), st.integers(200, 2_000))
def test_what_is_certified_is_what_the_samples_say(seed: int, samples: int) -> None:
    draw = np.random.default_rng(seed)
    confidence_S = draw.random(samples)
    is_loss_S = draw.random(samples) > confidence_S
    found = certify(confidence_S, is_loss_S, 0.05, 0.1)
    through_S = confidence_S >= found.threshold
    assert found.passed == through_S.sum()
    assert found.losses == (through_S & is_loss_S).sum()
    assert found.losses <= most_losses(samples, 0.05, 0.1)
    looser_L = GRID_L[found.threshold > GRID_L]
    if len(looser_L) and found.threshold < NEVER:
        assert (is_loss_S & (confidence_S >= looser_L[0])).sum() > most_losses(samples, 0.05, 0.1)


def test_the_promise_is_kept_over_redrawn_calibrations_and_a_naive_threshold_breaks_it() -> None:
    draw = np.random.default_rng(7)
    confidence_P = draw.random(200_000) ** 0.25
    is_loss_P = draw.random(200_000) > confidence_P
    naive, ours, runs, epsilon, delta = 0, 0, 300, 0.02, 0.1
    for _ in range(runs):
        chosen = draw.integers(0, len(confidence_P), 1_000)
        confidence_S, is_loss_S = confidence_P[chosen], is_loss_P[chosen]
        ours += (
            is_loss_P & (confidence_P >= certify(confidence_S, is_loss_S, epsilon, delta).threshold)
        ).mean() > epsilon
        order = np.argsort(-confidence_S)
        most = np.flatnonzero(np.cumsum(is_loss_S[order]) <= epsilon * 1_000)[-1]
        naive += (is_loss_P & (confidence_P >= confidence_S[order[most]])).mean() > epsilon
    assert ours / runs <= delta
    assert naive / runs > 2 * delta


@pytest.mark.parametrize("is_loss", [True, False])
def test_all_and_no_losses_have_their_ends(is_loss: bool) -> None:
    found = certify(np.full(500, 0.9), np.full(500, is_loss), 0.02, 0.1)
    assert found.passed == (0 if is_loss else 500)
    assert found.losses == 0
    assert found.threshold == (pytest.approx(GRID_L[GRID_L > 0.9][-1]) if is_loss else GRID_L[-1])


def test_what_is_not_a_number_is_never_let_through() -> None:
    confidence_S = np.array([np.nan] * 400 + [0.9] * 600)
    found = certify(confidence_S, np.array([True] * 400 + [False] * 600), 0.02, 0.1)
    assert (found.passed, found.losses) == (600, 0)


def test_too_few_samples_are_refused_with_the_number_needed() -> None:
    with pytest.raises(CalibrationRefused, match="at least 114 calibration samples, got 113"):
        certify(np.ones(113), np.zeros(113, bool), 0.02, 0.1)


@pytest.mark.parametrize("levels", [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0), (-1, 0.5)])
def test_levels_out_of_range_are_refused(levels: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="above 0 and below 1"):
        certify(np.ones(1_000), np.zeros(1_000, bool), *levels)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one loss a confidence"):
        certify(np.ones(1_000), np.zeros(999, bool), 0.1, 0.1)
