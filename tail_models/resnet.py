"""The server half of `resnet`: the block that halves the map, for which a bottleneck may stand, then the rest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from splitrt.nn.pretrained import adopt
from splitrt.nn.resnet import CHANNELS, blocks_per_stage, check_cut, stage
from splitrt.nn.split import Back, FeatureShape, Staged

CUT = 1


def build(*, classes: int, resolution: int = 32, depth: int = 20, cut: int = CUT) -> Back:
    """As in the head."""
    check_cut(cut)
    blocks = blocks_per_stage(depth)
    next_stage = list(stage(cut + 1, blocks).named_children())
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if next_stage[1:]:
        layers[f"layer{cut + 1}"] = nn.Sequential(OrderedDict(next_stage[1:]))
    for number in range(cut + 2, 4):
        layers[f"layer{number}"] = stage(number, blocks)
    layers["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers["linear"] = nn.Linear(CHANNELS[2], classes)
    side = resolution // (2 * cut)
    return Back(next_stage[0][1], Staged(layers), FeatureShape(CHANNELS[cut], side, side))


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """As in the head, of a Back."""
    replaced = f"layer{arguments.get('cut', CUT) + 1}.0"

    def original(name: str) -> str:
        part, rest = name.split(".", 1)
        return f"{replaced}.{rest}" if part == "replaced" else rest

    return adopt(build(**arguments), weights, original)
