"""Gated compression: a layer that ends what is of no interest and narrows what is; several in a row.

Shape letters: B batch, C channels, H W space, N classes, S survivors.

    h ──┬── pool ── MLP ── classes ── log odds of "there is something"      the gate
        └── learned channel mask ── the few channels that go on             the compression

A row of blocks and layers spreads a network over an always-on core, an application core and a server: what one layer
stops costs those after it nothing. At run time gate and mask are hard. In training both are soft, but for the values:
what is passed on is what an open gate and a hard mask would pass, while the gradient is that of the soft ones. A gate
that scaled what it lets through would leave the layers after it a hint which is not there at run time. Idea and both
uses: Li et al., 2023, arXiv:2303.08970; layer and loss are rebuilt from its description.

The gate's MLP tells classes apart, and what is "something" is a set of them: one network can so ask for any of ten
keywords, and learns from labels that say more than yes or no. With two classes it is the plain binary gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError

SHARPNESS = 5.0  # of the mask: Adam moves a logit by its learning rate a step, too little to close it without
OPEN = 0.3  # every channel's mask logit at the start: sigma(5 * 0.3) = 0.82


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of a layer's two terms in the loss: alpha stops more, beta keeps fewer channels."""

    alpha: float = 0.5
    beta: float = 0.05


class GatedCompression(nn.Module):
    def __init__(self, channels: int, classes: int, hidden: int = 32) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.openness_C = nn.Parameter(torch.full((channels,), OPEN))
        self.limit = channels  # open channels beyond so many, the least open ones, are closed

    def logits(self, h_BCHW: Tensor) -> Tensor:
        """Of the classes, (B, N), from each channel's mean and peak."""
        logits_BN: Tensor = self.mlp(torch.cat([h_BCHW.mean((2, 3)), h_BCHW.amax((2, 3))], 1))
        return logits_BN

    def mask(self) -> Tensor:
        """(C,) of 0 and 1; its gradient is that of the sigmoid (straight through: Bengio et al., arXiv:1308.3432)."""
        soft_C = self.soft_mask()
        return self._is_open_C().to(soft_C.dtype) + (soft_C - soft_C.detach() if self.training else 0.0)

    def soft_mask(self) -> Tensor:
        return torch.sigmoid(SHARPNESS * self.openness_C)

    def kept(self) -> list[int]:
        """Channels that go on; never none, or there would be nothing to send."""
        found: list[int] = torch.nonzero(self._is_open_C()).flatten().tolist()
        return found or [int(self.openness_C.argmax())]

    def _is_open_C(self) -> Tensor:
        widest = torch.zeros_like(self.openness_C, dtype=torch.bool)
        widest[self.openness_C.topk(self.limit).indices] = True
        return widest & (self.openness_C > 0)

    def compress(self, h_BCHW: Tensor) -> Tensor:
        return self.mask().view(1, -1, 1, 1) * h_BCHW


