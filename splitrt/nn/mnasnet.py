"""MnasNet-B1, the one without squeeze-excite: found by search for the latency of a phone, in seven stages.

Shape letters: B batch, C channels, H W space, N classes.
Tan et al., CVPR 2019, arXiv:1807.11626; multiply-adds at width 1.0 and 224 x 224: 315 M, and 4,383,312 parameters.
Layers keep the numbers of torchvision's checkpoints (`layers.0` .. `layers.16`, `classifier.1`), of the second version,
in which the first layers have the width as well. In the first they have 32 and 16 channels at any width: such weights
are refused for their shapes, unless the width is 1.0, where both are one.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from splitrt.nn.blocks import conv_bn
from splitrt.nn.inverted import Run, at_width, check_width, run
from splitrt.nn.stages import Layers, Stage, check_classes, inside

FIRST_CHANNELS, SEPARABLE_CHANNELS, LAST_CHANNELS = 32, 16, 1280
RUNS = (
    Run(expand=3, channels=24, blocks=3, stride=2),
    Run(expand=3, channels=40, blocks=3, stride=2, kernel=5),
    Run(expand=6, channels=80, blocks=3, stride=2, kernel=5),
    Run(expand=6, channels=96, blocks=2, stride=1),
    Run(expand=6, channels=192, blocks=4, stride=2, kernel=5),
    Run(expand=6, channels=320, blocks=1, stride=1),
)
FIRST_RUN = 8  # the number of its layer: two convolutions with norm and activation, one without, are before it


def stages(width_percent: int = 100) -> list[Stage]:
    """Side / 2, / 4, / 8, / 16, / 16, / 32, / 32. Raises ConfigError on a width that it cannot have."""
    check_width("mnasnet", width_percent)
    first, given = at_width(FIRST_CHANNELS, width_percent), at_width(SEPARABLE_CHANNELS, width_percent)
    layers = _numbered(
        0, conv_bn(3, first, 3, stride=2), conv_bn(first, first, 3, groups=first), conv_bn(first, given, 1, act=False)
    )
    row, stride = [Stage(layers=layers, channels=given, stride=2)], 2
    for number, spec in enumerate(RUNS, FIRST_RUN):
        channels, stride = at_width(spec.channels, width_percent), stride * spec.stride
        blocks = nn.Sequential(*run(given, channels, spec))
        row.append(Stage(layers=OrderedDict({str(number): blocks}), channels=channels, stride=stride))
        given = channels
    return row


def answer(width_percent: int, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N); the last convolution has its channels at any width."""
    check_classes("mnasnet", classes)
    given = at_width(RUNS[-1].channels, width_percent)
    layers = _numbered(FIRST_RUN + len(RUNS), conv_bn(given, LAST_CHANNELS, 1))
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Sequential(OrderedDict({"1": nn.Linear(LAST_CHANNELS, classes)}))
    return layers


def original(name: str) -> str:
    """torchvision's name of a weight: `stem.8.0.body.1.1.bias` is `layers.8.0.layers.4.bias`, for there a block's
    convolutions, norms and activations stand in one row.
    """
    number, *rest = inside(name).split(".")
    if number == "classifier":
        return inside(name)
    if len(rest) == 1:
        return f"layers.{number}.{rest[0]}"
    block, _, part, layer, what = rest
    return f"layers.{number}.{block}.layers.{3 * int(part) + int(layer)}.{what}"


def _numbered(first: int, *parts: nn.Sequential) -> Layers:
    return OrderedDict((str(number), layer) for number, layer in enumerate((one for p in parts for one in p), first))
