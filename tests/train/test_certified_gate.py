"""A gate's certificate: too little to certify from is refused, and every stream has a defined end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch
from tiny import Heard

from splitrt.errors import CalibrationRefused, ConfigError
from splitrt.nn.filter import FilterGraph
from splitrt.policy.guarantee import NEVER, most_losses
from splitrt.train.eyes import Seen
from splitrt.train.filter import FilterPhase, FilterRecipe, odds_of, train_filter
from splitrt.train.gate import certified, check_apart, raised, split_digest

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
DIGEST = "0" * 64


def stream(positives: int, negatives: int, apart: float = 3.0) -> tuple[Float32, Bool]:
    """Odds that are `apart` higher for positives."""
    draws = np.random.default_rng(positives)
    is_positive_N = np.arange(positives + negatives) < positives
    return (draws.normal(size=len(is_positive_N)) + apart * is_positive_N).astype(np.float32), is_positive_N


def test_the_record_counts_what_the_threshold_does() -> None:
    odds_N, is_positive_N = stream(300, 500)
    threshold, record = certified(odds_N, is_positive_N, 0.9, 0.1, DIGEST)
    stopped_N = 1 / (1 + np.exp(-odds_N.astype(np.float64))) <= 1 - threshold
    assert record.lost == (stopped_N & is_positive_N).sum() <= most_losses(300, 0.1, 0.1)
    assert record.stopped == (stopped_N & ~is_positive_N).sum() > 450
    assert (record.positives, record.negatives) == (300, 500)


def test_what_is_stopped_grows_as_fewer_positives_are_kept() -> None:
    _, record = certified(*stream(300, 500), 0.9, 0.1, DIGEST)
    stopped = [point.stopped for point in record.curve if point.stopped is not None]
    assert stopped == sorted(stopped, reverse=True)


def test_a_threshold_is_raised_while_enough_is_stopped_and_never_lowered() -> None:
    odds_N, is_positive_N = stream(300, 500)
    floor, plain = certified(odds_N, is_positive_N, 0.9, 0.1, DIGEST)
    threshold, record = certified(odds_N, is_positive_N, 0.9, 0.1, DIGEST, stops=0.6)
    assert threshold > floor
    assert record.lost < plain.lost
    assert 300 <= record.stopped < 320
    assert certified(odds_N, is_positive_N, 0.9, 0.1, DIGEST, stops=0.999) == (floor, plain)


@pytest.mark.parametrize("negatives", [[], [0.2, 0.4], [0.0]])
def test_nothing_is_raised_where_too_little_would_be_stopped(negatives: list[float]) -> None:
    assert raised(0.9, np.array(negatives), 0.5) == 0.9
    assert raised(NEVER, np.array(negatives), 0.5) == NEVER


@pytest.mark.parametrize("positives", [0, 21])
def test_too_few_positives_are_refused_with_the_number_needed(positives: int) -> None:
    with pytest.raises(CalibrationRefused, match=f"at least 22 calibration samples, got {positives}"):
        certified(*stream(positives, 100), 0.9, 0.1, DIGEST)


def test_positives_alone_are_certified_and_nothing_is_said_of_negatives() -> None:
    _, record = certified(*stream(50, 0), 0.9, 0.1, DIGEST)
    assert (record.negatives, record.stopped) == (0, 0)
    assert {point.stopped for point in record.curve} == {None}


def test_a_gate_that_tells_nothing_apart_never_stops() -> None:
    odds_N = np.full(80, -40, np.float32)
    threshold, record = certified(odds_N, np.arange(80) < 40, 0.9, 0.1, DIGEST)
    assert (threshold, record.stopped) == (NEVER, 0)


def test_nan_is_kept() -> None:
    odds_N, is_positive_N = stream(60, 60)
    threshold, record = certified(np.full_like(odds_N, np.nan), is_positive_N, 0.9, 0.1, DIGEST)
    assert (record.lost, record.stopped) == (0, 0)
    assert threshold > 0


def test_a_calibration_split_that_overlaps_training_is_refused() -> None:
    samples = [np.full((2, 2), value, np.uint8) for value in range(5)]
    check_apart(samples[:3], samples[3:])
    with pytest.raises(CalibrationRefused, match="1 of 3 are among them"):
        check_apart(samples[:3], samples[2:])


def test_a_splits_digest_is_of_its_samples_whatever_their_order() -> None:
    samples = [np.full((2, 2), value, np.uint8) for value in range(5)]
    assert split_digest(samples) == split_digest(samples[::-1]) != split_digest(samples[1:])


# ── a filter on features ────────────────────────────────────────────────────────────────────────────

RECIPE = FilterRecipe(
    name="tiny",
    version="1",
    bundle="photos",
    data="scenes",
    positives=("b",),
    gate=FilterPhase(epochs=4, batch=16, learning_rate=0.01, width=4),
)
IS_IN = torch.tensor([False, True])


def seen(seed: int, labels: tuple[int, ...] = (0, 1)) -> Seen:
    """One channel of four is higher for the positives."""
    draws = np.random.default_rng(seed)
    labels_N = draws.choice(labels, 96).astype(np.int64)
    features = draws.normal(size=(96, 4, 8, 8))
    features[:, 2] += 1.5 * labels_N[:, None, None]
    return Seen(features_NFHW=features.astype(np.float16), labels_N=labels_N)


def test_a_filter_learns_what_lies_in_the_features() -> None:
    heard = Heard()
    trained = train_filter(seen(0), seen(1), IS_IN, RECIPE, heard)
    unseen = seen(2)
    assert ((odds_of(trained, unseen, IS_IN) > 0) == (unseen.labels_N == 1)).mean() > 0.9
    assert heard.steps[-1] == ("gate", 24, 24)


def test_a_filter_that_is_distilled_believes_the_undivided_model_more_than_a_wrong_label() -> None:
    right, unseen = seen(0), seen(2)
    wrong = Seen(
        features_NFHW=right.features_NFHW,
        labels_N=1 - right.labels_N,
        beliefs_NC=np.eye(2, dtype=np.float32)[right.labels_N],
    )
    recipe = RECIPE.model_copy(update={"gate": RECIPE.gate.model_copy(update={"distil": 0.9})})
    odds_N = odds_of(train_filter(wrong, seen(1), IS_IN, recipe, Heard()), unseen, IS_IN)
    assert ((odds_N > 0) == (unseen.labels_N == 1)).mean() > 0.9


@pytest.mark.parametrize("labels", [(0,), (1,)])
def test_a_single_class_teaches_a_gate_nothing_and_is_refused(labels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="positives and others to learn from"):
        train_filter(seen(0, labels), seen(1), IS_IN, RECIPE, Heard())


def test_a_devices_filter_gives_the_odds_that_were_certified() -> None:
    trained = train_filter(seen(0), seen(1), IS_IN, RECIPE, Heard())
    unseen = seen(2)
    pooled = torch.from_numpy(unseen.features_NFHW.astype(np.float32))
    features = pooled.repeat_interleave(3, 2).repeat_interleave(3, 3)
    with torch.no_grad():
        given = FilterGraph(trained, 3, IS_IN).eval()(features).numpy()
    np.testing.assert_allclose(given, odds_of(trained, unseen, IS_IN), atol=1e-4)
