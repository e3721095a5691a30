"""The server half of `darknet`: the run after the cut, for which a bottleneck may stand, then the rest to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from splitrt.nn.darknet import POOLS, channels_after, check, kept_and_replaced, last_run, original, run
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Back, FeatureShape, Staged


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 2, keep: int = 0) -> Back:
    """As in the head."""
    check(cut, resolution, keep)
    runs = [run(number) for number in range(cut + 2, POOLS + 1)]
    body = Staged(*(nn.Sequential(layers) for layers in [*runs, last_run(classes)]))
    side = resolution // 2 ** (cut + 1)
    replaced = nn.Sequential(kept_and_replaced(cut, keep)[1])
    return Back(replaced, body, FeatureShape(channels_after(cut + 1), side, side))


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """As in the head, of a Back."""
    return adopt(build(**arguments), weights, original)
