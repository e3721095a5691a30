"""Squeeze-excite: a gate in [0, 1] for each channel, made of all channels' means.

Shape letters: B batch, C channels, H W space.
Hu et al., CVPR 2018, arXiv:1709.01507.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcite(nn.Module):
    """x_BCHW -> x_BCHW, each channel times its gate: two pointwise layers, ReLU between them and a sigmoid after."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        gate_BC11: Tensor = self.fc2(F.relu(self.fc1(mean_BC11))).sigmoid()
        return x_BCHW * gate_BC11
