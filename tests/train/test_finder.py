"""A gate before a detector: it learns from where something was found, and a half-hearted verdict weighs little."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch
from tiny import Heard

from splitrt.errors import ConfigError
from splitrt.nn.finder import Finder, FinderGraph, map_side, pooling
from splitrt.train.eyes import Searched, gathered
from splitrt.train.finder import beliefs, found_odds, train_finder
from splitrt.train.recipe import Schedule

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
SCHEDULE = Schedule(epochs=20, batch=16, learning_rate=0.01)
SIDE = 8
LEAST = 0.25


def searched(seed: int, share: float = 0.5) -> Searched:
    """In a share of the photographs one channel of four is higher in one place of the map, and was found there."""
    draws = np.random.default_rng(seed)
    features = draws.normal(size=(128, 4, 2 * SIDE, 2 * SIDE))
    scores_NKK = np.zeros((128, SIDE, SIDE), np.float32)
    for i in np.flatnonzero(draws.random(128) < share):
        row, column = draws.integers(0, SIDE, 2)
        features[i, 2, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 6
        scores_NKK[i, row, column] = 0.8
    return Searched(features_NFHW=features.astype(np.float16), scores_NKK=scores_NKK)


def test_it_finds_what_is_in_one_place_only() -> None:
    trained = train_finder(searched(0), searched(1), LEAST, SCHEDULE, 8, 0, Heard())
    unseen = searched(2)
    assert ((found_odds(trained, unseen) > 0) == (unseen.best_N >= LEAST)).mean() > 0.9


def test_a_devices_graph_gives_the_odds_that_were_certified() -> None:
    trained, unseen = Finder(4, 4).eval(), searched(2)
    pooled: npt.NDArray[np.float32] = unseen.features_NFHW.astype(np.float32)
    features = torch.from_numpy(pooled).repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        given = FinderGraph(trained, 2).eval()(features).numpy()
    np.testing.assert_allclose(given, found_odds(trained, unseen), atol=1e-4)


@pytest.mark.parametrize("side", [1, 7, 8, 16, 17, 31, 32, 88, 100])
def test_the_map_has_the_side_that_scores_are_gathered_on(side: int) -> None:
    pool = pooling(side)
    with torch.no_grad():
        logits_BKK, odds_B = Finder(2, 4).eval()(torch.zeros(1, 2, side // pool, side // pool))
    assert logits_BKK.shape == (1, map_side(side), map_side(side))
    assert odds_B.shape == (1,)


def test_a_score_that_only_just_counts_is_even_odds() -> None:
    belief_N = beliefs(np.array([0.0, 0.1, LEAST, 0.6, 1.0], np.float32), LEAST)
    assert belief_N[2] == pytest.approx(0.5)
    assert (belief_N.diff() > 0).all()
    assert torch.isfinite(belief_N).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_detector_that_says_the_same_of_all_teaches_nothing_and_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="positives and others to learn from"):
        train_finder(searched(0, share), searched(1), LEAST, SCHEDULE, 8, 0, Heard())


def test_a_place_has_the_best_score_of_the_boxes_with_their_middle_there() -> None:
    boxes = [(0.0, 0.5, 0.2, 0.9, 0.3), (0.1, 0.6, 0.3, 0.8, 0.7), (0.9, -0.4, 1.3, 0.4, 0.5)]
    scores_KK = gathered(np.array([(*box, 0.0) for box in boxes], np.float32), 4)
    wanted_KK = np.zeros((4, 4), np.float32)
    wanted_KK[2, 0], wanted_KK[0, 3] = 0.7, 0.5
    np.testing.assert_array_equal(scores_KK, wanted_KK)
    assert not gathered(np.zeros((0, 6), np.float32), 4).any()
