"""The server half of `mobilenetv3`: the stage after the cut, for which a bottleneck may stand, then the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.mobilenetv3 import answer, original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Back
from splitrt.nn.stages import back


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 3, size: str = "large") -> Back:
    """As in the head."""
    row = stages(size)
    return back("mobilenetv3", row, answer(size, classes), cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """As in the head, of a Back."""
    return adopt(build(**arguments), weights, original)
