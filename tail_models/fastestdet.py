"""The server half of `fastestdet`: the stage at 1/8 of the frame's side, for which a bottleneck may stand, then two
more, neck and head to an answer's candidates.

Shape letters: B batch, R restored channels, M map channels, K candidates, H W h w space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from splitrt.nn.fastestdet import (
    CANDIDATES,
    CHANNELS,
    UNITS,
    DetectionHead,
    Neck,
    best_cells,
    check,
    kept_and_replaced,
    original,
)
from splitrt.nn.pretrained import adopt
from splitrt.nn.shufflenet import stage
from splitrt.nn.split import Back, FeatureShape


class Detector(nn.Module):
    """restored_BRhw -> candidates_BK6, see splitrt.nn.fastestdet.best_cells."""

    def __init__(self, classes: int, candidates: int) -> None:
        super().__init__()
        self.candidates = candidates
        _, fine, middle, coarse = CHANNELS
        self.stage3 = stage(fine, middle, UNITS[1])
        self.stage4 = stage(middle, coarse, UNITS[2])
        self.neck = Neck(fine + middle + coarse, middle)
        self.head = DetectionHead(middle, classes)

    def stages(self, restored_BRhw: Tensor) -> list[Tensor]:
        """The maps at 1/16 and 1/32 of the side, and map_BMHW, of which candidates are made by rule."""
        middle_BCHW = self.stage3(restored_BRhw)
        coarse_BCHW = self.stage4(middle_BCHW)
        map_BMHW = self.head(self.neck(restored_BRhw, middle_BCHW, coarse_BCHW))
        return [middle_BCHW, coarse_BCHW, map_BMHW]

    def forward(self, restored_BRhw: Tensor) -> Tensor:
        return best_cells(self.stages(restored_BRhw)[-1], self.candidates)


def build(*, classes: int = 80, resolution: int = 352, candidates: int = CANDIDATES, keep: int = 0) -> Back:
    """candidates: rows of an answer, 24 bytes each before suppression; the rest as in the head."""
    check(resolution, candidates, keep)
    side = resolution // 8
    return Back(kept_and_replaced(keep)[1], Detector(classes, candidates), FeatureShape(CHANNELS[1], side, side))


def pretrained(weights: Mapping[str, Tensor], **arguments: Any) -> dict[str, Tensor]:
    """As in the head, of a Back."""
    return adopt(build(**arguments), weights, original)
