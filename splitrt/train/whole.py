"""The undivided model, and its exits where they are trained with it: on labels, or from published weights."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from splitrt import families
from splitrt.errors import ConfigError
from splitrt.nn.split import Back, Front, Whole
from splitrt.train.checkpoint import Curve
from splitrt.train.data import Images
from splitrt.train.exits import exit_scores
from splitrt.train.loop import fit
from splitrt.train.recipe import Recipe
from splitrt.train.score import score
from splitrt.watch import Watch


def train_whole(
    front: Front, back: Back, train: Images, tune: Images, recipe: Recipe, watch: Watch, checkpoint: Path | None = None
) -> Curve:
    """Train all pieces together, in place."""
    phase = recipe.whole
    assert phase is not None
    if not train.has_labels:
        raise ConfigError(f"[whole] needs labels, data {recipe.data!r} has none: use [pretrained]")
    whole, share = Whole(front, back), recipe.exits.whole_weight if recipe.exits else 0.0

    def loss_of(x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        features_BFHW = front.stem(x_BCHW)
        smooth = phase.label_smoothing
        loss = F.cross_entropy(back.body(back.replaced(features_BFHW)), labels_B, label_smoothing=smooth)
        if front.exits is not None and share:
            for early_BN in front.exits(features_BFHW):
                loss = loss + share * F.cross_entropy(early_BN, labels_B, label_smoothing=smooth)
        return loss

    def after_epoch() -> dict[str, float]:
        scores = {"tune_whole": score(whole, whole, tune, recipe.pixels, recipe.output)}
        return scores | exit_scores(front, whole, tune, recipe)

    return fit("whole", [front, back], loss_of, train, recipe.pixels, phase, recipe.seed, watch,
               checkpoint=checkpoint, after_epoch=after_epoch)  # fmt: skip


def load_weights(front: Front, back: Back, recipe: Recipe, file: Path) -> None:
    """Published weights into the pieces. Raises ConfigError where file or names are not what the family wants."""
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"weights must be a safetensors file, got {file}") from error
    for piece, module, arguments in (
        (front, families.head_module(recipe.family), recipe.model | recipe.head),
        (back, families.tail_module(recipe.family), recipe.model | recipe.tail),
    ):
        if not hasattr(module, "pretrained"):
            raise ConfigError(f"family {recipe.family} has no published weights that it can read")
        piece.load_state_dict(module.pretrained(weights, **arguments), strict=False)
        piece.eval()
