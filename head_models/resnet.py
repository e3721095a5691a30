"""The device half of `resnet`: CIFAR residual networks cut after the first or the second stage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.blocks import classifier
from splitrt.nn.bottleneck import SlimEncoder
from splitrt.nn.resnet import CHANNELS, blocks_per_stage, stage
from splitrt.nn.split import FeatureShape, Head


def build(
    *,
    widths: Sequence[int],
    hidden_per_group: int = 8,
    classes: int,
    resolution: int = 32,
    depth: int = 20,
    cut: int = 1,
) -> Head:
    """depth: 6n + 2; cut: after stage 1 (16 channels at full side) or 2 (32 channels at half)."""
    if cut not in (1, 2):
        raise ConfigError(f"resnet.cut must be 1 or 2, got {cut}")
    blocks = blocks_per_stage(depth)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, CHANNELS[0], 3, 1, 1, bias=False),
        bn1=nn.BatchNorm2d(CHANNELS[0]),
        relu=nn.ReLU(),
    )
    for number in range(1, cut + 1):
        layers[f"layer{number}"] = stage(number, blocks)
    channels, side = CHANNELS[cut - 1], resolution // cut
    exit_branch = classifier(channels, 64, classes)
    encoder = SlimEncoder(channels, widths, hidden_per_group)
    return Head(nn.Sequential(layers), exit_branch, encoder, FeatureShape(channels, side, side))
