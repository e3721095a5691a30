"""MobileNetV2, V3, V4 and MnasNet: the published sizes, the published names, and the same answer wherever they are cut.

Shape letters: B batch, C channels, H W space.
"""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from splitrt import families
from splitrt.errors import ConfigError
from splitrt.nn.bottleneck import Bottleneck, widen
from splitrt.nn.inverted import divisible
from splitrt.nn.split import Back, Front, Head, Tail, Whole
from splitrt.nn.squeeze import SqueezeExcite

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

Arguments = dict[str, Any]

# Family, arguments, side, parameters and millions of multiply-adds as published: the papers' tables for 300, 585, 219,
# 56 and 315 (arXiv:1801.04381, 1905.02244, 1807.11626), torchvision's for other widths of MnasNet, timm's for V4.
# The paper's V2 of width 1.4 has 6.9 M parameters; torchvision's rule for the last convolution gives 6.1 M.
PUBLISHED: list[tuple[str, Arguments, int, int, float]] = [
    ("mobilenetv2", {}, 224, 3_504_872, 300),
    ("mobilenetv2", {"width_percent": 140}, 224, 6_108_776, 585),
    ("mobilenetv3", {"size": "large"}, 224, 5_483_032, 219),
    ("mobilenetv3", {"size": "small"}, 224, 2_542_856, 56),
    ("mnasnet", {}, 224, 4_383_312, 315),
    ("mnasnet", {"width_percent": 50}, 224, 2_218_512, 104),
    ("mnasnet", {"width_percent": 75}, 224, 3_170_208, 215),
    ("mnasnet", {"width_percent": 130}, 224, 6_282_256, 526),
    ("mobilenetv4", {"size": "small"}, 224, 3_774_024, 190),
    ("mobilenetv4", {"size": "medium"}, 224, 9_715_512, 840),
    ("mobilenetv4", {"size": "large"}, 384, 32_590_864, 6430),
]
# Entries of the published state dict, and some of its names and shapes.
NAMES: list[tuple[str, Arguments, int, dict[str, tuple[int, ...]]]] = [
    (
        "mobilenetv2",
        {},
        314,
        {
            "features.0.0.weight": (32, 3, 3, 3),
            "features.1.conv.0.0.weight": (32, 1, 3, 3),
            "features.1.conv.1.weight": (16, 32, 1, 1),
            "features.1.conv.2.running_var": (16,),
            "features.2.conv.1.1.bias": (96,),
            "features.17.conv.2.weight": (320, 960, 1, 1),
            "features.17.conv.3.num_batches_tracked": (),
            "features.18.1.running_mean": (1280,),
            "classifier.1.weight": (1000, 1280),
        },
    ),
    (
        "mobilenetv3",
        {"size": "large"},
        312,
        {
            "features.0.1.weight": (16,),
            "features.1.block.1.0.weight": (16, 16, 1, 1),
            "features.4.block.2.fc1.weight": (24, 72, 1, 1),
            "features.4.block.3.1.running_mean": (40,),
            "features.15.block.1.0.weight": (960, 1, 5, 5),
            "features.16.0.weight": (960, 160, 1, 1),
            "classifier.0.bias": (1280,),
            "classifier.3.weight": (1000, 1280),
        },
    ),
    (
        "mobilenetv3",
        {"size": "small"},
        244,
        {
            "features.1.block.1.fc2.bias": (16,),
            "features.1.block.2.0.weight": (16, 16, 1, 1),
            "features.2.block.2.1.bias": (24,),
            "features.11.block.3.0.weight": (96, 576, 1, 1),
            "features.12.0.weight": (576, 96, 1, 1),
            "classifier.0.weight": (1024, 576),
        },
    ),
    (
        "mnasnet",
        {},
        314,
        {
            "layers.0.weight": (32, 3, 3, 3),
            "layers.7.running_var": (16,),
            "layers.8.0.layers.0.weight": (48, 16, 1, 1),
            "layers.9.2.layers.3.weight": (120, 1, 5, 5),
            "layers.13.0.layers.7.bias": (320,),
            "layers.14.weight": (1280, 320, 1, 1),
            "layers.15.num_batches_tracked": (),
            "classifier.1.bias": (1000,),
        },
    ),
    (
        "mobilenetv4",
        {"size": "small"},
        278,
        {
            "conv_stem.weight": (32, 3, 3, 3),
            "bn1.running_mean": (32,),
            "blocks.0.1.conv.weight": (32, 32, 1, 1),
            "blocks.1.0.bn1.bias": (96,),
            "blocks.2.0.dw_start.conv.weight": (64, 1, 5, 5),
            "blocks.2.1.pw_exp.bn.weight": (192,),
            "blocks.3.5.dw_mid.conv.weight": (512, 1, 3, 3),
            "blocks.4.0.conv.weight": (960, 128, 1, 1),
            "conv_head.weight": (1280, 960, 1, 1),
            "norm_head.running_var": (1280,),
            "classifier.weight": (1000, 1280),
        },
    ),
    (
        "mobilenetv4",
        {"size": "medium"},
        464,
        {
            "blocks.0.0.conv_exp.weight": (128, 32, 3, 3),
            "blocks.0.0.bn2.bias": (48,),
            "blocks.1.0.dw_start.conv.weight": (48, 1, 3, 3),
            "blocks.2.6.pw_proj.conv.weight": (160, 320, 1, 1),
            "blocks.3.10.dw_start.bn.weight": (256,),
        },
    ),
]
NARROW: list[tuple[str, Arguments]] = [
    ("mobilenetv2", {"width_percent": 35}),
    ("mobilenetv3", {"size": "small"}),
    ("mobilenetv3", {"size": "large"}),
    ("mobilenetv4", {"size": "small"}),
    ("mobilenetv4", {"size": "medium"}),
    ("mnasnet", {"width_percent": 50}),
]
LAST_CUT = {"mobilenetv2": 6, "mobilenetv3": 5, "mobilenetv4": 5, "mnasnet": 6}
CUTS = [(family, arguments, cut) for family, arguments in NARROW for cut in range(1, LAST_CUT[family] + 1)]


