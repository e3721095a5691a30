"""Linear branches of training as one layer with bias: batch norms inside it, small kernels inside large ones, skips as
kernels with a one in their middle.

    x ──┬── k x k ── norm ──┐
        ├── 1 x 1 ── norm ──(+)── y    =    x ── k x k with bias ── y
        └────────── norm ───┘

Shape letters: O output channels, I input channels of a group, K side of a kernel (a linear layer has no K).
Ding et al., CVPR 2021, arXiv:2101.03697. Equal up to rounding: sums are in float64, whatever the checkpoint has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from splitrt.nn.pretrained import Published

EPSILON = 1e-5  # of the batch norms


@dataclass(frozen=True, slots=True)
class Affine:
    """What a batch norm does once it is trained: x gain + shift, a channel each."""

    gain_O: Tensor
    shift_O: Tensor


@dataclass(frozen=True, slots=True)
class Kernel:
    """Weight and bias of a convolution, or of a linear layer."""

    weight_OIKK: Tensor
    bias_O: Tensor

    def plus(self, other: Kernel) -> Kernel:
        """The sum of both layers' outputs; the smaller kernel is centred in the larger."""
        side = max(self.weight_OIKK.shape[-1], other.weight_OIKK.shape[-1])
        weight_OIKK = _centred(self.weight_OIKK, side) + _centred(other.weight_OIKK, side)
        return Kernel(weight_OIKK, self.bias_O + other.bias_O)

    def minus(self, other: Kernel) -> Kernel:
        return self.plus(Kernel(-other.weight_OIKK, -other.bias_O))

    def scaled(self, gain_O: Tensor) -> Kernel:
        return Kernel(self.weight_OIKK * _upright(gain_O, self.weight_OIKK), self.bias_O * gain_O)

    def then(self, norm: Affine) -> Kernel:
        """This layer and a norm after it."""
        scaled = self.scaled(norm.gain_O)
        return Kernel(scaled.weight_OIKK, scaled.bias_O + norm.shift_O)

    def after(self, norm: Affine) -> Kernel:
        """A norm and this linear layer after it: a padded convolution would see its shift at the borders."""
        return Kernel(self.weight_OIKK * norm.gain_O, self.bias_O + self.weight_OIKK @ norm.shift_O)

    def named(self, name: str = "") -> dict[str, Tensor]:
        """As the state of a layer of this name."""
        prefix = f"{name}." if name else ""
        return {f"{prefix}weight": self.weight_OIKK, f"{prefix}bias": self.bias_O}


def vector(published: Published, name: str, *shape: int) -> Tensor:
    """One number a channel, whatever axes of length one the checkpoint has around it."""
    return published.take(name, *shape).double().flatten()


def batch_norm(published: Published, channels: int) -> Affine:
    weight, bias, mean, variance = (
        vector(published, name, channels) for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain_O = weight / (variance + EPSILON).sqrt()
    return Affine(gain_O, bias - mean * gain_O)


def layer(published: Published, shape: Sequence[int], *, bias: bool = True) -> Kernel:
    """A layer as it is; without `bias` the checkpoint has none."""
    weight_OIKK = published.take("weight", *shape).double()
    return Kernel(weight_OIKK, vector(published, "bias", shape[0]) if bias else weight_OIKK.new_zeros(shape[0]))


def normed(published: Published, shape: Sequence[int], names: tuple[str, str] = ("conv", "bn")) -> Kernel:
    """A convolution without bias and the batch norm after it."""
    conv, norm = (published.below(name) for name in names)
    return layer(conv, shape, bias=False).then(batch_norm(norm, shape[0]))


def skip(shape: Sequence[int]) -> Kernel:
    """What gives its input: output channel o reads channel o of its own group."""
    channels, group = shape[:2]
    weight_OIKK = torch.zeros(*shape, dtype=torch.float64)
    each = torch.arange(channels)
    weight_OIKK[each, each % group, shape[2] // 2, shape[3] // 2] = 1
    return Kernel(weight_OIKK, weight_OIKK.new_zeros(channels))


def _centred(weight_OIKK: Tensor, side: int) -> Tensor:
    margin = (side - weight_OIKK.shape[-1]) // 2
    return F.pad(weight_OIKK, [margin] * 4) if margin else weight_OIKK


def _upright(gain_O: Tensor, weight_OIKK: Tensor) -> Tensor:
    return gain_O.reshape(-1, *[1] * (weight_OIKK.dim() - 1))
