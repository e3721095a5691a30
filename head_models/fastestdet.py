"""The device half of `fastestdet`: one convolution and a max-pool down to 1/4 of the frame's side, or more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from splitrt.nn.blocks import conv_bn
from splitrt.nn.fastestdet import CANDIDATES, CHANNELS, check, kept_and_replaced, original
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import FeatureShape, Front

FIRST = "stem.0.0.weight"

PIXELS = {"height": 352, "width": 352, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "fit": "stretch"}
OUTPUT = "boxes"


def build(*, classes: int = 80, resolution: int = 352, candidates: int = CANDIDATES, keep: int = 0) -> Front:
    """resolution: side of the square frame, a multiple of 32 from 96 to 640; keep: units of the stage at 1/8 of it that
    the device computes as well, 0 to 3. The fewer are left to a bottleneck, the easier it learns.
    """
    check(resolution, candidates, keep)
    stem = nn.Sequential(conv_bn(3, CHANNELS[0], 3, stride=2), nn.MaxPool2d(3, 2, 1))
    if not keep:
        return Front(stem, FeatureShape(CHANNELS[0], resolution // 4, resolution // 4))
    stem.add_module("kept", kept_and_replaced(keep)[0])
    return Front(stem, FeatureShape(CHANNELS[1], resolution // 8, resolution // 8))


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """The state dict of a Front; names in `weights` are `backbone.first_conv..`; arguments as `build`'s."""
    adopted = adopt(build(**arguments), weights, original)
    adopted[FIRST] = adopted[FIRST].flip(1)  # trained on BGR, and our frames are RGB
    return adopted
