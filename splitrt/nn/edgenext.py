"""EdgeNeXt: convolutions whose kernels grow from stage to stage, and attention between channels at each one's end.

Shape letters: B batch, C channels, H W space, N classes.
Maaz et al., CADL at ECCV 2022, arXiv:2206.10589, and base as in its repository. Published, at 256 x 256; the layer
scales that are folded here are less than half a percent of the parameters:

    xx_small  1.33 M parameters  261 M multiply-adds      small   5.59 M  1,260 M
    x_small   2.34 M             538 M                    base   18.51 M  3,840 M

The attention is in splitrt.nn.crosscovariance.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn

from splitrt.errors import ConfigError
from splitrt.nn.crosscovariance import EPSILON, FeedForward, SplitAttention
from splitrt.nn.kernel import layer, vector
from splitrt.nn.pretrained import Published
from splitrt.nn.stages import Layers, Stage, check_classes, inside

KERNELS = (3, 5, 7, 9)
SCALES = (2, 2, 3, 4)  # groups of channels that see more places one after the other
POSITION_STAGE = 1
PATCH = 4


class Variant(NamedTuple):
    channels: tuple[int, ...]
    depths: tuple[int, ...]
    heads: int


VARIANTS = {
    "xx_small": Variant((24, 48, 88, 168), (2, 2, 6, 2), 4),
    "x_small": Variant((32, 64, 100, 192), (3, 3, 9, 3), 4),
    "small": Variant((48, 96, 160, 304), (3, 3, 9, 3), 8),
    "base": Variant((80, 160, 288, 584), (3, 3, 9, 3), 8),
}


def stages(variant: str, resolution: int) -> list[Stage]:
    """Side / 4 (patches), / 4, / 8, / 16, / 32. Raises ConfigError on a variant that the paper has not."""
    spec = _variant(variant)
    given = spec.channels[0]
    stem = nn.Sequential(nn.Conv2d(3, given, PATCH, PATCH), ChannelNorm(given))
    row = [Stage(layers=OrderedDict(stem=stem), channels=given, stride=PATCH)]
    for number, (channels, depth) in enumerate(zip(spec.channels, spec.depths, strict=True)):
        stride = PATCH * 2**number
        blocks: list[nn.Module] = [ConvBlock(channels, KERNELS[number]) for _ in range(depth)]
        if number:
            # A resolution that makes no map is refused where the halves are made.
            side = max(1, resolution // stride) if number == POSITION_STAGE else None
            blocks[-1] = SplitAttention(channels, spec.heads, SCALES[number], side)
        parts: Layers = OrderedDict()
        if number:
            parts["downsample"] = nn.Sequential(ChannelNorm(given), nn.Conv2d(given, channels, 2, 2))
        parts["blocks"] = nn.Sequential(*blocks)
        layers: Layers = OrderedDict({f"stage{number}": nn.Sequential(parts)})
        row.append(Stage(layers=layers, channels=channels, stride=stride))
        given = channels
    return row


def answer(variant: str, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N)."""
    check_classes("edgenext", classes)
    given = _variant(variant).channels[-1]
    norm, linear = nn.LayerNorm(given, EPSILON), nn.Linear(given, classes)
    head = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), norm=norm, fc=linear)
    return OrderedDict(head=nn.Sequential(head))


def original(name: str) -> str:
    """timm's name: `replaced.stage1.blocks.0.mlp.fc1.bias` is `stages.1.blocks.0.mlp.fc1.bias`."""
    return inside(name).replace("stage", "stages.", 1)


class ChannelNorm(nn.LayerNorm):
    """x_BCHW -> x_BCHW, normalised over the channels of each place."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, EPSILON)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """x_BCHW -> x_BCHW: a depthwise convolution, a norm and two linear layers, a skip around all; in training a layer
    scale after them.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, EPSILON)
        self.mlp = FeedForward(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BHWC = self.mlp(self.norm(self.conv_dw(x_BCHW).permute(0, 2, 3, 1)))
        y_BCHW: Tensor = y_BHWC.permute(0, 3, 1, 2)
        return x_BCHW + y_BCHW

    def fold(self, published: Published) -> dict[str, Tensor]:
        shape = self.mlp.fc2.weight.shape
        scale_O = vector(published, "gamma", shape[0])
        return layer(published.below("mlp.fc2"), shape).scaled(scale_O).named("mlp.fc2")


def _variant(variant: str) -> Variant:
    if variant not in VARIANTS:
        raise ConfigError(f"edgenext.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    return VARIANTS[variant]
