"""What is measured when a bundle is made: points on images of one split alone, and the exits where there are any."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from tiny import images_of, recipe_of, split_of

from splitrt.codec.tables import Tables
from splitrt.errors import ConfigError
from splitrt.train.calibrate import bottlenecks, calibrate
from splitrt.train.data import to_tensor
from splitrt.train.distil import Split, joined
from splitrt.train.recipe import Recipe
from splitrt.train.score import score
from splitrt.train.tables import trained_tables

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


CALIBRATE = images_of("calibrate", 24)
OTHERS = (images_of("train", 24), images_of("tune", 24))


def ready(form: str) -> tuple[Recipe, Split, Tables]:
    recipe = recipe_of(seam={"form": form})
    split = split_of(recipe)
    for part in (split.head, split.tail, split.tiers):
        part.eval()
    return recipe, split, trained_tables(split.head, split.tiers, images_of("train", 24), recipe)


@pytest.mark.parametrize("form", ["nested", "ensemble"])
def test_every_point_of_the_seam_is_measured_as_the_split_model_answers(form: str) -> None:
    recipe, split, tables = ready(form)
    calibration, _ = calibrate(split.head, split.tail, split.whole, tables, CALIBRATE, recipe, OTHERS)
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
    calibration, rule = calibrate(split.head, split.tail, split.whole, tables, unlabelled, recipe, OTHERS)
    assert (calibration.score, calibration.whole_accuracy) == ("agreement", 1.0)
    assert rule is not None  # exits are judged by agreement too
    assert calibration.exit is not None
    labelled, _ = calibrate(split.head, split.tail, split.whole, tables, CALIBRATE, recipe, OTHERS)
    assert labelled.score == "accuracy"


def test_a_head_without_exits_gets_no_rule() -> None:
    recipe = recipe_of(exits=None)
    split = split_of(recipe)
    for part in (split.head, split.tail, split.tiers):
        part.eval()
    tables = trained_tables(split.head, split.tiers, CALIBRATE, recipe)
    calibration, rule = calibrate(split.head, split.tail, split.whole, tables, CALIBRATE, recipe, OTHERS)
    assert rule is None
    assert calibration.exit is None
