"""CIFAR residual stages with parameter-free shortcuts.

Shape letters: B batch, C channels, H W space.
He et al., CVPR 2016, arXiv:1512.03385, section 4.2 (option A: subsample, then pad channels with zeros).
Parameter names follow the usual checkpoints: conv1, bn1, layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError

CHANNELS = (16, 32, 64)


def blocks_per_stage(depth: int) -> int:
    """Depth is 6n + 2: 20, 32, 44, 56, 110."""
    if depth < 8 or (depth - 2) % 6:
        raise ConfigError(f"resnet.depth must be 6n + 2 (20, 32, 44, 56, 110), got {depth}")
    return (depth - 2) // 6


def check_cut(cut: int) -> None:
    """Raises ConfigError naming the nearest stage that a cut can follow."""
    if cut not in (1, 2):
        nearest = min(2, max(1, cut))
        raise ConfigError(f"resnet.cut must be 1 or 2 (the stage it follows), got {cut}; the nearest is {nearest}")


class BasicBlock(nn.Module):
    """(B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.pad = (out_channels - in_channels) // 2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)))
        y_BCHW = self.bn2(self.conv2(y_BCHW))
        skip_BCHW = x_BCHW[:, :, :: self.stride, :: self.stride]
        if self.pad:
            skip_BCHW = F.pad(skip_BCHW, (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y_BCHW + skip_BCHW)


def stage(number: int, blocks: int) -> nn.Sequential:
    """Stage 1, 2 or 3: `blocks` blocks, the first of stages 2 and 3 halving the map."""
    out_channels = CHANNELS[number - 1]
    in_channels = CHANNELS[max(0, number - 2)]
    first = BasicBlock(in_channels, out_channels, 1 if number == 1 else 2)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))
