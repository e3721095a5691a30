"""The server half of `resnet`: the bottleneck's decoder, the stages after the cut, pooling and logits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from splitrt.nn.bottleneck import Decoder
from splitrt.nn.resnet import CHANNELS, blocks_per_stage, stage
from splitrt.nn.split import FeatureShape, Tail


def build(
    *,
    features: FeatureShape,
    widths: Sequence[int],
    classes: int,
    decoder_hidden: int = 32,
    depth: int = 20,
    cut: int = 1,
) -> Tail:
    """features: the shape at the cut, as the head states it; depth and cut as in the head."""
    blocks = blocks_per_stage(depth)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(cut + 1, 4):
        layers[f"layer{number}"] = stage(number, blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(CHANNELS[2], classes)
    return Tail(Decoder(max(widths), features.channels, decoder_hidden), nn.Sequential(layers))
