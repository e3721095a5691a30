"""FastestDet's neck, head and the rule from its map to boxes.

Shape letters: B batch, C channels, M map channels (1 objectness, 4 box, N classes), H W space, L cells, K candidates.
https://github.com/dog-qiuqiu/FastestDet (2022): one map at 1/16 of the frame's side for objects of all sizes, one
candidate a cell, no anchors.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.nn.blocks import conv_bn
from splitrt.nn.shufflenet import stage

CHANNELS = (24, 48, 96, 192)  # of the stem and the three stages
UNITS = (4, 8, 4)
CANDIDATES = 100  # a large object fills more cells than that: all 484 are worth 0.006 of AP on COCO

ORIGINAL = {  # our names to the checkpoint's; the rest of a name is the same
    "stem.0": "backbone.first_conv",
    "stem.kept": "backbone.stage2",
    "replaced": "backbone.stage2",
    "body.stage3": "backbone.stage3",
    "body.stage4": "backbone.stage4",
    "body.neck.reduce": "SPP.Conv1x1.conv1x1",
    "body.neck.branches.0": "SPP.S1",
    "body.neck.branches.1": "SPP.S2",
    "body.neck.branches.2": "SPP.S3",
    "body.neck.join": "SPP.output",
    "body.head.mix": "detect_head.conv1x1.conv1x1",
    "body.head.objectness": "detect_head.obj_layers.conv5x5",
    "body.head.box": "detect_head.reg_layers.conv5x5",
    "body.head.classes": "detect_head.cls_layers.conv5x5",
}


def kept_and_replaced(keep: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The stage at 1/8 of the side in two: its first `keep` units, and what a bottleneck may stand for."""
    units = list(stage(CHANNELS[0], CHANNELS[1], UNITS[0]).named_children())
    return nn.Sequential(OrderedDict(units[:keep])), nn.Sequential(OrderedDict(units[keep:]))


def check(resolution: int, candidates: int, keep: int = 0) -> None:
    """Raises ConfigError where maps would not halve evenly, or where there are fewer cells than candidates."""
    if not 0 <= keep < UNITS[0]:
        raise ConfigError(f"fastestdet.keep must be 0 to {UNITS[0] - 1} units, got {keep}")
    if resolution % 32 or not 96 <= resolution <= 640:
        raise ConfigError(f"fastestdet.resolution must be a multiple of 32 from 96 to 640, got {resolution}")
    cells = (resolution // 16) ** 2
    if not 1 <= candidates <= cells:
        raise ConfigError(f"fastestdet.candidates must be 1 to {cells} at resolution {resolution}, got {candidates}")


def original(name: str) -> str:
    """The checkpoint's name of a weight."""
    ours = next(prefix for prefix in ORIGINAL if name.startswith(f"{prefix}."))
    return ORIGINAL[ours] + name.removeprefix(ours)


class Neck(nn.Module):
    """Maps at 1/8, 1/16 and 1/32 of the side -> one at 1/16, seen through windows of three sizes.

    Spatial pyramid: He et al., TPAMI 2015, arXiv:1406.4729.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn(in_channels, channels, 1)
        # One, two and three 5x5 in a row; flat, for the checkpoint's names.
        self.branches = nn.ModuleList(
            nn.Sequential(*(layer for _ in range(depth) for layer in conv_bn(channels, channels, 5, groups=channels)))
            for depth in (1, 2, 3)
        )
        self.join = conv_bn(3 * channels, channels, 1, act=False)

    def forward(self, fine_BCHW: Tensor, middle_BCHW: Tensor, coarse_BCHW: Tensor) -> Tensor:
        down_BCHW = F.avg_pool2d(fine_BCHW, 3, 2, 1)
        up_BCHW = F.interpolate(coarse_BCHW, scale_factor=2.0, mode="nearest")
        x_BCHW = self.reduce(torch.cat([down_BCHW, middle_BCHW, up_BCHW], dim=1))
        seen_BCHW = torch.cat([branch(x_BCHW) for branch in self.branches], dim=1)
        return F.relu(x_BCHW + self.join(seen_BCHW))


class DetectionHead(nn.Module):
    """(B, C, H, W) -> map_BMHW: objectness in 0..1, box unbounded, classes that sum to 1."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.mix = conv_bn(channels, channels, 1)
        self.objectness, self.box, self.classes = (
            nn.Sequential(*conv_bn(channels, channels, 5, groups=channels), *conv_bn(channels, outputs, 1, act=False))
            for outputs in (1, 4, classes)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.mix(x_BCHW)
        objectness_B1HW = self.objectness(x_BCHW).sigmoid()
        return torch.cat([objectness_B1HW, self.box(x_BCHW), self.classes(x_BCHW).softmax(1)], dim=1)


def best_cells(map_BMHW: Tensor, candidates: int) -> Tensor:
    """The map's best `candidates` cells, best first: candidates_BK6 of x1, y1, x2, y2, score, class.

    Coordinates are shares of the frame. A cell's score is objectness^0.6 * class^0.4; nothing is suppressed yet.
    """
    height, width = map_BMHW.shape[2:]
    map_BML = map_BMHW.flatten(2)
    best_BL, class_BL = map_BML[:, 5:].max(dim=1)
    score_BK, cell_BK = (map_BML[:, 0] ** 0.6 * best_BL**0.4).topk(candidates, dim=1)
    class_BK = class_BL.gather(1, cell_BK)
    box_B4K = map_BML[:, 1:5].gather(2, cell_BK[:, None].expand(-1, 4, -1))
    row_BK = cell_BK.div(width, rounding_mode="floor")
    column_BK = cell_BK - row_BK * width
    x_BK = (box_B4K[:, 0].tanh() + column_BK) / width
    y_BK = (box_B4K[:, 1].tanh() + row_BK) / height
    half_wide_BK, half_high_BK = box_B4K[:, 2].sigmoid() / 2, box_B4K[:, 3].sigmoid() / 2
    corners = [x_BK - half_wide_BK, y_BK - half_high_BK, x_BK + half_wide_BK, y_BK + half_high_BK]
    inside = [corner_BK.clamp(0, 1) for corner_BK in corners]
    return torch.stack([*inside, score_BK, class_BK.to(score_BK.dtype)], dim=2)
