"""A small classifier on a stem's features: the gate before the encoder of a network that has one already.

Shape letters: B batch, F feature channels, H W space, N classes.
The neural filter of Matsubara et al. (arXiv:2007.15818) at a fraction of its size: pool, two convolutions, pool. It
must cost little: every frame pays for it, and of most it is all that is worth paying for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.nn.blocks import conv_bn

SIDE = 8  # of the map that the first convolution reads, about


class Filter(nn.Module):
    """features_BFHW, pooled by `pooling(H)` -> logits_BN."""

    def __init__(self, channels: int, classes: int, width: int = 24) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv_bn(channels, width, 3, stride=2),
            conv_bn(width, 2 * width, 3, stride=2),
            nn.Dropout2d(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, classes),
        )

    def forward(self, pooled_BFHW: Tensor) -> Tensor:
        logits_BN: Tensor = self.net(pooled_BFHW)
        return logits_BN


def pooling(side: int) -> int:
    """How many features a side are averaged before the filter."""
    return max(1, side // SIDE)


class FilterGraph(nn.Module):
    """What a device runs: features to odds_B of the set of classes."""

    def __init__(self, trained: Filter, pool: int, is_in_N: Tensor) -> None:
        super().__init__()
        self.trained, self.pool = trained, pool
        # Two gathers in place of two masked softmaxes: on so small a graph each operator counts.
        self.register_buffer("inside", torch.nonzero(is_in_N).flatten())
        self.register_buffer("outside", torch.nonzero(~is_in_N).flatten())

    def forward(self, features_BFHW: Tensor) -> Tensor:
        pooled_BFHW = features_BFHW if self.pool == 1 else F.avg_pool2d(features_BFHW, self.pool)
        logits_BN = self.trained(pooled_BFHW)
        assert isinstance(self.inside, Tensor)
        assert isinstance(self.outside, Tensor)
        odds_B: Tensor = logits_BN[:, self.inside].logsumexp(1) - logits_BN[:, self.outside].logsumexp(1)
        return odds_B