def definition(family: str) -> Any:
    """The module that lists the family's stages."""
    return import_module(f"splitrt.nn.{family}")


def pieces(family: str, arguments: Arguments) -> tuple[Front, Back]:
    front: Front = families.head_module(family).build(**arguments).eval()
    back: Back = families.tail_module(family).build(**arguments).eval()
    return front, back


def names(family: str, *modules: nn.Module) -> list[str]:
    """Published names of all that the modules hold."""
    return [definition(family).original(name) for module in modules for name in module.state_dict()]


def undivided(family: str, arguments: Arguments) -> nn.Sequential:
    """All stages and the answer in one row, with weights by which maps keep their size and norms do something."""
    own = definition(family)
    (value,) = arguments.values()
    layers = [layer for stage in own.stages(value) for layer in stage.layers.items()]
    network = nn.Sequential()
    for name, layer in [*layers, *own.answer(value, 10).items()]:
        network.add_module(name, layer)
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return network.eval()


def checkpoint(family: str, network: nn.Sequential) -> dict[str, Tensor]:
    """The network's weights under published names."""
    original = definition(family).original
    return {original(f"stem.{name}"): value for name, value in network.state_dict().items()}


def frames(side: int = 64, batch: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(batch, 3, side, side)


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "arguments", "side", "parameters", "millions"), PUBLISHED)
def test_the_whole_network_has_the_published_size(
    family: str, arguments: Arguments, side: int, parameters: int, millions: float
) -> None:
    with torch.device("meta"):
        whole = Whole(*pieces(family, arguments))
        with FlopCounterMode(display=False) as counter:
            whole(torch.empty(1, 3, side, side))
    assert sum(value.numel() for value in whole.parameters()) == parameters
    hundredth = 5 if family == "mobilenetv4" else 0.5  # half of the last digit that is published
    assert counter.get_total_flops() / 2e6 == pytest.approx(millions, rel=0.02, abs=hundredth)


@pytest.mark.parametrize(
    ("channels", "wanted"), [(1, 8), (11.2, 16), (12, 16), (18, 24), (33.6, 32), (44.8, 48), (83, 80), (84, 88)]
)
def test_channels_at_a_width_are_a_multiple_of_eight_and_no_tenth_is_lost(channels: float, wanted: int) -> None:
    assert divisible(channels) == wanted


