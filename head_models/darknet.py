"""The device half of `darknet`: Tiny Darknet up to its first, second or third max-pool."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from splitrt.nn.darknet import Layers, channels_kept, check, kept_and_replaced, original, run
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import FeatureShape, Front

PIXELS = {"height": 224, "width": 224, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 2, keep: int = 0) -> Front:
    """cut: max-pools passed, 1 (16 channels at 1/2 of the side), 2 (32 at 1/4) or 3 (128 at 1/8); keep: convolutions
    of the run after it that the device computes as well. The fewer are left to a bottleneck, the easier it learns.
    """
    check(cut, resolution, keep)
    layers: Layers = OrderedDict()
    for number in range(1, cut + 1):
        layers |= run(number)
    layers |= kept_and_replaced(cut, keep)[0]
    channels, side = channels_kept(cut, keep), resolution // 2**cut
    return Front(nn.Sequential(layers), FeatureShape(channels, side, side))


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """A Front's state dict. `weights` has names `features.0.weight` ..; arguments as `build`'s."""
    return adopt(build(**arguments), weights, original)
