"""The server half of `mnasnet`: the stage after the cut, for which a bottleneck may stand, then the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from splitrt.nn.mnasnet import answer, original, stages
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Back
from splitrt.nn.stages import back


def build(*, classes: int = 1000, resolution: int = 224, cut: int = 3, width_percent: int = 100) -> Back:
    """As in the head."""
    row = stages(width_percent)
    return back("mnasnet", row, answer(width_percent, classes), cut=cut, resolution=resolution, classes=classes)


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """As in the head, of a Back."""
    return adopt(build(**arguments), weights, original)
