"""The server half of `mobilenet`: the bottleneck's decoder, then depthwise inverted residuals to the logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from splitrt.nn.blocks import classifier, inverted_residual, scaled
from splitrt.nn.bottleneck import Decoder
from splitrt.nn.split import FeatureShape, Tail


def build(
    *,
    features: FeatureShape,
    widths: Sequence[int],
    classes: int,
    decoder_hidden: int = 64,
    width: float = 1.0,
) -> Tail:
    """features: the shape at the cut, as the head states it."""
    deep, deepest = scaled(96, width), scaled(160, width)
    body = nn.Sequential(
        inverted_residual(features.channels, deep, expand=4, stride=2),
        inverted_residual(deep, deep, expand=4, stride=1),
        inverted_residual(deep, deepest, expand=4, stride=2),
        inverted_residual(deepest, deepest, expand=4, stride=1),
        classifier(deepest, scaled(320, width), classes),
    )
    return Tail(Decoder(max(widths), features.channels, decoder_hidden), body)
