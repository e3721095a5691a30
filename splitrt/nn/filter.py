"""A small classifier on a stem's features: the gate before the encoder of a network that has one already.

Shape letters: B batch, F feature channels, H W space, N classes.
The neural filter of Matsubara et al. (arXiv:2007.15818) at a fraction of its size: pool, three convolutions, pool.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.nn.blocks import classifier, conv_bn, inverted_residual
from splitrt.nn.gate import log_odds

SIDE = 16  # of the map that the first convolution reads, about


class Filter(nn.Module):
    """features_BFHW, pooled by `pooling(H)` -> logits_BN."""

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv_bn(channels, width, 3),
            inverted_residual(width, 2 * width, expand=2, stride=2),
            inverted_residual(2 * width, 2 * width, expand=2, stride=1),
            nn.Dropout2d(0.1),
            classifier(2 * width, 3 * width, classes),
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
        self.register_buffer("is_in_N", is_in_N)

    def forward(self, features_BFHW: Tensor) -> Tensor:
        pooled_BFHW = features_BFHW if self.pool == 1 else F.avg_pool2d(features_BFHW, self.pool)
        assert isinstance(self.is_in_N, Tensor)
        return log_odds(self.trained(pooled_BFHW), self.is_in_N)
