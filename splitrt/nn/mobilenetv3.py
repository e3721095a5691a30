"""MobileNetV3, large and small: inverted residuals with squeeze-excite and hard swish, in six stages.

Shape letters: B batch, C channels, H W space, N classes.
Howard et al., ICCV 2019, arXiv:1905.02244, tables 1 and 2; its table 3 says 5.4 M parameters and 219 M multiply-adds
of the large one, 2.5 M and 56 M of the small one, at 224 x 224.
Layers keep the numbers of torchvision's checkpoints (`features.0` .., `classifier.0`, `classifier.3`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.blocks import conv_bn
from splitrt.nn.inverted import inverted
from splitrt.nn.stages import Layers, Stage, check_classes, inside

EPSILON = 1e-3  # of the batch norms
FIRST_CHANNELS = 16
LAST_EXPAND = 6
SWISH = nn.Hardswish


class Block(NamedTuple):
    """A row of the paper's table."""

    kernel: int
    hidden: int
    channels: int
    squeeze: bool
    activation: type[nn.ReLU | nn.Hardswish]
    stride: int = 1


class Size(NamedTuple):
    """Blocks of each stage after the first convolution, which is a stage's beginning where the map stays."""

    stages: tuple[tuple[Block, ...], ...]
    features: int  # between the two linear layers


SIZES = {
    "large": Size(
        (
            (Block(3, 16, 16, False, nn.ReLU),),
            (Block(3, 64, 24, False, nn.ReLU, stride=2), Block(3, 72, 24, False, nn.ReLU)),
            (Block(5, 72, 40, True, nn.ReLU, stride=2), *[Block(5, 120, 40, True, nn.ReLU)] * 2),
            (
                Block(3, 240, 80, False, SWISH, stride=2),
                Block(3, 200, 80, False, SWISH),
                *[Block(3, 184, 80, False, SWISH)] * 2,
            ),
            (Block(3, 480, 112, True, SWISH), Block(3, 672, 112, True, SWISH)),
            (Block(5, 672, 160, True, SWISH, stride=2), *[Block(5, 960, 160, True, SWISH)] * 2),
        ),
        features=1280,
    ),
    "small": Size(
        (
            (),
            (Block(3, 16, 16, True, nn.ReLU, stride=2),),
            (Block(3, 72, 24, False, nn.ReLU, stride=2), Block(3, 88, 24, False, nn.ReLU)),
            (Block(5, 96, 40, True, SWISH, stride=2), *[Block(5, 240, 40, True, SWISH)] * 2),
            (Block(5, 120, 48, True, SWISH), Block(5, 144, 48, True, SWISH)),
            (Block(5, 288, 96, True, SWISH, stride=2), *[Block(5, 576, 96, True, SWISH)] * 2),
        ),
        features=1024,
    ),
}


def stages(size: str) -> list[Stage]:
    """Side / 2, / 4, / 8, / 16, / 16, / 32. Raises ConfigError on a size that the paper has not."""
    if size not in SIZES:
        raise ConfigError(f"mobilenetv3.size must be one of {', '.join(SIZES)}, got {size!r}")
    first = conv_bn(3, FIRST_CHANNELS, 3, stride=2, activation=SWISH, epsilon=EPSILON)
    layers: Layers = OrderedDict({"0": first})
    number, given, stride, row = 1, FIRST_CHANNELS, 2, []
    for blocks in SIZES[size].stages:
        for block in blocks:
            layers[str(number)] = inverted(
                given,
                block.channels,
                hidden=block.hidden,
                kernel=block.kernel,
                stride=block.stride,
                squeeze=block.squeeze,
                activation=block.activation,
                epsilon=EPSILON,
            )
            number, given, stride = number + 1, block.channels, stride * block.stride
        row.append(Stage(layers=layers, channels=given, stride=stride))
        layers = OrderedDict()
    return row


def answer(size: str, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N)."""
    check_classes("mobilenetv3", classes)
    blocks, features = SIZES[size]
    given, number = blocks[-1][-1].channels, 1 + sum(len(one) for one in blocks)
    last = given * LAST_EXPAND
    linear = {"0": nn.Linear(last, features), "1": SWISH(inplace=True), "3": nn.Linear(features, classes)}
    return OrderedDict(
        {
            str(number): conv_bn(given, last, 1, activation=SWISH, epsilon=EPSILON),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "classifier": nn.Sequential(OrderedDict(linear)),
        }
    )


def original(name: str) -> str:
    """torchvision's name of a weight: `stem.4.body.2.fc1.bias` is `features.4.block.2.fc1.bias`."""
    within = inside(name)
    return within if within.startswith("classifier.") else f"features.{within.replace('.body.', '.block.')}"
