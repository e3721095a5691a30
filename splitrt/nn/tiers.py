"""Rate tiers in training: per-channel quantiser gains for each bit depth, and the factorised prior that prices them.

Shape letters: B batch, C Z channels, H W space, K mixture components, T tiers.

A tier is a bit depth with a gain for every channel (gained autoencoders, rates between tiers by interpolation:
Cui et al., CVPR 2021, arXiv:2003.02012): values in (-1, 1) are spread over [-1 / gain, 1 / gain], which 2**bits - 1
steps divide. A gain below one makes steps coarser and leaves outer symbols unused, which costs nothing once they are
entropy-coded. Depths between two trained ones get gains between theirs: a rate knob without retraining.

The prior is one density a channel, a mixture of logistics, so that every step size is priced by the same
parameters: p(symbol) = F(z + step / 2) - F(z - step / 2). Rates are taken at uniform noise (Balle et al., ICLR 2017,
arXiv:1611.01704), what the decoder sees at rounded values (Minnen and Singh, ICIP 2020, arXiv:2007.08739).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

COMPONENTS = 3
LEAST_LIKELY = 1e-6
MOST_GAIN, LEAST_GAIN = 4.0, 0.1


class Tiers(nn.Module):
    """Quantiser gains and prior of `channels` bottleneck channels at the trained bit depths, rising."""

    def __init__(self, channels: int, bits: Sequence[int]) -> None:
        super().__init__()
        self.channels = channels
        self.bits = tuple(bits)
        self.log_gain_TC = nn.Parameter(torch.zeros(len(self.bits), channels))
        self.mean_CK = nn.Parameter(torch.linspace(-0.8, 0.8, COMPONENTS).repeat(channels, 1))
        self.log_scale_CK = nn.Parameter(torch.full((channels, COMPONENTS), -1.5))
        self.weight_CK = nn.Parameter(torch.zeros(channels, COMPONENTS))

    def gain_C(self, bits: int) -> Tensor:
        """Of a trained depth, or between the two around it (log-linear in bits); beyond the ends, the end's."""
        log_gain_TC = self.log_gain_TC.clamp(float(np.log(LEAST_GAIN)), float(np.log(MOST_GAIN)))
        place = float(np.interp(bits, self.bits, range(len(self.bits))))
        low = int(place)
        high = min(low + 1, len(self.bits) - 1)
        return torch.exp(log_gain_TC[low].lerp(log_gain_TC[high], place - low))

    def seen(self, z_BCHW: Tensor, bits: int) -> Tensor:
        """What the far side sees of `z`: rounded to the tier's grid, saturated at its ends.

        Gradients pass the rounding straight through, to the values and to the gains; from a saturated value they
        reach the gain alone, which then falls (Esser et al., ICLR 2020, arXiv:1902.08153).
        """
        high_C11, step_C11 = self._grid(z_BCHW.shape[1], bits)
        place = ((z_BCHW + high_C11) / step_C11).clamp(0, 2**bits - 1)
        return (place + (place.round() - place).detach()) * step_C11 - high_C11

    def rate(self, z_BCHW: Tensor, bits: int) -> Tensor:
        """Bits that the prior asks for these values, summed over channels and space: (B,)."""
        _, step_C11 = self._grid(z_BCHW.shape[1], bits)
        noisy_BCHW = z_BCHW + (torch.rand_like(z_BCHW) - 0.5) * step_C11
        likelihood = self._below(noisy_BCHW + step_C11 / 2) - self._below(noisy_BCHW - step_C11 / 2)
        bits_B: Tensor = -torch.log2(likelihood.clamp_min(LEAST_LIKELY)).sum((1, 2, 3))
        return bits_B

    def _grid(self, channels: int, bits: int) -> tuple[Tensor, Tensor]:
        high_C11 = 1 / self.gain_C(bits)[:channels, None, None]
        return high_C11, 2 * high_C11 / (2**bits - 1)

    def _below(self, z_BCHW: Tensor) -> Tensor:
        """The mixture's distribution function."""
        channels = z_BCHW.shape[1]
        weight_CK = torch.softmax(self.weight_CK[:channels], dim=1)
        scale_CK = torch.exp(self.log_scale_CK[:channels].clamp(-6, 2))
        total = torch.zeros_like(z_BCHW)
        for k in range(COMPONENTS):
            mean, scale, weight = (value[:channels, k, None, None] for value in (self.mean_CK, scale_CK, weight_CK))
            total = total + weight * torch.sigmoid((z_BCHW - mean) / scale)
        return total
