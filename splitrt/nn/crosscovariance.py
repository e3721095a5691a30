"""EdgeNeXt's block with attention: groups of channels see more and more places, then channels read one another.

Shape letters: B batch, C channels, H W space, N places, S heads, D channels of a head, P channels of a position.
Maaz et al., arXiv:2206.10589; attention between channels, whose cost is linear in places: El-Nouby et al.,
NeurIPS 2021, arXiv:2106.09681. Layer scales are folded into the layer before them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.nn.kernel import layer, vector
from splitrt.nn.pretrained import Published

EPSILON = 1e-6  # of the norms
EXPAND = 4
WAVES = 32  # numbers of a position along each axis
LONGEST_WAVE = 10_000.0


class SplitAttention(nn.Module):
    """x_BCHW -> x_BCHW, a skip around all.

    channels in `scales` groups:   1 ── conv ──┬─────────────── y
                                   2 ───────(+)── conv ──┬───── y      the last group stays as it is
                                   3 ──────────────── .. (+) .. y

    side: of the square map, for which positions are made; none: no positions.
    """

    def __init__(self, channels: int, heads: int, scales: int, side: int | None) -> None:
        super().__init__()
        width = math.ceil(channels / scales)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(scales - 1))
        self.pos_embd = Position(channels, side) if side else None
        self.norm_xca = nn.LayerNorm(channels, EPSILON)
        self.xca = ChannelAttention(channels, heads)
        self.norm = nn.LayerNorm(channels, EPSILON)
        self.mlp = FeedForward(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self._at_scales(x_BCHW)
        if self.pos_embd is not None:
            y_BCHW = y_BCHW + self.pos_embd()
        y_BNC = y_BCHW.flatten(2).transpose(1, 2)
        y_BNC = y_BNC + self.xca(self.norm_xca(y_BNC))
        y_BCN: Tensor = self.mlp(self.norm(y_BNC)).transpose(1, 2)
        return x_BCHW + y_BCN.reshape_as(x_BCHW)

    def fold(self, published: Published) -> dict[str, Tensor]:
        folded: dict[str, Tensor] = {}
        for name, own, scale in (("xca.proj", self.xca.proj, "gamma_xca"), ("mlp.fc2", self.mlp.fc2, "gamma")):
            shape = own.weight.shape
            kernel = layer(published.below(name), shape).scaled(vector(published, scale, shape[0]))
            folded |= kernel.named(name)
        return folded

    def _at_scales(self, x_BCHW: Tensor) -> Tensor:
        *groups, last_BCHW = x_BCHW.chunk(len(self.convs) + 1, 1)
        seen: list[Tensor] = []
        for conv, group_BCHW in zip(self.convs, groups, strict=True):
            seen.append(conv(seen[-1] + group_BCHW if seen else group_BCHW))
        return torch.cat([*seen, last_BCHW], 1)


class ChannelAttention(nn.Module):
    """x_BNC -> x_BNC: cosines between the channels of a head, over all places, say which reads which."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x_BNC: Tensor) -> Tensor:
        q_BSDN, k_BSDN, v_BSDN = self.qkv(x_BNC).transpose(1, 2).unflatten(1, (3, self.heads, -1)).unbind(1)
        cosine_BSDD = F.normalize(q_BSDN, dim=3) @ F.normalize(k_BSDN, dim=3).transpose(2, 3)
        share_BSDD = (cosine_BSDD * self.temperature).softmax(3)
        y_BNC: Tensor = self.proj((share_BSDD @ v_BSDN).flatten(1, 2).transpose(1, 2))
        return y_BNC


class Position(nn.Module):
    """-> (1, C, side, side): row and column as waves of 32 lengths each, then a pointwise layer."""

    waves_1PHW: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(2 * WAVES, channels, 1)
        self.register_buffer("waves_1PHW", waves(side), persistent=False)  # known without a checkpoint

    def forward(self) -> Tensor:
        position_1CHW: Tensor = self.token_projection(self.waves_1PHW)
        return position_1CHW


class FeedForward(nn.Module):
    """(.., C) -> (.., C): two linear layers, the inner channels four times as many."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, EXPAND * channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(EXPAND * channels, channels)

    def forward(self, x_C: Tensor) -> Tensor:
        y_C: Tensor = self.fc2(self.act(self.fc1(x_C)))
        return y_C


def waves(side: int) -> Tensor:
    """(1, P, side, side): sines and cosines by turns, first of the row, then of the column, of angles up to 2 pi."""
    turn_H = torch.arange(1, side + 1) / (side + EPSILON) * 2 * math.pi
    length_P = LONGEST_WAVE ** (torch.arange(0, WAVES, 2) / WAVES)
    angle_PH = turn_H / length_P[:, None]
    axis_PH = torch.stack((angle_PH.sin(), angle_PH.cos()), 1).flatten(0, 1)
    row_PHW, column_PHW = axis_PH[:, :, None].expand(-1, -1, side), axis_PH[:, None, :].expand(-1, side, -1)
    return torch.cat((row_PHW, column_PHW))[None].contiguous()
