"""The server half of `resnet`: the bottleneck's decoder, the stages after the one it replaces, pooling, logits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.bottleneck import Decoder
from splitrt.nn.resnet import CHANNELS, blocks_per_stage, stage
from splitrt.nn.split import FeatureShape, Tail


def build(*, widths: Sequence[int], classes: int, decoder_hidden: int = 64, depth: int = 20, cut: int = 1) -> Tail:
    """depth and cut as in the head."""
    if cut not in (1, 2):
        raise ConfigError(f"resnet.cut must be 1 or 2, got {cut}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(cut + 2, 4):
        layers[f"layer{number}"] = stage(number, blocks_per_stage(depth))
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(CHANNELS[2], classes)
    return Tail(Decoder(max(widths), CHANNELS[cut], decoder_hidden), nn.Sequential(layers))


def replaced(features: FeatureShape, *, depth: int = 20, cut: int = 1) -> nn.Module:
    """The stage after the cut, for which encoder and decoder stand."""
    return stage(cut + 1, blocks_per_stage(depth))
