"""Classifiers that are one row of stages: a device takes the first of them, a server the rest.

Shape letters: B batch, C channels, H W space.

    frame ── stage 1 ── .. ── stage cut ──│── stage cut + 1 ── .. ── last stage ── answer ── logits
             stem of a Front                  replaced         body of a Back

A family lists its stages once, each with its layers under the names that the usual checkpoints give them. The answer
is what follows the last stage. Dropout, which acts in training only, is left out, and batch norms keep torch's
momentum: the long averages of ImageNet's recipes would not follow a small training.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.split import Back, FeatureShape, Front, Staged

Layers = OrderedDict[str, nn.Module]

STRIDE = 32  # side of the frame over side of the last map


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """(B, .., H, W) -> (B, channels, side / stride, side / stride), where `side` is that of the frame."""

    layers: Layers
    channels: int
    stride: int

    def shape(self, resolution: int) -> FeatureShape:
        """What the stage gives of a frame of this side."""
        return FeatureShape(self.channels, resolution // self.stride, resolution // self.stride)


def front(family: str, stages: Sequence[Stage], *, cut: int, resolution: int, classes: int) -> Front:
    """The first `cut` stages. Raises ConfigError naming what makes no network."""
    _check(family, len(stages), cut, resolution, classes)
    layers: Layers = OrderedDict()
    for stage in stages[:cut]:
        layers |= stage.layers
    last = stages[cut - 1]
    return Front(nn.Sequential(layers), last.shape(resolution))


def back(family: str, stages: Sequence[Stage], answer: Layers, *, cut: int, resolution: int, classes: int) -> Back:
    """The stages from `cut` on and the answer. Raises ConfigError as `front` does."""
    _check(family, len(stages), cut, resolution, classes)
    replaced, *rest = stages[cut:]
    body = Staged(*(nn.Sequential(layers) for layers in [*(stage.layers for stage in rest), answer]))
    return Back(nn.Sequential(replaced.layers), body, replaced.shape(resolution))


def check_classes(family: str, classes: int) -> None:
    """Raises ConfigError; an answer asks before it makes its last layer, which torch would make without outputs."""
    if classes < 1:
        raise ConfigError(f"{family}.classes must be at least 1, got {classes}")


def inside(name: str) -> str:
    """A weight's name within its stage: `4.weight` of `stem.4.weight`, `replaced.4.weight` or `body.1.4.weight`."""
    piece, rest = name.split(".", 1)
    return rest.split(".", 1)[1] if piece == "body" else rest


def _check(family: str, stages: int, cut: int, resolution: int, classes: int) -> None:
    last = stages - 1  # the stage after the cut is the one that a bottleneck may stand for
    if cut not in range(1, last + 1):
        nearest = min(last, max(1, cut))
        raise ConfigError(f"{family}.cut must be 1 to {last} (stages before it), got {cut}; the nearest is {nearest}")
    if resolution % STRIDE or not 64 <= resolution <= 512:
        raise ConfigError(f"{family}.resolution must be a multiple of {STRIDE} from 64 to 512, got {resolution}")
    check_classes(family, classes)
