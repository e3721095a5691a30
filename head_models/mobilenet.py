"""The device half of `mobilenet`: fused inverted residuals down to 1/4 of the frame's side, so that
a small device does a small share.

Dense (fused) blocks while the map is large: see splitrt.nn.blocks for the papers.
"""

from __future__ import annotations

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.blocks import conv_bn, fused_residual, scaled
from splitrt.nn.split import FeatureShape, Front


def build(*, classes: int, resolution: int = 128, width: float = 1.0) -> Front:
    """resolution: side of the square frame, 96 to 160 and a multiple of 32; width: the channel multiplier."""
    if resolution % 32 or not 96 <= resolution <= 160:
        raise ConfigError(f"mobilenet.resolution must be 96, 128 or 160, got {resolution}")
    narrow, cut = scaled(16, width), scaled(24, width)
    stem = nn.Sequential(conv_bn(3, narrow, 3, stride=2), fused_residual(narrow, cut, expand=2, stride=2))
    return Front(stem, FeatureShape(cut, resolution // 4, resolution // 4))
