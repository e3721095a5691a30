"""The server half of `edgenext`: the stage after the cut, for which a bottleneck may stand, then the rest to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.edgenext import answer, original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Back
from splitrt.nn.stages import back


def build(*, classes: int = 1000, resolution: int = 256, cut: int = 2, variant: str = "xx_small") -> Back:
    """As in the head."""
    row, last = stages(variant, resolution), answer(variant, classes)
    return back("edgenext", row, last, cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """As in the head, of a Back."""
    return adopt(build(**arguments), weights, original)
