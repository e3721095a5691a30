"""The device half of `fastvit`: FastViT up to one of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.fastvit import original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Front
from splitrt.nn.stages import front

PIXELS = {"height": 256, "width": 256, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def build(*, classes: int = 1000, resolution: int = 256, cut: int = 2, variant: str = "t8") -> Front:
    """variant: t8, t12, s12, sa12, sa24, sa36 or ma36. cut: stages passed, 1 to 4; they give 48 channels at 1/4 of
    the side, 48 at 1/4, 96 at 1/8, 192 at 1/16 of t8.
    """
    row = stages(variant)
    return front("fastvit", row, cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """A Front's state dict, training's branches folded. `weights` has timm's names
    `stem.0.conv_kxk.0.conv.weight` ..; arguments as `build`'s.
    """
    return adopt(build(**arguments), weights, original)
