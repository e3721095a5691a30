"""ShuffleNetV2 stages, the backbone of FastestDet.

Shape letters: B batch, C channels, H W space.
Ma et al., ECCV 2018, arXiv:1807.11164. The shuffle comes first in a unit: even channels pass, odd ones are
computed with. Parameter names follow the usual checkpoints: branch_main, branch_proj.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splitrt.nn.blocks import conv_bn


class Unit(nn.Module):
    """(B, channels, H, W) -> the same shape: half the channels pass, the other half are computed with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch_main = _branch(channels // 2, channels // 2, stride=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat([x_BCHW[:, 0::2], self.branch_main(x_BCHW[:, 1::2])], dim=1)


class Halving(nn.Module):
    """(B, in, H, W) -> (B, out, H / 2, W / 2): both branches read all channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branch_main = _branch(in_channels, out_channels - in_channels, stride=2, hidden=out_channels // 2)
        self.branch_proj = nn.Sequential(
            *conv_bn(in_channels, in_channels, 3, stride=2, groups=in_channels, act=False),
            *conv_bn(in_channels, in_channels, 1),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat([self.branch_proj(x_BCHW), self.branch_main(x_BCHW)], dim=1)


def stage(in_channels: int, out_channels: int, units: int) -> nn.Sequential:
    """`units` units, the first halving the map: (B, in, H, W) -> (B, out, H / 2, W / 2)."""
    return nn.Sequential(Halving(in_channels, out_channels), *(Unit(out_channels) for _ in range(units - 1)))


def _branch(in_channels: int, out_channels: int, *, stride: int, hidden: int | None = None) -> nn.Sequential:
    """Pointwise, depthwise without activation, pointwise."""
    hidden = hidden or out_channels
    return nn.Sequential(
        *conv_bn(in_channels, hidden, 1),
        *conv_bn(hidden, hidden, 3, stride=stride, groups=hidden, act=False),
        *conv_bn(hidden, out_channels, 1),
    )