# ── cuts ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "arguments", "cut"), CUTS)
@torch.inference_mode()
def test_halves_of_published_weights_answer_as_the_uncut_network(family: str, arguments: Arguments, cut: int) -> None:
    network = undivided(family, arguments)
    weights = checkpoint(family, network)
    front, back = pieces(family, arguments | {"classes": 10, "resolution": 64, "cut": cut})
    for module, half in ((families.head_module, front), (families.tail_module, back)):
        half.load_state_dict(module(family).pretrained(weights, **arguments, classes=10, resolution=64, cut=cut))
    head, tail, x_BCHW = Head(front, 1, None), Tail(back, None), frames()
    z_BCHW = head.encoder(head.stem(x_BCHW), head.encoder.widths[-1])
    wanted = network(x_BCHW)
    assert wanted.std() > 1e-3
    assert torch.equal(tail(z_BCHW, torch.zeros(2, dtype=torch.int64)), wanted)
    assert torch.equal(Whole(front, back)(x_BCHW), wanted)


@pytest.mark.parametrize(("family", "arguments", "cut"), CUTS)
def test_maps_have_the_shapes_that_the_pieces_declare(family: str, arguments: Arguments, cut: int) -> None:
    with torch.device("meta"):
        front, back = pieces(family, arguments | {"resolution": 96, "cut": cut})
        features_BCHW = front.stem(torch.empty(2, 3, 96, 96))
        restored_BCHW = back.replaced(features_BCHW)
    assert features_BCHW.shape[1:] == tuple(front.features)
    assert restored_BCHW.shape[1:] == tuple(back.restored)


@pytest.mark.parametrize("family", LAST_CUT)
def test_the_device_ends_at_an_eighth_of_the_side_unless_told_otherwise(family: str) -> None:
    with torch.device("meta"):
        front, _ = pieces(family, {})
    assert (front.features.height, front.features.width) == (28, 28)


@pytest.mark.parametrize(("family", "arguments", "cut"), CUTS)
@torch.inference_mode()
def test_a_bottleneck_stands_for_the_stage_after_any_cut(family: str, arguments: Arguments, cut: int) -> None:
    front, back = pieces(family, arguments | {"classes": 10, "resolution": 64, "cut": cut})
    bottleneck = Bottleneck(widths=(2, 5), hidden=4, decoder_hidden=8)
    stride = front.features.height // back.restored.height
    head, tail = Head(front, stride, bottleneck).eval(), Tail(back, bottleneck).eval()
    z_BCHW = head.encoder(head.stem(frames()), 5)
    assert tail(widen(z_BCHW, bottleneck.sent), torch.ones(2, dtype=torch.int64)).shape == (2, 10)


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "arguments", "entries", "some"), NAMES)
def test_the_halves_hold_every_published_name_once(
    family: str, arguments: Arguments, entries: int, some: dict[str, tuple[int, ...]]
) -> None:
    original = definition(family).original
    with torch.device("meta"):
        for cut in range(1, LAST_CUT[family] + 1):
            halves = pieces(family, arguments | {"cut": cut})
            held = names(family, *halves)
            assert len(held) == len(set(held)) == entries
            shapes = {original(name): value.shape for half in halves for name, value in half.state_dict().items()}
            assert {name: tuple(shapes[name]) for name in some} == some


@pytest.mark.parametrize(
    ("family", "arguments", "name"),
    [
        ("mobilenetv2", {"width_percent": 35}, "features.9.conv.3.bias"),
        ("mobilenetv3", {"size": "small"}, "features.7.block.2.fc1.weight"),
        ("mobilenetv4", {"size": "small"}, "blocks.3.1.dw_start.bn.running_var"),
        ("mnasnet", {"width_percent": 50}, "layers.12.3.layers.6.weight"),
    ],
)
def test_a_weight_that_is_missing_or_of_another_shape_is_named(family: str, arguments: Arguments, name: str) -> None:
    weights, tail = checkpoint(family, undivided(family, arguments)), families.tail_module(family)
    value = weights.pop(name)
    with pytest.raises(ConfigError, match=f"weights must hold '{name}'"):
        tail.pretrained(weights, **arguments, classes=10)
    weights[name] = value[:-1]
    with pytest.raises(ConfigError, match=rf"weights '{name}' .* must have shape \({value.shape[0]},"):
        tail.pretrained(weights, **arguments, classes=10)


