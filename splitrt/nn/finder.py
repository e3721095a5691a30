"""A filter that says where: the gate before a detector, on the features of its stem.

Shape letters: B batch, F feature channels, H W space, K side of the map.
A detector's answer for a photograph is one bit, but it looked at every place, and a small network learns more from
where it found something than from whether. The gate's odds are a soft maximum over the map: one place is enough.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.nn.blocks import conv_bn

SIDE = 16  # of the map that the first convolution reads, about
SOFTNESS = 0.5  # of the maximum over places


class Finder(nn.Module):
    """features_BFHW, averaged over `pool` a side -> logits_BKK of each place, odds_B of the photograph."""

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv_bn(channels, width, 3),
            conv_bn(width, 2 * width, 3, stride=2),
            nn.Dropout2d(0.1),
            conv_bn(2 * width, 2 * width, 3),
            nn.Conv2d(2 * width, 1, 1),
        )
        self.gain, self.lift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, pooled_BFHW: Tensor) -> tuple[Tensor, Tensor]:
        logits_BKK = self.net(pooled_BFHW).squeeze(1)
        most_B = SOFTNESS * (logits_BKK.flatten(1) / SOFTNESS).logsumexp(1)
        return logits_BKK, most_B * self.gain + self.lift


class FinderGraph(nn.Module):
    """What a device runs: features to odds_B."""

    def __init__(self, trained: Finder, pool: int) -> None:
        super().__init__()
        self.trained, self.pool = trained, pool

    def forward(self, features_BFHW: Tensor) -> Tensor:
        pooled_BFHW = features_BFHW if self.pool == 1 else F.avg_pool2d(features_BFHW, self.pool)
        odds_B: Tensor = self.trained(pooled_BFHW)[1]
        return odds_B


def pooling(side: int) -> int:
    """How many features a side are averaged before the finder."""
    return max(1, side // SIDE)


def map_side(side: int) -> int:
    """K, for features of this side."""
    return (side // pooling(side) + 1) // 2
