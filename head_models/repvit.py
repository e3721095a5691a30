"""The device half of `repvit`: RepViT up to one of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.pretrained import adopt
from splitrt.nn.repvit import original, stages
from splitrt.nn.split import Front
from splitrt.nn.stages import front

PIXELS = {"height": 224, "width": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 2, variant: str = "m0_9") -> Front:
    """variant: m0_9, m1_0, m1_1, m1_5 or m2_3. cut: stages passed, 1 to 4; they give 48 channels at 1/4 of the side,
    48 at 1/4, 96 at 1/8, 192 at 1/16 of m0_9.
    """
    row = stages(variant)
    return front("repvit", row, cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """A Front's state dict, training's branches folded. `weights` has timm's names
    `stem.conv1.c.weight` ..; arguments as `build`'s.
    """
    return adopt(build(**arguments), weights, original)
