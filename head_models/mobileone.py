"""The device half of `mobileone`: MobileOne up to one of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.mobileone import original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Front
from splitrt.nn.stages import front

PIXELS = {"height": 224, "width": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 2, variant: str = "s0") -> Front:
    """variant: s0 to s4. cut: stages passed, 1 to 4; they give 48 channels at 1/2 of the side, 48
    at 1/4, 128 at 1/8, 256 at 1/16 of s0.
    """
    row = stages(variant)
    return front("mobileone", row, cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """A Front's state dict, training's branches folded. `weights` has timm's names
    `stem.conv_kxk.0.conv.weight` ..; arguments as `build`'s.
    """
    return adopt(build(**arguments), weights, original)
