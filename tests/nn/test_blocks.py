"""Shape letters: B batch, C channels, H W space."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splitrt.errors import ConfigError
from splitrt.nn.blocks import Residual, classifier, conv_bn, fused_residual, inverted_residual, scaled
from splitrt.nn.resnet import BasicBlock, blocks_per_stage, stage

pytestmark = pytest.mark.torch
relaxed = settings(deadline=None)


@relaxed
@given(channels=st.integers(8, 512), width=st.floats(0.1, 4))
def test_scaled_channels_are_the_nearest_multiple_of_eight_and_never_none(channels: int, width: float) -> None:
    given_channels = scaled(channels, width)
    assert given_channels % 8 == 0
    assert given_channels >= 8
    assert abs(given_channels - channels * width) <= 4 or given_channels == 8


@relaxed
@given(channels=st.integers(1, 512), widths=st.tuples(st.floats(0.1, 4), st.floats(0.1, 4)))
def test_a_wider_multiplier_never_gives_fewer_channels(channels: int, widths: tuple[float, float]) -> None:
    assert scaled(channels, min(widths)) <= scaled(channels, max(widths))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [7, 8])
def test_a_convolution_divides_the_side_by_its_stride_rounding_up(kernel: int, stride: int, side: int) -> None:
    y_BCHW = conv_bn(3, 5, kernel, stride=stride)(torch.zeros(2, 3, side, side))
    assert y_BCHW.shape == (2, 5, -(-side // stride), -(-side // stride))


def test_only_a_convolution_with_activation_clips_below_zero() -> None:
    torch.manual_seed(0)
    x_BCHW = torch.randn(4, 3, 8, 8)
    assert conv_bn(3, 8, 3)(x_BCHW).min() == 0
    assert conv_bn(3, 8, 3, act=False)(x_BCHW).min() < 0


@pytest.mark.parametrize("build", [inverted_residual, fused_residual])
@pytest.mark.parametrize(("channels", "stride", "skips"), [(8, 1, True), (16, 1, False), (8, 2, False), (16, 2, False)])
def test_a_residual_skips_only_where_the_shapes_allow(
    build: Callable[..., Residual], channels: int, stride: int, skips: bool
) -> None:
    torch.manual_seed(0)
    block = build(8, channels, expand=2, stride=stride).eval()
    x_BCHW = torch.randn(1, 8, 6, 6)
    y_BCHW = block(x_BCHW)
    assert y_BCHW.shape == (1, channels, 6 // stride, 6 // stride)
    if skips:
        torch.testing.assert_close(y_BCHW, x_BCHW + block.body(x_BCHW))
    else:
        torch.testing.assert_close(y_BCHW, block.body(x_BCHW))


def test_an_inverted_residual_is_depthwise_in_the_middle() -> None:
    block = inverted_residual(8, 8, expand=4, stride=1)
    assert [layer.groups for layer in block.modules() if isinstance(layer, nn.Conv2d)] == [1, 32, 1]


@pytest.mark.parametrize("side", [1, 5, 8])
def test_a_classifier_takes_a_map_of_any_size(side: int) -> None:
    assert classifier(8, 16, 6).eval()(torch.zeros(2, 8, side, side)).shape == (2, 6)


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (20, 3), (32, 5), (44, 7), (56, 9), (110, 18)])
def test_a_depth_of_6n_plus_2_has_n_blocks_a_stage(depth: int, blocks: int) -> None:
    assert blocks_per_stage(depth) == blocks


@pytest.mark.parametrize("depth", [-4, 0, 2, 18, 21, 51])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match=rf"resnet\.depth must be 6n \+ 2 .*, got {depth}"):
        blocks_per_stage(depth)


@pytest.mark.parametrize(("number", "channels", "side"), [(1, 16, 8), (2, 32, 4), (3, 64, 2)])
def test_stages_double_the_channels_and_halve_the_side(number: int, channels: int, side: int) -> None:
    before = {1: (16, 8), 2: (16, 8), 3: (32, 4)}[number]
    y_BCHW = stage(number, 2)(torch.zeros(2, before[0], before[1], before[1]))
    assert y_BCHW.shape == (2, channels, side, side)


def test_a_shortcut_without_parameters_subsamples_and_pads_with_zeros() -> None:
    block = BasicBlock(2, 4, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)
    x_BCHW = torch.rand(1, 2, 4, 4)
    y_BCHW = block(x_BCHW)
    assert (y_BCHW[:, [0, 3]] == 0).all()
    torch.testing.assert_close(y_BCHW[:, 1:3], x_BCHW[:, :, ::2, ::2])
