"""MobileOne: depthwise and pointwise convolutions by turns, no skip left after training.

Shape letters: B batch, C channels, H W space, N classes.
Vasu et al., CVPR 2023, arXiv:2206.04040. Published, counted of this form, branches folded, at 224 x 224:

    s0  2.1 M parameters   275 M multiply-adds        s3  10.1 M   1,896 M
    s1  4.8 M              825 M                      s4  14.8 M   2,978 M
    s2  7.8 M            1,299 M
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.branched import Branched
from splitrt.nn.stages import Layers, Stage, check_classes, inside

DEPTHS = (2, 8, 10, 1)  # pairs of depthwise and pointwise
SQUEEZE = 16  # channels over those of the squeeze


class Variant(NamedTuple):
    stem: int
    channels: tuple[int, ...]
    squeezed: tuple[int, ...] = (0, 0, 0, 0)  # last pairs of each stage with squeeze-excite


VARIANTS = {
    "s0": Variant(48, (48, 128, 256, 1024)),
    "s1": Variant(64, (96, 192, 512, 1280)),
    "s2": Variant(64, (96, 256, 640, 2048)),
    "s3": Variant(64, (128, 320, 768, 2048)),
    "s4": Variant(64, (192, 448, 896, 2048), squeezed=(0, 0, 5, 1)),
}


def stages(variant: str) -> list[Stage]:
    """Side / 2 (one convolution), / 4, / 8, / 16, / 32. Raises ConfigError on a variant that is not the paper's."""
    spec = _variant(variant)
    stem = Branched(3, spec.stem, 3, nn.ReLU(inplace=True), stride=2)
    row = [Stage(layers=OrderedDict(stem=stem), channels=spec.stem, stride=2)]
    for number, (channels, depth, squeezed) in enumerate(zip(spec.channels, DEPTHS, spec.squeezed, strict=True)):
        blocks: list[nn.Module] = []
        for pair in range(depth):
            given = channels if pair else row[-1].channels
            blocks += _pair(given, channels, stride=1 if pair else 2, squeeze=pair >= depth - squeezed)
        layers: Layers = OrderedDict({f"stage{number}": nn.Sequential(*blocks)})
        row.append(Stage(layers=layers, channels=channels, stride=4 * 2**number))
    return row


def answer(variant: str, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N)."""
    check_classes("mobileone", classes)
    linear = nn.Linear(_variant(variant).channels[-1], classes)
    head = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=linear)
    return OrderedDict(head=nn.Sequential(head))


def original(name: str) -> str:
    """timm's name: `replaced.stage1.3.se.fc1.bias` is `stages.1.3.attn.fc1.bias`."""
    return inside(name).replace("stage", "stages.", 1).replace(".se.", ".attn.")


def _pair(in_channels: int, out_channels: int, *, stride: int, squeeze: bool) -> list[nn.Module]:
    """A depthwise and a pointwise convolution, the squeeze-excite of both on or off."""
    narrow, wide = (channels // SQUEEZE if squeeze else None for channels in (in_channels, out_channels))
    return [
        Branched(
            in_channels,
            in_channels,
            3,
            nn.ReLU(inplace=True),
            stride=stride,
            groups=in_channels,
            squeezed=narrow,
        ),
        Branched(in_channels, out_channels, 1, nn.ReLU(inplace=True), squeezed=wide),
    ]


def _variant(variant: str) -> Variant:
    if variant not in VARIANTS:
        raise ConfigError(f"mobileone.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    return VARIANTS[variant]
