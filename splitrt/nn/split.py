"""The two halves of a split model, as the families build them.

Shape letters: B batch, F feature channels at the cut, Z bottleneck channels, N classes, H W space.

    image ── stem ──┬── exit ── logits                        device
                    └── encoder(width) ── z
    z ── decoder ── restored ── body ── logits                server
    image ── stem ── replaced ── restored ── body ── logits   the whole model, undivided

Encoder and decoder together stand for the stage `replaced`: the decoder restores what that stage would
have given (head distillation: Matsubara et al., arXiv:2007.15818).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from splitrt.nn.bottleneck import Decoder, SlimEncoder


class FeatureShape(NamedTuple):
    """Channels, height and width of the features at the cut."""

    channels: int
    height: int
    width: int


class Head(nn.Module):
    """Device side. `exit` and `encoder` both read what `stem` gives: (B, 3, H, W) -> (B, F, H', W')."""

    def __init__(self, stem: nn.Module, exit: nn.Module, encoder: SlimEncoder, features: FeatureShape) -> None:
        super().__init__()
        self.stem = stem
        self.exit = exit
        self.encoder = encoder
        self.features = features


class Tail(nn.Module):
    """Server side: z_BZHW (channels not sent are zero) -> logits_BN."""

    def __init__(self, decoder: Decoder, body: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.body = body

    def forward(self, z_BZHW: Tensor) -> Tensor:
        logits_BN: Tensor = self.body(self.decoder(z_BZHW))
        return logits_BN


class Whole(nn.Module):
    """The undivided model: the teacher of the bottleneck, and every benchmark's reference."""

    def __init__(self, stem: nn.Module, replaced: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.replaced = replaced
        self.body = body

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BN: Tensor = self.body(self.replaced(self.stem(x_BCHW)))
        return logits_BN
