"""The undivided model and its exit, on labels or from weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file
from tiny import Heard, images_of, recipe_of, same, state_of

from splitrt.errors import ConfigError
from splitrt.nn.split import Back, Front
from splitrt.train.recipe import Recipe
from splitrt.train.train import build
from splitrt.train.whole import load_weights, train_whole

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

TRAIN, TUNE = images_of("train", 128), images_of("tune", 64)


def pieces(recipe: Recipe) -> tuple[Front, Back]:
    torch.manual_seed(recipe.seed)
    return build(recipe)


@pytest.mark.parametrize("has_exit", [True, False])
def test_the_whole_and_its_exit_learn(has_exit: bool) -> None:
    recipe = recipe_of(head={"exit": has_exit}, whole={"epochs": 8})
    front, back = pieces(recipe)
    curve = train_whole(front, back, TRAIN, TUNE, recipe, Heard())
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[-1]["tune_whole"] > 0.5  # of four classes
    assert ("tune_exit" in curve[-1]) == has_exit
    assert not any(module.training for piece in (front, back) for module in piece.modules())


def test_the_exit_s_loss_weighs_as_much_as_the_recipe_says() -> None:
    learnt = []
    for weight in (0.0, 1.0):
        recipe = recipe_of(whole={"epochs": 1, "exit_weight": weight, "weight_decay": 0.0})
        front, back = pieces(recipe)
        assert front.exit is not None
        before = {name: value.detach().clone() for name, value in front.exit.named_parameters()}
        train_whole(front, back, TRAIN, TUNE, recipe, Heard())
        learnt.append(any(not torch.equal(value, before[name]) for name, value in front.exit.named_parameters()))
    assert learnt == [False, True]


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
