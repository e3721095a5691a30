"""The device half of `mnasnet`: MnasNet-B1 up to one of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.mnasnet import original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Front
from splitrt.nn.stages import front

PIXELS = {"height": 224, "width": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
OUTPUT = "classes"


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 3, width_percent: int = 100) -> Front:
    """cut: stages passed, 1 to 6; at width 100 these give 16 channels at 1/2 of the side, 24 at 1/4, 40 at 1/8, 80 at
    1/16, 96 at 1/16, 192 at 1/32. width_percent: the channel multiplier times 100.
    """
    return front("mnasnet", stages(width_percent), cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """A Front's state dict. `weights` has names `layers.0.weight` ..; arguments as `build`'s."""
    return adopt(build(**arguments), weights, original)
