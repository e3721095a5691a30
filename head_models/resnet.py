"""The device half of `resnet`: CIFAR residual networks cut after the first or the second stage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from splitrt.nn.pretrained import adopt
from splitrt.nn.resnet import CHANNELS, blocks_per_stage, check_cut, stage
from splitrt.nn.split import FeatureShape, Front

PIXELS = {"height": 32, "width": 32, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def build(*, classes: int, resolution: int = 32, depth: int = 20, cut: int = 1) -> Front:
    """depth: 6n + 2; cut: after stage 1 (16 channels at full side) or 2 (32 channels at half)."""
    check_cut(cut)
    blocks = blocks_per_stage(depth)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, CHANNELS[0], 3, 1, 1, bias=False),
        bn1=nn.BatchNorm2d(CHANNELS[0]),
        relu=nn.ReLU(),
    )
    for number in range(1, cut + 1):
        layers[f"layer{number}"] = stage(number, blocks)
    channels, side = CHANNELS[cut - 1], resolution // cut
    return Front(nn.Sequential(layers), FeatureShape(channels, side, side))


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """The state dict of a Front, of a checkpoint with names `conv1.weight`, `layer1.0..`; arguments as
    `build`'s.
    """
    return adopt(build(**arguments), weights, lambda name: name.removeprefix("stem."))