class GatedRow(nn.Module):
    """Block, layer, block, layer .. in training and evaluation; the last layer's output is the seam."""

    def __init__(self, blocks: Sequence[nn.Module], layers: Sequence[GatedCompression]) -> None:
        super().__init__()
        self.blocks, self.layers = nn.ModuleList(blocks), nn.ModuleList(layers)

    def layer(self, k: int) -> GatedCompression:
        found = self.layers[k]
        assert isinstance(found, GatedCompression)
        return found

    def _pairs(self) -> Iterator[tuple[nn.Module, GatedCompression]]:
        return ((block, self.layer(k)) for k, block in enumerate(self.blocks))

    def forward(self, x_BCHW: Tensor, is_in_BN: Tensor) -> tuple[Tensor, list[Tensor]]:
        """In training: what reaches the seam, and every layer's logits_BN."""
        found = []
        for block, layer in self._pairs():
            x_BCHW = block(x_BCHW)
            logits_BN = layer.logits(x_BCHW)
            found.append(logits_BN)
            gate_B = torch.sigmoid(log_odds(logits_BN, is_in_BN))
            x_BCHW = (1 + gate_B - gate_B.detach()).view(-1, 1, 1, 1) * layer.compress(x_BCHW)
        return x_BCHW, found

    def plain(self, x_BCHW: Tensor) -> Tensor:
        """To the seam with masks and no gate."""
        for block, layer in self._pairs():
            x_BCHW = layer.compress(block(x_BCHW))
        return x_BCHW

    @torch.no_grad()
    def odds(self, x_BCHW: Tensor, is_in_N: Tensor, handicaps: Sequence[float]) -> Tensor:
        """(B,): the smallest of the row's log odds, each with its handicap: what its one threshold meets.
        An early gate sees less, and is trusted less by a handicap above 0.
        """
        found = []
        for (block, layer), handicap in zip(self._pairs(), handicaps, strict=True):
            x_BCHW = block(x_BCHW)
            found.append(log_odds(layer.logits(x_BCHW), is_in_N) + handicap)
            x_BCHW = layer.compress(x_BCHW)
        return torch.stack(found).amin(0)

    @torch.no_grad()
    def survivors(
        self, x_BCHW: Tensor, is_in_N: Tensor, handicaps: Sequence[float], threshold: float
    ) -> tuple[Tensor, Tensor]:
        """Hard: places_S in the batch that no layer stopped, and what of them reaches the seam.

        A block never sees what a layer before it stopped. NaN stops nothing: the comparison fails, and a broken gate
        must lose bytes rather than answers.
        """
        places_S = torch.arange(len(x_BCHW))
        for (block, layer), handicap in zip(self._pairs(), handicaps, strict=True):
            if not len(places_S):
                break
            x_BCHW = block(x_BCHW)
            stops_S = torch.sigmoid(-log_odds(layer.logits(x_BCHW), is_in_N) - handicap) >= threshold
            x_BCHW, places_S = layer.compress(x_BCHW[~stops_S]), places_S[~stops_S]
        return places_S, x_BCHW


def log_odds(logits_BN: Tensor, is_in: Tensor) -> Tensor:
    """log P(class in the set) / P(not in it), (B,); `is_in` is boolean (N,) or (B, N)."""
    inside_B = logits_BN.masked_fill(~is_in, -torch.inf).logsumexp(1)
    outside_B = logits_BN.masked_fill(is_in, -torch.inf).logsumexp(1)
    return inside_B - outside_B


def class_set(positives: Sequence[str], labels: Sequence[str]) -> Tensor:
    """is_in_N. Raises ConfigError where a name is unknown, or the set leaves nothing to stop or to let through."""
    unknown = [name for name in positives if name not in labels]
    if unknown:
        raise ConfigError(f"gate.positives must be among {', '.join(labels)}, got {unknown[0]!r}")
    is_in_N = torch.tensor([name in positives for name in labels], dtype=torch.bool)
    if not is_in_N.any() or is_in_N.all():
        raise ConfigError(
            f"a gate needs classes to let through and classes to stop, got {list(positives)} of {list(labels)}"
        )
    return is_in_N


def gated_loss(
    task_B: Tensor,
    odds: Sequence[Tensor],
    is_positive_B: Tensor,
    layers: Sequence[GatedCompression],
    weights: Sequence[Weights],
    positive_weight: float = 1.0,
    warm: float = 1.0,
) -> Tensor:
    """Task + sum over the row of alpha BCE(gate) + warm beta (mean soft mask).

    Task and masks are charged on positives alone: a negative is to be stopped, nobody answers it. `warm` grows from 0
    to 1 while training begins, so that masks close on features that mean something. A batch of negatives alone has no
    task loss, one of positives alone is as any other.
    """
    share_of = is_positive_B.to(task_B.dtype)
    loss = (task_B * share_of).sum() / share_of.sum().clamp(min=1)
    weight = torch.tensor(positive_weight, dtype=task_B.dtype)
    for odds_B, layer, one in zip(odds, layers, weights, strict=True):
        gate = F.binary_cross_entropy_with_logits(odds_B, share_of, pos_weight=weight)
        loss = loss + one.alpha * gate + warm * one.beta * layer.soft_mask().mean() * share_of.mean()
    return loss
