"""The inverted residual of the MobileNets and of MnasNet: expand 1x1, depthwise, squeeze-excite, project 1x1.

Shape letters: B batch, C channels, H W space.
Sandler et al., CVPR 2018, arXiv:1801.04381; squeeze-excite: Hu et al., CVPR 2018, arXiv:1709.01507, with the hard
sigmoid of Howard et al., ICCV 2019, arXiv:1905.02244. The projection has no activation: it would lose what few
channels carry.

    x ──┬── expand 1x1 ── depthwise ──(squeeze-excite)── project 1x1 ──(+)── y
        └─────────── if stride is 1 and channels stay ────────────────┘
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.nn.blocks import Residual, conv_bn
from splitrt.nn.squeeze import SqueezeExcite

MULTIPLE = 8
WIDTHS_PERCENT = range(10, 201)


class Run(NamedTuple):
    """Inverted residuals in a row; the first has the stride and changes the channels."""

    expand: int  # hidden channels over those given
    channels: int
    blocks: int
    stride: int
    kernel: int = 3


def divisible(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and the next one where rounding would take more than a tenth."""
    nearest = max(MULTIPLE, int(channels + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return nearest if nearest >= 0.9 * channels else nearest + MULTIPLE


def at_width(channels: int, width_percent: int) -> int:
    """`channels` under a width multiplier, as a multiple of 8."""
    return divisible(channels * width_percent / 100)


def check_width(family: str, width_percent: int) -> None:
    """Raises ConfigError on a width multiplier that is no whole percentage in reach, 1.0 for 100 among them."""
    if width_percent not in WIDTHS_PERCENT:
        least, most = WIDTHS_PERCENT[0], WIDTHS_PERCENT[-1]
        raise ConfigError(f"{family}.width_percent must be a whole number from {least} to {most}, got {width_percent}")


def inverted(
    in_channels: int,
    out_channels: int,
    *,
    hidden: int,
    kernel: int = 3,
    stride: int = 1,
    squeeze: bool = False,
    activation: type[nn.ReLU | nn.ReLU6 | nn.Hardswish] = nn.ReLU,
    epsilon: float = 1e-5,
) -> Residual:
    """(B, in, H, W) -> (B, out, H / stride, W / stride); without a first 1x1 where `hidden` is what is given."""
    body = nn.Sequential()
    if hidden != in_channels:
        body.append(conv_bn(in_channels, hidden, 1, activation=activation, epsilon=epsilon))
    body.append(conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation, epsilon=epsilon))
    if squeeze:
        body.append(SqueezeExcite(hidden, divisible(hidden // 4), F.hardsigmoid))
    body.append(conv_bn(hidden, out_channels, 1, act=False, epsilon=epsilon))
    return Residual(body, skip=stride == 1 and in_channels == out_channels)


def run(
    in_channels: int, out_channels: int, spec: Run, activation: type[nn.ReLU | nn.ReLU6 | nn.Hardswish] = nn.ReLU
) -> list[Residual]:
    """The blocks of `spec`, whose channels at some width are `out_channels`."""
    given = [in_channels] + [out_channels] * (spec.blocks - 1)
    strides = [spec.stride] + [1] * (spec.blocks - 1)
    return [
        inverted(
            channels,
            out_channels,
            hidden=channels * spec.expand,
            kernel=spec.kernel,
            stride=stride,
            activation=activation,
        )
        for channels, stride in zip(given, strides, strict=True)
    ]
