"""MobileNetV2: inverted residuals with linear projections, in seven stages.

Shape letters: B batch, C channels, H W space, N classes.
Sandler et al., CVPR 2018, arXiv:1801.04381, table 2; its table 4 says 3.4 M parameters and 300 M multiply-adds at
width 1.0 and 224 x 224. The last convolution grows with the width but does not shrink (section 6.1).
Layers keep the numbers of torchvision's checkpoints (`features.0` .. `features.18`, `classifier.1`).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from splitrt.nn.blocks import conv_bn
from splitrt.nn.inverted import Run, at_width, check_width, run
from splitrt.nn.stages import Layers, Stage, check_classes, inside

FIRST_CHANNELS, LAST_CHANNELS = 32, 1280
RUNS = (
    Run(expand=1, channels=16, blocks=1, stride=1),
    Run(expand=6, channels=24, blocks=2, stride=2),
    Run(expand=6, channels=32, blocks=3, stride=2),
    Run(expand=6, channels=64, blocks=4, stride=2),
    Run(expand=6, channels=96, blocks=3, stride=1),
    Run(expand=6, channels=160, blocks=3, stride=2),
    Run(expand=6, channels=320, blocks=1, stride=1),
)
LAST_LAYER = 1 + sum(one.blocks for one in RUNS)


def stages(width_percent: int = 100) -> list[Stage]:
    """Side / 2, / 4, / 8, / 16, / 16, / 32, / 32. Raises ConfigError on a width that it cannot have."""
    check_width("mobilenetv2", width_percent)
    given, stride = at_width(FIRST_CHANNELS, width_percent), 2
    layers: Layers = OrderedDict({"0": conv_bn(3, given, 3, stride=2, activation=nn.ReLU6)})
    number, row = 1, []
    for spec in RUNS:
        channels, stride = at_width(spec.channels, width_percent), stride * spec.stride
        for block in run(given, channels, spec, nn.ReLU6):
            layers[str(number)] = block
            number += 1
        row.append(Stage(layers=layers, channels=channels, stride=stride))
        given, layers = channels, OrderedDict()
    return row


def answer(width_percent: int, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N)."""
    check_classes("mobilenetv2", classes)
    given, features = at_width(RUNS[-1].channels, width_percent), at_width(LAST_CHANNELS, max(100, width_percent))
    return OrderedDict(
        {
            str(LAST_LAYER): conv_bn(given, features, 1, activation=nn.ReLU6),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "classifier": nn.Sequential(OrderedDict({"1": nn.Linear(features, classes)})),
        }
    )


def original(name: str) -> str:
    """torchvision's name of a weight: `stem.2.body.1.0.weight` is `features.2.conv.1.0.weight`, and a projection's
    convolution and norm stand beside the others: `stem.2.body.2.1.bias` is `features.2.conv.3.bias`.
    """
    number, *rest = inside(name).split(".")
    if number == "classifier":
        return inside(name)
    if rest[0] != "body":
        return ".".join(["features", number, *rest])
    part, layer, what = rest[1:]
    projection = 1 if number == "1" else 2  # the first block does not expand
    place = str(projection + int(layer)) if int(part) == projection else f"{part}.{layer}"
    return f"features.{number}.conv.{place}.{what}"
