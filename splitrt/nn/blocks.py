"""Convolution blocks that the built-in families are made of.

Shape letters: B batch, C channels, H W space.
Inverted residuals: Sandler et al., CVPR 2018, arXiv:1801.04381. The fused form (one dense 3x3 in place
of expand and depthwise): Tan and Le, ICML 2021, arXiv:2104.00298; on CPUs it is the faster of the two
while the map is large and the channels few.
"""

from __future__ import annotations

from torch import Tensor, nn


def scaled(channels: int, width: float) -> int:
    """`channels` under a width multiplier, rounded to a multiple of 8, never below 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act: bool = True,
    activation: type[nn.ReLU | nn.ReLU6 | nn.Hardswish] = nn.ReLU,
    epsilon: float = 1e-5,
) -> nn.Sequential:
    """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)); epsilon: of the norm."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=epsilon),
    ]
    if act:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """A body with a skip around it where the shapes allow one."""

    def __init__(self, body: nn.Sequential, *, skip: bool) -> None:
        super().__init__()
        self.body = body
        self.skip = skip

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.body(x_BCHW)
        return x_BCHW + y_BCHW if self.skip else y_BCHW


def inverted_residual(in_channels: int, out_channels: int, *, expand: int, stride: int) -> Residual:
    """Expand 1x1, depthwise 3x3, project 1x1 (no activation after the projection)."""
    hidden = in_channels * expand
    body = nn.Sequential(
        conv_bn(in_channels, hidden, 1),
        conv_bn(hidden, hidden, 3, stride=stride, groups=hidden),
        conv_bn(hidden, out_channels, 1, act=False),
    )
    return Residual(body, skip=stride == 1 and in_channels == out_channels)


def fused_residual(in_channels: int, out_channels: int, *, expand: int, stride: int) -> Residual:
    """Dense 3x3 to the expanded channels, project 1x1."""
    hidden = in_channels * expand
    body = nn.Sequential(conv_bn(in_channels, hidden, 3, stride=stride), conv_bn(hidden, out_channels, 1, act=False))
    return Residual(body, skip=stride == 1 and in_channels == out_channels)


def classifier(in_channels: int, features: int, classes: int) -> nn.Sequential:
    """Pointwise convolution, global average pool, linear: (B, C, H, W) -> (B, classes)."""
    return nn.Sequential(
        conv_bn(in_channels, features, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, classes),
    )
