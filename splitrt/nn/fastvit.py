"""FastViT: depthwise convolutions mix places, in the larger ones' last stage attention does.

Shape letters: B batch, C channels, H W space, N classes.
Vasu et al., ICCV 2023, arXiv:2303.14189. Published multiply-adds at 256 x 256:

    t8  0.7 G    t12  1.4 G    s12  1.8 G    sa12  1.9 G    sa24  3.8 G    sa36  5.6 G    ma36  7.9 G

The paper's parameters (3.6 M of t8, 6.8 M of t12, 20.6 M of sa24, 42.7 M of ma36) are those of neither form: the
weights that its authors published, and timm's cards, have 4.0 M, 7.6 M, 21.6 M and 44.1 M with training's branches.
The parts of a stage are in splitrt.nn.metaformer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.branched import Branched
from splitrt.nn.metaformer import AttentionBlock, LargeKernel, MixerBlock, Position
from splitrt.nn.stages import Layers, Stage, check_classes, inside

FINAL_EXPAND = 2
SQUEEZE = 16  # channels over those of the squeeze


class Variant(NamedTuple):
    channels: tuple[int, ...]
    depths: tuple[int, ...]
    expand: int
    attention: bool = False  # in the last stage


VARIANTS = {
    "t8": Variant((48, 96, 192, 384), (2, 2, 4, 2), 3),
    "t12": Variant((64, 128, 256, 512), (2, 2, 6, 2), 3),
    "s12": Variant((64, 128, 256, 512), (2, 2, 6, 2), 4),
    "sa12": Variant((64, 128, 256, 512), (2, 2, 6, 2), 4, attention=True),
    "sa24": Variant((64, 128, 256, 512), (4, 4, 12, 4), 4, attention=True),
    "sa36": Variant((64, 128, 256, 512), (6, 6, 18, 6), 4, attention=True),
    "ma36": Variant((76, 152, 304, 608), (6, 6, 18, 6), 4, attention=True),
}


def stages(variant: str) -> list[Stage]:
    """Side / 4 (three convolutions), / 4, / 8, / 16, / 32. Raises ConfigError on a variant that the paper has not."""
    spec = _variant(variant)
    given = spec.channels[0]
    row = [Stage(layers=OrderedDict(stem=_stem(given)), channels=given, stride=4)]
    for number, (channels, depth) in enumerate(zip(spec.channels, spec.depths, strict=True)):
        is_attention = spec.attention and number == len(spec.channels) - 1
        kind = AttentionBlock if is_attention else MixerBlock
        parts: Layers = OrderedDict()
        if number:
            halve = nn.Sequential(LargeKernel(given, channels), Branched(channels, channels, 1, nn.GELU()))
            parts["downsample"] = nn.Sequential(OrderedDict(proj=halve))
        if is_attention:
            parts["pos_emb"] = Position(channels)
        parts["blocks"] = nn.Sequential(*(kind(channels, spec.expand) for _ in range(depth)))
        layers: Layers = OrderedDict({f"stage{number}": nn.Sequential(parts)})
        row.append(Stage(layers=layers, channels=channels, stride=4 * 2**number))
        given = channels
    return row


def answer(variant: str, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N)."""
    check_classes("fastvit", classes)
    given = _variant(variant).channels[-1]
    features = FINAL_EXPAND * given
    head = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(features, classes))
    return OrderedDict(
        final_conv=Branched(given, features, 3, nn.GELU(), groups=given, squeezed=features // SQUEEZE),
        head=nn.Sequential(head),
    )


def original(name: str) -> str:
    """timm's name: `replaced.stage1.blocks.0.mlp.fc1.bias` is `stages.1.blocks.0.mlp.fc1.bias`."""
    return inside(name).replace("stage", "stages.", 1)


def _stem(channels: int) -> nn.Sequential:
    """(B, 3, H, W) -> (B, C, H / 4, W / 4)."""
    return nn.Sequential(
        Branched(3, channels, 3, nn.GELU(), stride=2),
        Branched(channels, channels, 3, nn.GELU(), stride=2, groups=channels),
        Branched(channels, channels, 1, nn.GELU()),
    )


def _variant(variant: str) -> Variant:
    if variant not in VARIANTS:
        raise ConfigError(f"fastvit.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    return VARIANTS[variant]
