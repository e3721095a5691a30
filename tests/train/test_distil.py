"""Distilling a bottleneck: what learns, what must not, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from tiny import Heard, images_of, recipe_of, same, split_of, state_of
from torch import nn

from splitrt.errors import ConfigError
from splitrt.train.data import to_tensor
from splitrt.train.distil import Split, finetune, joined, train_bottleneck
from splitrt.train.recipe import Recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

TRAIN, TUNE = images_of("train"), images_of("tune", 32)
FORMS = pytest.mark.parametrize("form", ["nested", "ensemble"])


def distilled(recipe: Recipe, split: Split | None = None, **options: Any) -> tuple[Split, list[dict[str, Any]]]:
    split = split or split_of(recipe)
    return split, train_bottleneck(split, TRAIN, TUNE, recipe, Heard(), **options)


def trainable(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@FORMS
@pytest.mark.parametrize("method", ["hnd", "ghnd"])
def test_the_loss_falls(form: str, method: str) -> None:
    recipe = recipe_of(seam={"form": form}, bottleneck={"method": method, "epochs": 4})
    _, curve = distilled(recipe)
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4]
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]


@FORMS
def test_the_split_comes_closer_to_the_whole(form: str) -> None:
    recipe = recipe_of(seam={"form": form}, bottleneck={"epochs": 20, "rate_weights": (0.0, 0.0)})
    x_BCHW = to_tensor(TUNE.frames_BHWC, recipe.pixels)

    def distances(split: Split) -> list[float]:
        with torch.inference_mode():
            wanted = split.whole(x_BCHW)
            return [
                float((joined(split, width, 4)(x_BCHW) - wanted).square().mean()) for width in recipe.seam.widths[-2:]
            ]

    fresh = split_of(recipe)
    for part in (fresh.head, fresh.tail, fresh.tiers):
        part.eval()
    before = distances(fresh)
    after = distances(distilled(recipe)[0])
    assert max(after) < min(before) / 2


@FORMS
@pytest.mark.parametrize("method", ["hnd", "ghnd"])
def test_stem_exits_body_and_teacher_are_untouched_bit_for_bit(form: str, method: str) -> None:
    recipe = recipe_of(seam={"form": form}, bottleneck={"method": method, "epochs": 1})
    split = split_of(recipe)
    assert split.head.exits is not None
    frozen = (split.head.stem, split.head.exits, split.tail.body, split.whole)
    before = state_of(*frozen)
    distilled(recipe, split)
    assert same(before, state_of(*frozen))


def test_encoder_decoder_gains_and_prior_all_learn() -> None:
    recipe = recipe_of(bottleneck={"epochs": 1})
    split = split_of(recipe)
    learning = (split.encoder, split.tail.decoder, split.tiers)
    before = [trainable(part) for part in learning]
    distilled(recipe, split)
    for part, old in zip(learning, before, strict=True):
        for name, value in part.named_parameters():
            assert not torch.equal(value, old[name]), name


@FORMS
@pytest.mark.parametrize(("places", "learns"), [((0,), 1), ((0, 1), 2), ((1,), 2)])
def test_only_the_links_of_the_widths_that_are_named_learn(form: str, places: tuple[int, ...], learns: int) -> None:
    seam = recipe_of(seam={"form": form}).seam
    recipe = recipe_of(
        seam={"form": form}, bottleneck={"epochs": 1, "widths": tuple(seam.widths[place] for place in places)}
    )
    split = split_of(recipe)
    links = [trainable(link) for link in split.encoder.links]
    distilled(recipe, split)
    changed = [
        any(not torch.equal(value, old[name]) for name, value in link.named_parameters())
        for link, old in zip(split.encoder.links, links, strict=True)
    ]
    assert changed == [True] * learns + [False] * (len(changed) - learns)


def test_a_price_on_the_rate_makes_frames_cheaper() -> None:
    x_BCHW = to_tensor(TUNE.frames_BHWC, recipe_of().pixels)
    rates = []
    for price in (0.0, 3.0):
        split, _ = distilled(
            recipe_of(bottleneck={"bits": (4,), "rate_weights": (price,), "epochs": 6}, seam={"bits": (4,)})
        )
        with torch.inference_mode():
            z_BZhw = split.encoder(split.head.stem(x_BCHW), 4)
            symbols = split.tiers.seen(z_BZhw, 4)
        rates.append(float(symbols.var(dim=(0, 2, 3)).mean()))
    assert rates[1] < 0.5 * rates[0]


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    runs = []
    for seed in (0, 0, 1):
        recipe = recipe_of(bottleneck={"epochs": 1}).model_copy(update={"seed": seed})
        split, curve = distilled(recipe, split_of(recipe_of()))
        runs.append((state_of(split.encoder, split.tail, split.tiers), curve))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not same(runs[0][0], runs[2][0])


def test_an_interrupted_distillation_goes_on_to_the_same_result(tmp_path: Path) -> None:
    recipe, file = recipe_of(), tmp_path / "bottleneck.checkpoint"
    whole_run, wanted = distilled(recipe)
    with pytest.raises(KeyboardInterrupt):
        train_bottleneck(split_of(recipe), TRAIN, TUNE, recipe, Heard(("bottleneck", 6)), file)
    assert file.is_file()
    resumed, curve = distilled(recipe, checkpoint=file)
    assert curve == wanted
    assert same(
        state_of(resumed.encoder, resumed.tail, resumed.tiers),
        state_of(whole_run.encoder, whole_run.tail, whole_run.tiers),
    )


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["hnd", "ghnd"])
def test_labels_may_help_by_either_method(method: str) -> None:
    recipe = recipe_of(bottleneck={"method": method, "epochs": 2, "label_weight": 0.5})
    _, curve = distilled(recipe)
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_without_a_label_weight_labels_are_not_looked_at() -> None:
    recipe = recipe_of(bottleneck={"epochs": 1})
    split, _ = distilled(recipe)
    other = split_of(recipe)
    train_bottleneck(other, images_of("train", is_labelled=False), TUNE, recipe, Heard())
    assert same(state_of(split.encoder, split.tail), state_of(other.encoder, other.tail))


def test_a_label_weight_on_images_without_labels_is_refused_before_anything_learns() -> None:
    unlabelled = images_of("train", is_labelled=False)
    recipe = recipe_of(bottleneck={"label_weight": 0.1}, finetune={"epochs": 1, "label_weight": 0.1})
    split, watch = split_of(recipe), Heard()
    with pytest.raises(ConfigError, match=r"bottleneck\.label_weight must be 0 for data 'scenes', which has no labels"):
        train_bottleneck(split, unlabelled, unlabelled, recipe, watch)
    with pytest.raises(ConfigError, match=r"finetune\.label_weight must be 0 for data 'scenes', which has no labels"):
        finetune(split, unlabelled, unlabelled, recipe, watch)
    assert watch.steps == []


def test_images_without_labels_are_scored_by_agreement() -> None:
    recipe = recipe_of(bottleneck={"epochs": 1})
    split = split_of(recipe)
    curve = train_bottleneck(
        split, images_of("train", is_labelled=False), images_of("tune", 32, is_labelled=False), recipe, Heard()
    )
    assert 0 <= curve[0]["tune_1"] <= 1
    assert {"tune_1", "tune_4"} <= set(curve[0])


# ── fine-tuning ─────────────────────────────────────────────────────────────────────────────────────


@FORMS
def test_fine_tuning_moves_decoder_and_body_and_nothing_else(form: str) -> None:
    tuning = {"epochs": 2, "batch": 16, "learning_rate": 0.003}
    recipe = recipe_of(seam={"form": form}, bottleneck={"epochs": 1}, finetune=tuning)
    split, _ = distilled(recipe)
    frozen = (split.head, split.tiers, split.whole)
    before, decoder, body = state_of(*frozen), trainable(split.tail.decoder), trainable(split.tail.body)
    curve = finetune(split, TRAIN, TUNE, recipe, Heard())
    assert same(before, state_of(*frozen))
    for part, old in ((split.tail.decoder, decoder), (split.tail.body, body)):
        assert all(not torch.equal(value, old[name]) for name, value in part.named_parameters())
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert {row["phase"] for row in curve} == {"finetune"}


def test_whatever_was_trained_the_parts_are_left_ready_to_answer() -> None:
    recipe = recipe_of(bottleneck={"epochs": 1}, finetune={"epochs": 1, "batch": 16})
    split, _ = distilled(recipe)
    finetune(split, TRAIN, TUNE, recipe, Heard())
    for part in (split.head, split.tail, split.tiers, split.whole):
        assert not any(module.training for module in part.modules())
