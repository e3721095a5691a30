"""MobileNetV4 without attention, small, medium and large: universal inverted bottlenecks, in six stages.

Shape letters: B batch, C channels, H W space, N classes.
Qin et al., ECCV 2024, arXiv:2404.10518; its table of ImageNet results says 3.8 M parameters and 0.2 G multiply-adds of
Conv-S at 224 x 224, 9.2 M and 1.0 G of Conv-M at 256 x 256, 31 M and 5.9 G of Conv-L at 384 x 384. The published
weights are timm's, whose networks are the ones here: Conv-S has 3.77 M parameters and 0.19 G multiply-adds, Conv-M
9.72 M and 0.84 G, both at 224 x 224, Conv-L 32.59 M and 6.43 G at 384 x 384, with its norms counted.
Layers keep timm's names (`conv_stem`, `blocks.0.0.conv` .., `conv_head`, `classifier`).

    x ──┬──(depthwise `start`)── expand 1x1 ──(depthwise `middle`)── project 1x1 ──(+)── y
        └────────────────── if stride is 1 and channels stay ─────────────────────┘

With neither depthwise layer this is a feed-forward block, with `start` alone a ConvNeXt block, with `middle` alone the
inverted residual, with both ExtraDW.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.blocks import Residual, conv_bn, fused_residual
from splitrt.nn.stages import Layers, Stage, check_classes, inside

FEATURES = 1280
PARTS = ("dw_start", "pw_exp", "dw_mid", "pw_proj")
ORIGINAL = {  # of layers in a block: a convolution's, a fused residual's and a universal one's
    **{"0": "conv", "1": "bn1"},
    **{"body.0.0": "conv_exp", "body.0.1": "bn1", "body.1.0": "conv_pwl", "body.1.1": "bn2"},
    **{f"body.{part}.0": f"{part}.conv" for part in PARTS},
    **{f"body.{part}.1": f"{part}.bn" for part in PARTS},
}


class Conv(NamedTuple):
    kernel: int
    channels: int
    stride: int = 1


class Fused(NamedTuple):
    expand: int
    channels: int
    stride: int = 1


class Universal(NamedTuple):
    """Kernels of the depthwise layers, 0 for none; the stride is the middle one's, or the first's if it is alone."""

    start: int
    middle: int
    expand: int
    channels: int
    stride: int = 1


Block = Conv | Fused | Universal


class Size(NamedTuple):
    first: int  # channels of the first convolution, which is a stage by itself
    stages: tuple[tuple[Block, ...], ...]


SIZES = {
    "small": Size(
        32,
        (
            (Conv(3, 32, stride=2), Conv(1, 32)),
            (Conv(3, 96, stride=2), Conv(1, 64)),
            (Universal(5, 5, 3, 96, stride=2), *[Universal(0, 3, 2, 96)] * 4, Universal(3, 0, 4, 96)),
            (
                Universal(3, 3, 6, 128, stride=2),
                Universal(5, 5, 4, 128),
                Universal(0, 5, 4, 128),
                Universal(0, 5, 3, 128),
                *[Universal(0, 3, 4, 128)] * 2,
            ),
            (Conv(1, 960),),
        ),
    ),
    "medium": Size(
        32,
        (
            (Fused(4, 48, stride=2),),
            (Universal(3, 5, 4, 80, stride=2), Universal(3, 3, 2, 80)),
            (
                Universal(3, 5, 6, 160, stride=2),
                *[Universal(3, 3, 4, 160)] * 2,
                Universal(3, 5, 4, 160),
                Universal(3, 3, 4, 160),
                Universal(3, 0, 4, 160),
                Universal(0, 0, 2, 160),
                Universal(3, 0, 4, 160),
            ),
            (
                Universal(5, 5, 6, 256, stride=2),
                Universal(5, 5, 4, 256),
                *[Universal(3, 5, 4, 256)] * 2,
                Universal(0, 0, 4, 256),
                Universal(3, 0, 4, 256),
                Universal(3, 5, 2, 256),
                Universal(5, 5, 4, 256),
                *[Universal(0, 0, 4, 256)] * 2,
                Universal(5, 0, 2, 256),
            ),
            (Conv(1, 960),),
        ),
    ),
    "large": Size(
        24,
        (
            (Fused(4, 48, stride=2),),
            (Universal(3, 5, 4, 96, stride=2), Universal(3, 3, 4, 96)),
            (
                Universal(3, 5, 4, 192, stride=2),
                *[Universal(3, 3, 4, 192)] * 3,
                Universal(3, 5, 4, 192),
                *[Universal(5, 3, 4, 192)] * 5,
                Universal(3, 0, 4, 192),
            ),
            (
                Universal(5, 5, 4, 512, stride=2),
                *[Universal(5, 5, 4, 512)] * 3,
                Universal(5, 0, 4, 512),
                Universal(5, 3, 4, 512),
                *[Universal(5, 0, 4, 512)] * 2,
                Universal(5, 3, 4, 512),
                Universal(5, 5, 4, 512),
                *[Universal(5, 0, 4, 512)] * 3,
            ),
            (Conv(1, 960),),
        ),
    ),
}


def stages(size: str) -> list[Stage]:
    """Side / 2, / 4, / 8, / 16, / 32, / 32. Raises ConfigError on a size that is not here."""
    if size not in SIZES:
        raise ConfigError(f"mobilenetv4.size must be one of {', '.join(SIZES)}, got {size!r}")
    given, stride = SIZES[size].first, 2
    row = [Stage(layers=_named("conv_stem", "bn1", conv_bn(3, given, 3, stride=2)), channels=given, stride=stride)]
    for number, specs in enumerate(SIZES[size].stages):
        blocks = nn.Sequential()
        for spec in specs:
            blocks.append(_block(given, spec))
            given, stride = spec.channels, stride * spec.stride
        row.append(Stage(layers=OrderedDict({f"blocks{number}": blocks}), channels=given, stride=stride))
    return row


def answer(size: str, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N): the mean comes before the last convolution."""
    check_classes("mobilenetv4", classes)
    given = SIZES[size].stages[-1][-1].channels
    layers: Layers = OrderedDict(pool=nn.AdaptiveAvgPool2d(1))
    layers |= _named("conv_head", "norm_head", conv_bn(given, FEATURES, 1))
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(FEATURES, classes)
    return layers


