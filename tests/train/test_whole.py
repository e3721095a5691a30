"""The undivided model and its exits, on labels or from weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file
from tiny import Heard, images_of, recipe_of, same, state_of

from splitrt.errors import ConfigError
from splitrt.nn.split import Back, Front, Whole
from splitrt.train.exits import add_exits
from splitrt.train.recipe import Recipe
from splitrt.train.train import build
from splitrt.train.whole import load_weights, train_whole

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

TRAIN, TUNE = images_of("train", 128), images_of("tune", 64)


def pieces(recipe: Recipe) -> tuple[Front, Back]:
    torch.manual_seed(recipe.seed)
    return build(recipe)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_whole_learns_and_its_exits_with_it_where_they_have_a_share(share: float) -> None:
    recipe = recipe_of(whole={"epochs": 8}, exits={"whole_weight": share})
    front, back = pieces(recipe)
    assert recipe.exits is not None
    add_exits(front, Whole(front, back).eval(), recipe.exits, recipe)
    curve = train_whole(front, back, TRAIN, TUNE, recipe, Heard())
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[-1]["tune_whole"] > 0.5  # of four classes
    assert (curve[-1]["tune_exit_2"] > 0.5) == (share > 0)
    assert not any(module.training for piece in (front, back) for module in piece.modules())


def test_an_interrupted_training_goes_on_to_the_same_result(tmp_path: Path) -> None:
    recipe, file = recipe_of(), tmp_path / "whole.checkpoint"
    straight, broken, resumed = pieces(recipe), pieces(recipe), pieces(recipe)
    wanted = train_whole(*straight, TRAIN, TUNE, recipe, Heard())
    with pytest.raises(KeyboardInterrupt):
        train_whole(*broken, TRAIN, TUNE, recipe, Heard(("whole", 11)), file)
    assert train_whole(*resumed, TRAIN, TUNE, recipe, Heard(), file) == wanted
    assert same(state_of(*resumed), state_of(*straight))


def test_images_without_labels_train_no_whole() -> None:
    recipe = recipe_of()
    front, back = pieces(recipe)
    with pytest.raises(ConfigError, match=r"\[whole\] needs labels, data 'scenes' has none: use \[pretrained\]"):
        train_whole(front, back, images_of("train", is_labelled=False), TUNE, recipe, Heard())


def test_a_family_without_published_weights_says_so(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "some.safetensors")
    changes: dict[str, Any] = {"family": "mobilenet", "model": {"classes": 4, "resolution": 96}, "head": {}}
    recipe = recipe_of().model_copy(update=changes)
    with pytest.raises(ConfigError, match="family mobilenet has no published weights that it can read"):
        load_weights(*build(recipe), recipe, tmp_path / "some.safetensors")
