"""The server half of `mobilenet`: the stage at 1/8 of the frame's side, for which a bottleneck may stand, then
depthwise inverted residuals to the logits.
"""

from __future__ import annotations

from torch import nn

from splitrt.nn.blocks import classifier, fused_residual, inverted_residual, scaled
from splitrt.nn.split import Back, FeatureShape, Staged


def build(*, classes: int, resolution: int = 128, width: float = 1.0) -> Back:
    """As in the head."""
    cut, restored, deep, deepest = (scaled(channels, width) for channels in (24, 48, 96, 160))
    replaced = nn.Sequential(
        fused_residual(cut, restored, expand=2, stride=2),
        fused_residual(restored, restored, expand=2, stride=1),
    )
    body = Staged(
        inverted_residual(restored, deep, expand=4, stride=2),
        inverted_residual(deep, deep, expand=4, stride=1),
        inverted_residual(deep, deepest, expand=4, stride=2),
        inverted_residual(deepest, deepest, expand=4, stride=1),
        classifier(deepest, scaled(320, width), classes),
    )
    return Back(replaced, body, FeatureShape(restored, resolution // 8, resolution // 8))
