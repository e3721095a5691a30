"""A network in pieces, and the two halves that a bottleneck makes of it.

Shape letters: B batch, F feature channels at the cut, R restored channels, Z bottleneck channels, N outputs,
H W h w space.

    image ── stem ──┬── exits ── logits of each                  device
                    └── encoder(width) ── z
    z, width ── decoder ── restored ── body ── outputs          server
    image ── stem ── replaced ── restored ── body ── outputs    the whole model, undivided

A family gives the pieces: `Front` (stem) and `Back` (replaced, body). Exits are put after any stem (see
splitrt.nn.exits), and any bottleneck goes between the pieces:
encoder and decoder together stand for the stage `replaced`, and the decoder restores what that stage would have
given (head distillation: Matsubara et al., arXiv:2007.15818).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor, nn

from splitrt.nn.bottleneck import Bottleneck, Decoder, PlainDecoder, PlainEncoder, SlimEncoder

if TYPE_CHECKING:
    from splitrt.nn.exits import Exits


class FeatureShape(NamedTuple):
    """Channels, height and width of a map."""

    channels: int
    height: int
    width: int


class Body(Protocol):
    """restored_BRhw to outputs; `stages` gives what distillation matches on the way, the outputs last."""

    def __call__(self, restored_BRhw: Tensor) -> Tensor: ...

    def stages(self, restored_BRhw: Tensor) -> list[Tensor]: ...


class Staged(nn.Sequential):
    """Layers in a row, each a stage."""

    def stages(self, x_BRhw: Tensor) -> list[Tensor]:
        """What every stage gives, the outputs last."""
        given: list[Tensor] = []
        for layer in self:
            given.append(layer(given[-1] if given else x_BRhw))
        return given


class Front(nn.Module):
    """The pieces of a device: stem (B, 3, H', W') -> (B, F, H, W), and exits that read these features, or none."""

    def __init__(self, stem: nn.Module, features: FeatureShape) -> None:
        super().__init__()
        self.stem = stem
        self.features = features
        self.exits: Exits | None = None


class Back(nn.Module):
    """The pieces of a server: `replaced` (B, F, H, W) -> (B, R, h, w), for which a bottleneck stands, and `body`,
    restored to outputs.

    `body.stages(restored)` gives what distillation matches on the way, outputs last; a body whose answer is made
    of them by rule (detections of a map) does that in `forward` alone.
    """

    def __init__(self, replaced: nn.Module, body: nn.Module, restored: FeatureShape) -> None:
        super().__init__()
        self.replaced = replaced
        self.body = body
        self.restored = restored


class Head(nn.Module):
    """Device side: `exits` and `encoder` both read what `stem` gives."""

    def __init__(self, front: Front, stride: int, bottleneck: Bottleneck | None) -> None:
        """stride: side of the features over side of the bottleneck. Without a bottleneck the features are sent."""
        super().__init__()
        self.stem = front.stem
        self.exits = front.exits
        channels = front.features.channels
        self.encoder: SlimEncoder | PlainEncoder = (
            bottleneck.encoder(channels, stride) if bottleneck else PlainEncoder(channels)
        )


class Tail(nn.Module):
    """Server side: z_BZhw (channels not sent are zero), place_B of each frame's width -> outputs_BN."""

    def __init__(self, back: Back, bottleneck: Bottleneck | None) -> None:
        super().__init__()
        self.decoder: Decoder | PlainDecoder = (
            bottleneck.decoder(back.restored.channels) if bottleneck else PlainDecoder(back.replaced)
        )
        self.body = back.body

    def forward(self, z_BZhw: Tensor, place_B: Tensor) -> Tensor:
        outputs_BN: Tensor = self.body(self.decoder(z_BZhw, place_B))
        return outputs_BN


class Whole(nn.Module):
    """The undivided model: the teacher of the bottleneck, and every benchmark's reference."""

    def __init__(self, front: Front, back: Back) -> None:
        super().__init__()
        self.stem = front.stem
        self.replaced = back.replaced
        self.body = back.body

    def forward(self, x_BCHW: Tensor) -> Tensor:
        outputs_BN: Tensor = self.body(self.replaced(self.stem(x_BCHW)))
        return outputs_BN
