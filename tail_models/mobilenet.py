"""The server half of `mobilenet`: the bottleneck's decoder, then depthwise inverted residuals to the logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from splitrt.nn.blocks import classifier, fused_residual, inverted_residual, scaled
from splitrt.nn.bottleneck import Decoder
from splitrt.nn.split import FeatureShape, Tail


def build(*, widths: Sequence[int], classes: int, decoder_hidden: int = 96, width: float = 1.0) -> Tail:
    """width: the channel multiplier, as in the head."""
    restored, deep, deepest = scaled(48, width), scaled(96, width), scaled(160, width)
    body = nn.Sequential(
        inverted_residual(restored, deep, expand=4, stride=2),
        inverted_residual(deep, deep, expand=4, stride=1),
        inverted_residual(deep, deepest, expand=4, stride=2),
        inverted_residual(deepest, deepest, expand=4, stride=1),
        classifier(deepest, scaled(320, width), classes),
    )
    return Tail(Decoder(max(widths), restored, decoder_hidden), body)


def replaced(features: FeatureShape, *, width: float = 1.0) -> nn.Module:
    """The stage at 1/8 of the frame's side, for which encoder and decoder stand."""
    restored = scaled(48, width)
    return nn.Sequential(
        fused_residual(features.channels, restored, expand=2, stride=2),
        fused_residual(restored, restored, expand=2, stride=1),
    )
