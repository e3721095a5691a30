"""The bottleneck: a group-triangular slimmable encoder, its quantiser in training, and the decoder.

Shape letters: B batch, F feature channels at the cut, Z bottleneck channels, K channels of one group,
M hidden channels so far, H W space, h w space after the stride.

Channels come in groups 1..G, and group k of every layer reads groups <= k only. So the channels of a
narrow width are a true prefix of the wide one, compute falls with the width, and batch statistics of a
channel are the same at every width (what slimmable networks need separate normalisation for: Yu et al.,
ICLR 2019, arXiv:1812.08928). A frame is decodable from any prefix of its groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.nn.blocks import conv_bn


class EncoderGroup(nn.Module):
    """One group: hidden channels of its own from all features, its outputs from all hidden channels so far.

    features_BFHW, hidden_BMhw of the groups before (None for the first)  ->  z_BKhw in (-1, 1), hidden_BMhw
    with this group's channels appended; h w are H W over the stride.
    """

    def __init__(self, features: int, hidden_before: int, hidden: int, channels: int, stride: int) -> None:
        super().__init__()
        self.spread = conv_bn(features, hidden, 3, stride=stride)
        self.mix = conv_bn(hidden_before + hidden, hidden, 3)
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, features_BFHW: Tensor, hidden_BMhw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        own_BMhw = self.spread(features_BFHW)
        all_BMhw = own_BMhw if hidden_BMhw is None else torch.cat([hidden_BMhw, own_BMhw], dim=1)
        return torch.tanh(self.project(self.mix(all_BMhw))), all_BMhw


class SlimEncoder(nn.Module):
    """Features to bottleneck at a width given on every call: (B, F, H, W) -> (B, width, H / stride, W / stride),
    values in (-1, 1).

    widths: rising channel counts, e.g. (1, 2, 4, 8); group k holds the channels between two of them.
    """

    def __init__(self, features: int, widths: Sequence[int], hidden_per_group: int, stride: int = 2) -> None:
        super().__init__()
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1:
            raise ConfigError(f"widths must be above 0 and rise strictly, got {list(widths)}")
        self.widths = tuple(widths)
        self.stride = stride
        sizes = [b - a for a, b in pairwise((0, *self.widths))]
        self.groups = nn.ModuleList(
            EncoderGroup(features, k * hidden_per_group, hidden_per_group, size, stride) for k, size in enumerate(sizes)
        )

    def forward(self, features_BFHW: Tensor, width: int) -> Tensor:
        hidden, outputs = None, []
        for group in self.groups[: self.widths.index(width) + 1]:
            z_BKHW, hidden = group(features_BFHW, hidden)
            outputs.append(z_BKHW)
        return torch.cat(outputs, dim=1)


class Decoder(nn.Module):
    """Bottleneck to the features that the body reads: (B, Z, H, W) -> (B, F, H, W).

    Channels that were not sent are zero, the middle of the range, so one decoder takes every width and a
    batch may mix them.
    """

    def __init__(self, bottleneck: int, features: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn(bottleneck, hidden, 3),
            conv_bn(hidden, hidden, 3),
            nn.Conv2d(hidden, features, 1),
        )

    def forward(self, z_BZHW: Tensor) -> Tensor:
        features_BFHW: Tensor = self.layers(z_BZHW)
        return features_BFHW


def fake_quantise(z_BCHW: Tensor, bits: int) -> Tensor:
    """What the far side will see of values in (-1, 1) sent with `bits`, with gradients passed straight through.

    The grid is that of splitrt.codec under the range (-1, 1): 2**bits - 1 steps from end to end.
    """
    step = 2.0 / (2**bits - 1)
    seen = torch.round((z_BCHW + 1) / step) * step - 1
    passed_BCHW: Tensor = z_BCHW + (seen - z_BCHW).detach()
    return passed_BCHW


def widen(z_BCHW: Tensor, channels: int) -> Tensor:
    """Append zero channels: what a tail sees of a narrow frame. (B, C, H, W) -> (B, channels, H, W)."""
    return F.pad(z_BCHW, (0, 0, 0, 0, 0, channels - z_BCHW.shape[1]))