def original(name: str) -> str:
    """timm's name of a weight: `replaced.blocks2.0.body.dw_mid.1.bias` is `blocks.2.0.dw_mid.bn.bias`."""
    within = inside(name)
    if not within.startswith("blocks"):
        return within
    stage, block, rest = within.removeprefix("blocks").split(".", 2)
    layer, what = rest.rsplit(".", 1)
    return f"blocks.{stage}.{block}.{ORIGINAL[layer]}.{what}"


def _block(given: int, spec: Block) -> nn.Module:
    if isinstance(spec, Conv):
        return conv_bn(given, spec.channels, spec.kernel, stride=spec.stride)
    if isinstance(spec, Fused):
        return fused_residual(given, spec.channels, expand=spec.expand, stride=spec.stride)
    return _universal(given, spec)


def _universal(given: int, spec: Universal) -> Residual:
    hidden, parts = given * spec.expand, OrderedDict[str, nn.Module]()
    if spec.start:
        stride = 1 if spec.middle else spec.stride
        parts["dw_start"] = conv_bn(given, given, spec.start, stride=stride, groups=given, act=False)
    parts["pw_exp"] = conv_bn(given, hidden, 1)
    if spec.middle:
        parts["dw_mid"] = conv_bn(hidden, hidden, spec.middle, stride=spec.stride, groups=hidden)
    parts["pw_proj"] = conv_bn(hidden, spec.channels, 1, act=False)
    return Residual(nn.Sequential(parts), skip=spec.stride == 1 and given == spec.channels)


def _named(convolution: str, norm: str, layers: nn.Sequential) -> Layers:
    return OrderedDict(zip((convolution, norm, f"{norm}_relu"), layers, strict=True))
