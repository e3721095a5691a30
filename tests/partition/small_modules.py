"""Networks of a few channels, each with something in it that a cut can get wrong, and what it takes to join halves.

Shape letters: B batch, C channels, H W space, T tokens, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from splitrt.codec import parts
from splitrt.codec.parts import EXACT
from splitrt.nn.interpreter import laid_out
from splitrt.partition.bundle import tensor_spec
from splitrt.partition.cuts import Cut
from splitrt.partition.divide import Halves

Inputs = tuple[Any, ...]
Made = tuple[nn.Module, Inputs]


def photograph() -> Inputs:
    return (torch.randn(1, 3, 8, 8),)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(4, 5)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        stem = self.stem(x_BCHW)
        joined = self.block(stem) + stem
        logits: Tensor = self.classifier(joined.mean((2, 3)))
        return logits


class Dense(nn.Module):
    """Every layer reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 2 * place, 2, 3, padding=1) for place in range(3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        found = [x_BCHW]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)).relu())
        return torch.cat(found, 1).amax((2, 3))


class TwoScales(nn.Module):
    """A fine and a coarse map, both of which the end reads."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 2, 3, padding=1)
        self.coarse = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.end = nn.Conv2d(6, 2, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        fine = self.fine(x_BCHW).relu()
        coarse = self.coarse(fine).relu()
        large = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear")
        found: Tensor = self.end(torch.cat([fine, large], 1))
        return found


class Attention(nn.Module):
    """Chunks of one product, a mask made from nothing, positions from a parameter that is expanded, a skip."""

    positions: Tensor

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(11, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.register_buffer("positions", torch.randn(6, 8))
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTF = torch.cat([self.token.expand(len(ids_BT), -1, -1), self.embed(ids_BT)], 1) + self.positions
        mask_TT = torch.full((6, 6), float("-inf")).triu(1)
        q, k, v = (part.view(1, 6, self.heads, 4).transpose(1, 2) for part in self.qkv(x_BTF).chunk(3, -1))
        weights = (q @ k.transpose(-2, -1) / 2 + mask_TT).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(1, 6, 8)
        logits: Tensor = self.norm(x_BTF + self.out(mixed)) @ self.embed.weight.t()  # tied
        return logits


class TokensLast(nn.Module):
    """Channels last in memory, looked at as tokens without a copy: right only in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.end = nn.Linear(8, 5)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        map_BCHW = self.second(self.first(x_BCHW).relu()).relu()
        tokens: Tensor = self.end(map_BCHW.permute(0, 2, 3, 1).view(1, -1, 8))
        return tokens.mean(1)


class Views(nn.Module):
    """The same values in several forms at once, some with gaps between them in memory."""

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        y = x_BCHW * 2
        rows, turned, every_other = y.flatten(1), y.transpose(2, 3), y[:, :, ::2]
        z = y.relu()
        return rows @ turned.reshape(-1, 1) + z.sum(), every_other.matmul(turned[:, :, :, ::2]) + every_other.sum()


class Numbers(nn.Module):
    """Numbers, truth values and half precision read from the data."""

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, ...]:
        n = x_BCHW.argmax().item()
        places = (x_BCHW.sigmoid() * 10).long()
        half = x_BCHW.half()
        positive = x_BCHW > 0
        y = (x_BCHW * n).relu() + places
        return y, half.double().sum().float(), torch.where(positive, y, -y), n * y


class Several(nn.Module):
    """Operators that give several values, of which not all are used."""

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        first, second = torch.split(x_BCHW + 1, [1, 2], 1)
        values, places = second.flatten(1).topk(5)
        highest, _ = first.max(-1)
        one, two, _ = x_BCHW.sin().unbind(1)
        return values * highest.sum() + places, one - two


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.end = nn.Linear(4, 6), nn.Embedding(9, 6), nn.Linear(6, 3)

    def forward(self, x_BF: Tensor, ids_BT: Tensor) -> Tensor:
        found: Tensor = self.end(self.left(x_BF).tanh() + self.right(ids_BT).mean(1).tanh())
        return found


def channels_last(module: nn.Module, inputs: Inputs) -> Made:
    in_memory: Any = torch.channels_last
    one: Any = module
    return one.to(memory_format=in_memory), tuple(each.to(memory_format=in_memory) for each in inputs)


MODULES: dict[str, Callable[[], Made]] = {
    "residual": lambda: (Residual(), photograph()),
    "residual, channels last": lambda: channels_last(Residual(), photograph()),
    "dense": lambda: (Dense(), photograph()),
    "dense, channels last": lambda: channels_last(Dense(), photograph()),
    "two scales": lambda: (TwoScales(), photograph()),
    "attention": lambda: (Attention(), (torch.tensor([[1, 5, 2, 0, 10]]),)),
    "tokens, channels last": lambda: channels_last(TokensLast(), photograph()),
    "views": lambda: (Views(), photograph()),
    "numbers": lambda: (Numbers(), photograph()),
    "several values": lambda: (Several(), photograph()),
    "two inputs": lambda: (TwoInputs(), (torch.randn(1, 4), torch.tensor([[3, 8]]))),
}


def made(name: str) -> Made:
    torch.manual_seed(0)
    module, inputs = MODULES[name]()
    return module.eval(), inputs


def tensors_of(module: nn.Module, *inputs: Any, **keywords: Any) -> list[Tensor]:
    """What the user's own module gives, on copies: it may write to them."""
    inputs, keywords = pytree.tree_map_only(Tensor, lambda one: one.clone(), (inputs, keywords))
    with torch.inference_mode():
        return [one for one in pytree.tree_leaves(module(*inputs, **keywords)) if isinstance(one, Tensor)]


def across(halves: Halves, cut: Cut, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Head, the seam's bytes at 32 bits, tail."""
    seam = [tensor_spec(value).part for value in cut.seam]
    with torch.inference_mode():
        sent = [one.numpy() for one in halves.head.module()(*inputs)]
        came = parts.decode(*parts.encode(sent, seam, EXACT, None), seam, EXACT, None)
        return list(halves.tail.module()(*laid_out(halves.tail.graph.inputs, came)))


def same(given: Any, wanted: Any) -> bool:
    """Bit for bit, as many, of the same dtypes; NaN where the other has it."""
    return len(given) == len(wanted) and all(
        one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
        for one, other in zip(given, wanted, strict=True)
    )