def test_weights_of_mnasnet_s_first_version_are_refused_below_full_width() -> None:
    """Its first layers had 32 and 16 channels at any width."""
    weights = checkpoint("mnasnet", undivided("mnasnet", {"width_percent": 50}))
    weights["layers.0.weight"] = torch.zeros(32, 3, 3, 3)
    with pytest.raises(ConfigError, match=r"weights 'layers\.0\.weight' .* must have shape \(16, 3, 3, 3\), got \(32,"):
        families.head_module("mnasnet").pretrained(weights, width_percent=50)


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["head", "tail"])
@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("mobilenetv2", {"cut": 0}, r"mobilenetv2\.cut must be 1 to 6 .*, got 0; the nearest is 1"),
        ("mobilenetv2", {"cut": 7}, r"mobilenetv2\.cut must be 1 to 6 .*, got 7; the nearest is 6"),
        ("mobilenetv3", {"cut": 6}, r"mobilenetv3\.cut must be 1 to 5 .*, got 6; the nearest is 5"),
        ("mobilenetv4", {"cut": -1}, r"mobilenetv4\.cut must be 1 to 5 .*, got -1; the nearest is 1"),
        ("mnasnet", {"cut": 9}, r"mnasnet\.cut must be 1 to 6 .*, got 9; the nearest is 6"),
        ("mobilenetv2", {"resolution": 225}, r"mobilenetv2\.resolution must be a multiple of 32 .*, got 225"),
        ("mobilenetv3", {"resolution": 32}, r"mobilenetv3\.resolution must be .* from 64 to 512, got 32"),
        ("mobilenetv4", {"resolution": 544}, r"mobilenetv4\.resolution must be .* from 64 to 512, got 544"),
        ("mobilenetv2", {"width_percent": 0}, r"mobilenetv2\.width_percent must be .* from 10 to 200, got 0"),
        ("mobilenetv2", {"width_percent": 0.5}, r"mobilenetv2\.width_percent must be a whole number .*, got 0\.5"),
        ("mnasnet", {"width_percent": 201}, r"mnasnet\.width_percent must be .* from 10 to 200, got 201"),
        ("mobilenetv3", {"size": "medium"}, r"mobilenetv3\.size must be one of large, small, got 'medium'"),
        ("mobilenetv4", {"size": "Small"}, r"mobilenetv4\.size must be one of small, medium, large, got 'Small'"),
        ("mnasnet", {"classes": 0}, r"mnasnet\.classes must be at least 1, got 0"),
    ],
)
def test_arguments_that_make_no_network_are_refused(side: str, family: str, arguments: Arguments, message: str) -> None:
    module = families.head_module(family) if side == "head" else families.tail_module(family)
    with pytest.raises(ConfigError, match=message):
        module.build(**arguments)


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────


@torch.inference_mode()
def test_squeeze_excite_scales_a_channel_by_one_number_at_most_one() -> None:
    torch.manual_seed(0)
    x_BCHW = torch.rand(2, 8, 5, 5) + 0.1
    scale_BCHW = SqueezeExcite(8, 4, functional.hardsigmoid)(x_BCHW) / x_BCHW
    torch.testing.assert_close(scale_BCHW, scale_BCHW[:, :, :1, :1].expand_as(scale_BCHW))
    assert 0 <= scale_BCHW.min() < scale_BCHW.max() <= 1


@pytest.mark.parametrize(("family", "arguments"), [NARROW[0], NARROW[1], NARROW[3], NARROW[5]])
def test_onnx_runtime_gives_the_same_at_another_batch_size(family: str, arguments: Arguments, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    whole = undivided(family, arguments)  # weights by which answers are far from zero
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole,
            (frames(),),
            str(tmp_path / "whole.onnx"),
            input_names=["frame"],
            opset_version=18,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            verbose=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "whole.onnx"), options, providers=["CPUExecutionProvider"])
    x_BCHW = frames(batch=3)
    (outputs,) = session.run(None, {"frame": x_BCHW.numpy()})
    with torch.inference_mode():
        wanted = whole(x_BCHW).numpy()
    assert wanted.std() > 1e-2
    np.testing.assert_allclose(outputs, wanted, rtol=1e-3, atol=1e-4)
