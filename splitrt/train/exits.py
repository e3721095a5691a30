"""Exits put after a stem that stays as it is, taught by the undivided model; by labels as well where there are any.

Shape letters: B batch, C H W frames, N classes.
Self-distillation of branches from the network's own last answer: Zhang et al., ICCV 2019, arXiv:1905.08094.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.nn.exits import Exits
from splitrt.nn.split import Front
from splitrt.train.checkpoint import Curve
from splitrt.train.data import Images
from splitrt.train.loop import fit
from splitrt.train.recipe import ExitsPhase, Recipe
from splitrt.train.score import Predict, score
from splitrt.watch import Watch


def add_exits(front: Front, whole: Predict, phase: ExitsPhase, recipe: Recipe) -> Exits:
    """Fresh ones after the stem, in place. Raises ConfigError where the network's answers are no classes."""
    if recipe.output.kind != "classes":
        raise ConfigError(f"exits answer with classes, output.kind of {recipe.name} is {recipe.output.kind!r}")
    front.stem.eval()  # a zero frame is no sample of any statistics
    with torch.inference_mode():
        classes = whole(torch.zeros(1, 3, recipe.pixels.height, recipe.pixels.width)).shape[1]
    torch.manual_seed(recipe.seed)
    front.exits = Exits(front.features, phase.chain, classes)
    front.exits.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return front.exits


def train_exits(
    front: Front,
    whole: Predict,
    train: Images,
    tune: Images,
    recipe: Recipe,
    watch: Watch,
    checkpoint: Path | None = None,
) -> Curve:
    """Train the exits in place; the stem stays. `whole` teaches: its answers are asked for, not its weights."""
    phase, exits = recipe.exits, front.exits
    assert phase is not None
    assert exits is not None
    if phase.label_weight and not train.has_labels:
        raise ConfigError(f"exits.label_weight must be 0 for data {recipe.data!r}, which has no labels")
    front.stem.eval()
    label_weight = phase.label_weight

    def loss_of(x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        with torch.no_grad():
            features_BFHW, wanted_BN = front.stem(x_BCHW), F.log_softmax(whole(x_BCHW).float(), dim=1)
        loss = torch.zeros(())
        for logits_BN in exits(features_BFHW):
            given_BN = F.log_softmax(logits_BN.float(), dim=1)
            loss = loss + phase.answer_weight * F.kl_div(given_BN, wanted_BN, log_target=True, reduction="batchmean")
            if label_weight:
                loss = loss + label_weight * F.nll_loss(given_BN, labels_B)
        return loss

    def after_epoch() -> dict[str, float]:
        return exit_scores(front, whole, tune, recipe)

    seed = recipe.seed + 3
    return fit("exits", [exits], loss_of, train, recipe.pixels, phase, seed, watch,
               checkpoint=checkpoint, after_epoch=after_epoch)  # fmt: skip


def exit_scores(front: Front, whole: Predict, tune: Images, recipe: Recipe) -> dict[str, float]:
    """Of each exit asked for every frame: what the learning curve shows."""
    return {
        f"tune_exit_{place + 1}": score(answers(front, place), whole, tune, recipe.pixels, recipe.output)
        for place in range(len(front.exits or ()))
    }


def answers(front: Front, place: int) -> Callable[[Tensor], Tensor]:
    """frames_BCHW to the logits_BN of one exit."""

    def predict(x_BCHW: Tensor) -> Tensor:
        assert front.exits is not None
        logits: Tensor = front.exits(front.stem(x_BCHW))[place]
        return logits

    return predict
