"""The exits' part of a calibration: what is certified, on what, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from tiny import images_of, recipe_of, split_of

from splitrt.calibration import ExitCurve
from splitrt.errors import CalibrationRefused
from splitrt.manifest import Exits
from splitrt.policy.cascade import cascade_of
from splitrt.policy.guarantee import binomial_tail
from splitrt.train.certify import certify_exits, check_unseen, exit_logits, fit_temperature, upper_bound
from splitrt.train.data import Images
from splitrt.train.distil import Split
from splitrt.train.recipe import Recipe
from splitrt.train.score import outputs_of

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

TUNE, CALIBRATE = images_of("tune", 60), images_of("calibrate", 120)


def certified(recipe: Recipe, split: Split, images: Images = CALIBRATE) -> tuple[ExitCurve, Exits]:
    whole_BN = outputs_of(split.whole, images, recipe.pixels)
    points = {(1, 2): whole_BN.argmax(1), (4, 4): (whole_BN.argmax(1) + 1) % 4}
    return certify_exits(split.head, split.whole, images, (images_of("train"), TUNE), whole_BN, points, recipe)


def ready(**tables: dict[str, float]) -> tuple[Recipe, Split]:
    recipe = recipe_of(**tables)
    split = split_of(recipe)
    split.head.eval()
    return recipe, split


@pytest.mark.parametrize("is_labelled", [True, False])
def test_the_curve_is_what_the_exits_do_on_these_images(is_labelled: bool) -> None:
    recipe, split = ready()
    images = images_of("calibrate", 120, is_labelled=is_labelled)
    curve, rule = certified(recipe, split, images)
    whole_S = outputs_of(split.whole, images, recipe.pixels).argmax(1)
    right_S = images.labels_B if is_labelled else whole_S
    cascade = cascade_of(
        exit_logits(split.head, images, recipe), [one.temperature for one in rule.chain], "top1", whole_S, right_S
    )
    level = rule.threshold
    assert (curve.share, curve.risk) == (cascade.share(level), cascade.risk(level))
    assert curve.risk <= curve.epsilon
    assert sum(curve.shares) == pytest.approx(curve.share)
    own_S = cascade.answer_ES[cascade.own_S(level), np.arange(120)]
    assert curve.accuracy == pytest.approx((own_S == right_S).mean())
    exits_S = cascade.place_S(level) < 2
    assert curve.differing >= (exits_S & (own_S != whole_S)).mean()
    assert [point.threshold for point in curve.curve] == sorted((p.threshold for p in curve.curve), reverse=True)
    assert [(one.width, one.bits) for one in curve.remote] == [(1, 2), (4, 4)]
    assert (rule.classes, len(rule.chain), rule.confidence) == (4, 2, "top1")


def test_temperatures_come_from_the_tune_split_alone() -> None:
    recipe, split = ready()
    _, rule = certified(recipe, split)
    wanted = [fit_temperature(one, TUNE.labels_B) for one in exit_logits(split.head, TUNE, recipe)]
    assert [one.temperature for one in rule.chain] == wanted
    with pytest.raises(CalibrationRefused, match="chosen on the tune split, which was not given"):
        certify_exits(
            split.head,
            split.whole,
            CALIBRATE,
            (),
            outputs_of(split.whole, CALIBRATE, recipe.pixels),
            {(1, 2): CALIBRATE.labels_B},
            recipe,
        )


def test_the_digest_is_of_these_images_and_no_others() -> None:
    recipe, split = ready()
    curve, _ = certified(recipe, split)
    assert curve.digest == certified(recipe, split)[0].digest
    flipped = dataclasses.replace(CALIBRATE, labels_B=(CALIBRATE.labels_B + 1) % 4)
    brighter = dataclasses.replace(CALIBRATE, frames_BHWC=CALIBRATE.frames_BHWC + 1)
    assert len({curve.digest, certified(recipe, split, flipped)[0].digest,
                certified(recipe, split, brighter)[0].digest}) == 3  # fmt: skip


def test_too_few_images_are_refused_with_the_number_needed() -> None:
    recipe, split = ready(exits={"epsilon": 0.02, "delta": 0.05})
    with pytest.raises(CalibrationRefused, match="needs at least 149 calibration samples, got 120"):
        certified(recipe, split)


@pytest.mark.parametrize("seen", ["train", "tune"])
def test_a_photograph_that_training_or_choices_saw_is_refused_under_any_name(seen: str) -> None:
    frames_BHWC = images_of(seen, 8).frames_BHWC.copy()
    frames_BHWC[3] = CALIBRATE.frames_BHWC[7]
    other = Images(frames_BHWC=frames_BHWC, labels_B=np.zeros(8, np.int64), split=seen)
    check_unseen(CALIBRATE, (images_of(seen, 8),))
    with pytest.raises(CalibrationRefused, match=f"got 1 of 120 that are in split '{seen}' as well"):
        check_unseen(CALIBRATE, (other,))


def made(seed: int, images: int) -> tuple[Float32, Int64]:
    """Noisy logits that favour the right class."""
    draws = np.random.default_rng(seed)
    labels_B = draws.integers(0, 6, images)
    logits_BN = draws.normal(size=(images, 6))
    logits_BN[np.arange(images), labels_B] += 1.5
    return logits_BN.astype(np.float32), labels_B


def test_overconfident_logits_get_a_temperature_that_undoes_it() -> None:
    logits_BN, labels_B = made(3, images=4000)
    fitted = fit_temperature(logits_BN, labels_B)
    assert fit_temperature(logits_BN * 4, labels_B) == pytest.approx(4 * fitted, rel=0.02)


@pytest.mark.parametrize(("losses", "samples"), [(0, 100), (7, 100), (50, 1000), (3, 3)])
def test_the_upper_bound_is_where_so_few_losses_become_unlikely(losses: int, samples: int) -> None:
    bound = upper_bound(losses, samples, 0.1)
    assert losses / samples <= bound <= 1
    if losses < samples:
        assert binomial_tail(losses, samples, bound) == pytest.approx(0.1, abs=1e-6)
