"""The device half of `mobilenet`: fused inverted residuals down to 1/8 of the frame's side.

Dense (fused) blocks while the map is large, depthwise ones in the exit: see splitrt.nn.blocks for the papers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.blocks import classifier, conv_bn, fused_residual, inverted_residual, scaled
from splitrt.nn.bottleneck import SlimEncoder
from splitrt.nn.split import FeatureShape, Head


def build(
    *,
    widths: Sequence[int],
    hidden_per_group: int = 16,
    classes: int,
    resolution: int = 128,
    width: float = 1.0,
) -> Head:
    """resolution: side of the square frame, 96 to 160 and a multiple of 32; width: the channel multiplier."""
    if resolution % 32 or not 96 <= resolution <= 160:
        raise ConfigError(f"mobilenet.resolution must be 96, 128 or 160, got {resolution}")
    narrow, middle, cut = scaled(16, width), scaled(24, width), scaled(48, width)
    stem = nn.Sequential(
        conv_bn(3, narrow, 3, stride=2),
        fused_residual(narrow, middle, expand=2, stride=2),
        fused_residual(middle, cut, expand=2, stride=2),
        fused_residual(cut, cut, expand=2, stride=1),
    )
    exit_branch = nn.Sequential(
        inverted_residual(cut, scaled(64, width), expand=2, stride=2),
        classifier(scaled(64, width), scaled(128, width), classes),
    )
    side = resolution // 8
    encoder = SlimEncoder(cut, widths, hidden_per_group)
    return Head(stem, exit_branch, encoder, FeatureShape(cut, side, side))
