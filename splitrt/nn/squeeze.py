"""Squeeze-excite: a gate in [0, 1] for each channel, made of all channels' means.

Shape letters: B batch, C channels, H W space.
Hu et al., CVPR 2018, arXiv:1709.01507.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcite(nn.Module):
    """x_BCHW -> x_BCHW, each channel times its gate: two pointwise layers, ReLU between them and `gate` after."""

    def __init__(self, channels: int, squeezed: int, gate: Callable[[Tensor], Tensor] = torch.sigmoid) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self._gate = gate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        return x_BCHW * self._gate(self.fc2(F.relu(self.fc1(mean_BC11))))
