"""The device half of `edgenext`: EdgeNeXt up to one of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.edgenext import original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Front
from splitrt.nn.stages import front

PIXELS = {"height": 256, "width": 256, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def build(*, classes: int = 1000, resolution: int = 256, cut: int = 2, variant: str = "xx_small") -> Front:
    """variant: xx_small, x_small, small or base. cut: stages passed, 1 to 4; they give 24 channels at 1/4 of the side,
    24 at 1/4, 48 at 1/8, 88 at 1/16 of xx_small.
    """
    row = stages(variant, resolution)
    return front("edgenext", row, cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """A Front's state dict, layer scales folded. `weights` has timm's names `stem.0.weight` ..;
    arguments as `build`'s.
    """
    return adopt(build(**arguments), weights, original)
