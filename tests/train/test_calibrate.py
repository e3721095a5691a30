"""What is measured when a bundle is made: the exit's rule on made logits, points on images of one split alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch
from tiny import images_of, recipe_of, split_of

from splitrt.codec.tables import Tables
from splitrt.errors import ConfigError
from splitrt.train.calibrate import MOST_CHANGED, bottlenecks, calibrate, exit_threshold, fit_temperature
from splitrt.train.data import to_tensor
from splitrt.train.distil import Split, joined
from splitrt.train.recipe import Recipe
from splitrt.train.score import score
from splitrt.train.tables import trained_tables

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def made(seed: int, images: int = 400, skill: float = 1.5) -> tuple[Float32, Int64]:
    """Noisy logits that favour the right class by `skill`."""
    draws = np.random.default_rng(seed)
    labels_B = draws.integers(0, 6, images)
    logits_BN = draws.normal(size=(images, 6))
    logits_BN[np.arange(images), labels_B] += skill
    return logits_BN.astype(np.float32), labels_B


@pytest.mark.parametrize("seed", range(5))
def test_hardly_a_frame_that_exits_would_have_been_answered_otherwise(seed: int) -> None:
    exit_BN, labels_B = made(seed, skill=4.0)
    whole_BN, _ = made(seed, skill=6.0)
    rule, curve = exit_threshold(exit_BN, whole_BN, labels_B)
    scaled = exit_BN / rule.temperature
    weights = np.exp(scaled - scaled.max(1, keepdims=True))
    exits_B = (weights / weights.sum(1, keepdims=True)).max(1) >= rule.threshold - 1e-6
    assert exits_B.mean() == pytest.approx(curve.share_at_threshold, abs=0.01)
    assert exits_B.any()
    changed = (exit_BN.argmax(1) != whole_BN.argmax(1))[exits_B]
    assert changed.sum() <= MOST_CHANGED * exits_B.sum() + 1


def test_an_exit_that_always_differs_never_exits() -> None:
    _, labels_B = made(0)
    whole_BN = np.eye(6, dtype=np.float32)[labels_B]
    rule, curve = exit_threshold(np.roll(whole_BN, 1, axis=1) * 9, whole_BN, labels_B)
    assert rule.threshold > 1
    assert curve.share_at_threshold == 0


def test_overconfident_logits_get_a_temperature_that_undoes_it() -> None:
    logits_BN, labels_B = made(3, images=4000)
    fitted = fit_temperature(logits_BN, labels_B)
    assert fit_temperature(logits_BN * 4, labels_B) == pytest.approx(4 * fitted, rel=0.02)


# ── points ──────────────────────────────────────────────────────────────────────────────────────────

CALIBRATE = images_of("calibrate", 24)


def ready(form: str) -> tuple[Recipe, Split, Tables]:
    recipe = recipe_of(seam={"form": form})
    split = split_of(recipe)
    for part in (split.head, split.tail, split.tiers):
        part.eval()
    return recipe, split, trained_tables(split.head, split.tiers, images_of("train", 24), recipe)


@pytest.mark.parametrize("form", ["nested", "ensemble"])
def test_every_point_of_the_seam_is_measured_as_the_split_model_answers(form: str) -> None:
    recipe, split, tables = ready(form)
    calibration, _ = calibrate(split.head, split.tail, split.whole, tables, CALIBRATE, recipe)
    assert [(point.width, point.bits) for point in calibration.points] == [
        (width, bits) for width in recipe.seam.widths for bits in recipe.seam.bits
    ]
    for point in calibration.points:
        predict = joined(split, point.width, point.bits)
        wanted = score(predict, split.whole, CALIBRATE, recipe.pixels, recipe.output)
        assert point.accuracy == pytest.approx(wanted, abs=1.01 / len(CALIBRATE))  # a value at a step's edge
        assert 0 < point.payload_bytes_mean <= point.payload_bytes_p95 * 2


@pytest.mark.parametrize("form", ["nested", "ensemble"])
def test_bottlenecks_of_images_are_the_encoder_s_at_each_width(form: str) -> None:
    recipe, split, _ = ready(form)
    given = bottlenecks(split.head, CALIBRATE, recipe)
    with torch.inference_mode():
        features = split.head.stem(to_tensor(CALIBRATE.frames_BHWC, recipe.pixels))
        for width, z_BZhw in zip(recipe.seam.widths, given, strict=True):
            np.testing.assert_allclose(z_BZhw, split.encoder(features, width).numpy(), atol=1e-5)


@pytest.mark.parametrize("split_name", ["train", "tune"])
def test_images_that_training_saw_are_refused(split_name: str) -> None:
    recipe, split, tables = ready("nested")
    with pytest.raises(ConfigError, match=f"training did not see, got split '{split_name}'"):
        calibrate(split.head, split.tail, split.whole, tables, images_of(split_name, 8), recipe)


def test_without_labels_points_are_agreement_and_the_whole_agrees_with_itself() -> None:
    recipe, split, tables = ready("nested")
    unlabelled = images_of("calibrate", 24, is_labelled=False)
    calibration, rule = calibrate(split.head, split.tail, split.whole, tables, unlabelled, recipe)
    assert (calibration.score, calibration.whole_accuracy) == ("agreement", 1.0)
    assert rule is not None  # the exit is judged by agreement too
    assert calibration.exit is not None
    labelled, _ = calibrate(split.head, split.tail, split.whole, tables, CALIBRATE, recipe)
    assert labelled.score == "accuracy"


def test_a_head_without_an_exit_gets_no_rule() -> None:
    recipe = recipe_of(head={"exit": False})
    split = split_of(recipe)
    for part in (split.head, split.tail, split.tiers):
        part.eval()
    tables = trained_tables(split.head, split.tiers, CALIBRATE, recipe)
    calibration, rule = calibrate(split.head, split.tail, split.whole, tables, CALIBRATE, recipe)
    assert rule is None
    assert calibration.exit is None
