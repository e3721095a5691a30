"""A setup that trains in a second, for the tests of this folder: ResNet-8 on small random images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splitrt.nn.split import Whole
from splitrt.train.data import Images
from splitrt.train.distil import Split
from splitrt.train.exits import add_exits
from splitrt.train.recipe import Recipe
from splitrt.train.train import build, insert

SIDE, CLASSES = 16, 4
Tables = dict[str, Any]


class Heard:
    """A watch that remembers, and may raise at a step."""

    def __init__(self, stop_at: tuple[str, int] | None = None) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self._stop_at = stop_at

    def line(self, text: str) -> None:
        self.lines.append(text)

    def step(self, phase: str, done: int, total: int) -> None:
        self.steps.append((phase, done, total))
        if (phase, done) == self._stop_at:
            raise KeyboardInterrupt


def recipe_of(**tables: Tables | None) -> Recipe:
    """Tables given here are merged into the tiny recipe's, None leaves one out; seam.form decides the rest of the
    seam.
    """
    table: Tables = {
        "name": "tiny",
        "version": "1",
        "family": "resnet",
        "model": {"classes": CLASSES, "depth": 8, "cut": 1, "resolution": SIDE},
        "pixels": {"height": SIDE, "width": SIDE, "mean": (0.5,) * 3, "std": (0.25,) * 3},
        "seam": {"widths": (1, 2, 4), "bits": (2, 3, 4), "hidden": 4, "decoder_hidden": 8},
        "whole": {"epochs": 2, "batch": 16, "learning_rate": 0.01},
        "bottleneck": {"epochs": 3, "batch": 16, "learning_rate": 0.01},
        "exits": {
            "chain": [{"channels": 8}, {"channels": 12, "expand": 2}],
            "epochs": 2,
            "batch": 16,
            "learning_rate": 0.01,
            "epsilon": 0.4,  # a few images will do
            "delta": 0.4,
        },
    }
    for name, changes in tables.items():
        table[name] = None if changes is None else table.get(name, {}) | changes
    if table["seam"].get("form") == "ensemble":
        table["seam"] |= {"widths": (1, 2, 3), "channels": 3}
    return Recipe.model_validate(table)


def images_of(split: str, count: int = 64, *, is_labelled: bool = True) -> Images:
    """Blocks of colour; the class is in the colour, so that something can be learnt."""
    draws = np.random.default_rng(sum(split.encode()))
    labels_B = draws.integers(0, CLASSES, count)
    coarse = draws.integers(0, 128, (count, 4, 4, 3)) + 30 * labels_B[:, None, None, None]
    frames_BHWC = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2).astype(np.uint8)
    return Images(frames_BHWC=frames_BHWC, labels_B=labels_B if is_labelled else np.full(count, -1), split=split)


def split_of(recipe: Recipe) -> Split:
    """Fresh pieces with a fresh bottleneck between them; normalisations as after training, not the identity."""
    torch.manual_seed(recipe.seed)
    front, back = build(recipe)
    for piece in (front, back):
        for layer in piece.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.get_buffer("running_mean"), 0, 0.1)
                nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2)
        piece.eval()
    if recipe.exits is not None:
        add_exits(front, Whole(front, back), recipe.exits, recipe).eval()
    return insert(recipe, front, back)


def state_of(*modules: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and statistics."""
    return {
        f"{place}.{name}": value.clone()
        for place, module in enumerate(modules)
        for name, value in module.state_dict().items()
    }


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
