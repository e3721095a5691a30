"""Exits after a stem that stays: taught by the undivided model, whose weights nobody asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from tiny import CLASSES, Heard, images_of, recipe_of, same, state_of
from torch import Tensor
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.manifest import Output
from splitrt.nn.split import Front, Whole
from splitrt.train.exits import add_exits, answers, train_exits
from splitrt.train.recipe import Recipe
from splitrt.train.train import build

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
TRAIN, TUNE = images_of("train", 128), images_of("tune", 64)
UNLABELLED = images_of("train", 128, is_labelled=False)


def colour(x_BCHW: Tensor) -> Tensor:
    """A teacher with no weights at all: the class is how bright the frame is."""
    mean_B = (x_BCHW.mean((1, 2, 3)) * 0.25 + 0.5) * 255
    centres_N = 64 + 30 * torch.arange(CLASSES)
    return -((mean_B[:, None] - centres_N) ** 2) / 100


def ready(**tables: Any) -> tuple[Recipe, Front]:
    recipe = recipe_of(**tables)
    torch.manual_seed(0)
    front, back = build(recipe)
    assert recipe.exits is not None
    add_exits(front, Whole(front, back).eval(), recipe.exits, recipe)
    return recipe, front


def test_exits_learn_what_the_teacher_says_without_a_label_and_the_stem_stays() -> None:
    recipe, front = ready(exits={"epochs": 10})
    before = state_of(front.stem)
    train_exits(front, colour, UNLABELLED, TUNE, recipe, Heard())
    assert same(before, state_of(front.stem))
    x_BCHW = torch.randn(64, 3, 1, 1).expand(64, 3, 16, 16) * 0.4
    with torch.inference_mode():
        for place in (0, 1):
            agreed = (answers(front, place)(x_BCHW).argmax(1) == colour(x_BCHW).argmax(1)).float().mean()
            assert agreed > 0.5  # of four classes


def test_labels_count_by_their_weight_and_are_refused_where_there_are_none() -> None:
    wrong = F.one_hot(torch.zeros(1, dtype=torch.int64), CLASSES).float() * 9

    def of(weight: float) -> float:
        recipe, front = ready(exits={"label_weight": weight, "answer_weight": 0.1, "epochs": 8})
        curve = train_exits(front, lambda x: wrong.expand(len(x), -1), TRAIN, TUNE, recipe, Heard())
        return float(curve[-1]["tune_exit_2"])

    assert of(3.0) > of(0.0) + 0.2
    recipe, front = ready(exits={"label_weight": 0.5})
    with pytest.raises(ConfigError, match=r"exits\.label_weight must be 0 for data 'scenes'"):
        train_exits(front, colour, UNLABELLED, TUNE, recipe, Heard())


def test_an_interrupted_training_goes_on_to_the_same_result(tmp_path: Path) -> None:
    recipe, straight = ready()
    wanted = train_exits(straight, colour, TRAIN, TUNE, recipe, Heard())
    _, broken = ready()
    with pytest.raises(KeyboardInterrupt):
        train_exits(broken, colour, TRAIN, TUNE, recipe, Heard(("exits", 11)), tmp_path / "kept")
    _, resumed = ready()
    assert train_exits(resumed, colour, TRAIN, TUNE, recipe, Heard(), tmp_path / "kept") == wanted
    assert resumed.exits is not None
    assert straight.exits is not None
    assert same(state_of(straight.exits), state_of(resumed.exits))


def test_a_detector_gets_no_exits() -> None:
    recipe = recipe_of()
    recipe = recipe.model_copy(update={"output": Output(kind="boxes")})
    front, back = build(recipe)
    assert recipe.exits is not None
    with pytest.raises(ConfigError, match=r"exits answer with classes, output\.kind of tiny is 'boxes'"):
        add_exits(front, Whole(front, back), recipe.exits, recipe)
