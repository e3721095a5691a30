"""The device half of `mobilenetv4`: MobileNetV4's convolutional networks up to one of their stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.mobilenetv4 import original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Front
from splitrt.nn.stages import front

PIXELS = {"height": 224, "width": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
OUTPUT = "classes"


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 3, size: str = "small") -> Front:
    """size: small, medium or large. cut: stages passed, 1 to 5; the small one's give 32 channels at 1/2 of the side,
    32 at 1/4, 64 at 1/8, 96 at 1/16, 128 at 1/32.
    """
    return front("mobilenetv4", stages(size), cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """A Front's state dict. `weights` has names `conv_stem.weight` ..; arguments as `build`'s."""
    return adopt(build(**arguments), weights, original)
