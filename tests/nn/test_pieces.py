"""The pieces that families give, and the halves that a bottleneck makes of them.

Shape letters: B batch, C channels, K candidates, H W h w space.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from splitrt import families
from splitrt.errors import ConfigError
from splitrt.nn.bottleneck import Bottleneck, widen
from splitrt.nn.fastestdet import best_cells
from splitrt.nn.split import Back, Front, Head, Tail, Whole

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

Arguments = dict[str, Any]

SMALL: list[tuple[str, Arguments]] = [
    ("darknet", {"classes": 10, "resolution": 64, "cut": 1}),
    ("darknet", {"classes": 10, "resolution": 64, "cut": 2}),
    ("darknet", {"classes": 10, "resolution": 96, "cut": 3}),
    ("fastestdet", {"classes": 5, "resolution": 160}),
    ("fastestdet", {"classes": 5, "resolution": 96, "candidates": 36}),
    ("mobilenet", {"classes": 7, "resolution": 96}),
    ("mobilenet", {"classes": 7, "resolution": 160, "width": 0.5}),
    ("mobilenet", {"classes": 7, "resolution": 96, "width": 1.5}),
    ("resnet", {"classes": 7, "resolution": 32, "depth": 8, "cut": 1}),
    ("resnet", {"classes": 7, "resolution": 64, "depth": 20, "cut": 2}),
]
BOTTLENECKS = [
    Bottleneck(widths=(2, 5), hidden=4, decoder_hidden=8),
    Bottleneck(form="ensemble", widths=(1, 2), channels=3, hidden=4, decoder_hidden=8),
]


def pieces(family: str, arguments: Arguments) -> tuple[Front, Back]:
    torch.manual_seed(0)
    front: Front = families.head_module(family).build(**arguments).eval()
    back: Back = families.tail_module(family).build(**arguments).eval()
    return front, back


def frames(arguments: Arguments, batch: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(batch, 3, arguments["resolution"], arguments["resolution"])


@pytest.mark.parametrize(("family", "arguments"), SMALL)
@torch.inference_mode()
def test_the_halves_without_a_bottleneck_are_the_whole(family: str, arguments: Arguments) -> None:
    front, back = pieces(family, arguments)
    head, tail, x_BCHW = Head(front, 1, None), Tail(back, None), frames(arguments)
    z_BCHW = head.encoder(head.stem(x_BCHW), head.encoder.widths[-1])
    place_B = torch.zeros(len(z_BCHW), dtype=torch.int64)
    torch.testing.assert_close(tail(z_BCHW, place_B), Whole(front, back)(x_BCHW), rtol=0, atol=0)


@pytest.mark.parametrize(("family", "arguments"), SMALL)
@torch.inference_mode()
def test_maps_have_the_shapes_that_the_pieces_declare(family: str, arguments: Arguments) -> None:
    front, back = pieces(family, arguments)
    features_BCHW = front.stem(frames(arguments))
    assert features_BCHW.shape[1:] == tuple(front.features)
    assert back.replaced(features_BCHW).shape[1:] == tuple(back.restored)


@pytest.mark.parametrize(("family", "arguments"), SMALL)
@pytest.mark.parametrize("bottleneck", BOTTLENECKS, ids=lambda one: str(one.form))
@torch.inference_mode()
def test_any_bottleneck_goes_between_the_pieces(family: str, arguments: Arguments, bottleneck: Bottleneck) -> None:
    front, back = pieces(family, arguments)
    stride = front.features.height // back.restored.height
    head, tail = Head(front, stride, bottleneck).eval(), Tail(back, bottleneck).eval()
    features_BCHW = head.stem(frames(arguments))
    wanted = Whole(front, back)(frames(arguments))
    for place, width in enumerate(bottleneck.widths):
        z_BCHW = head.encoder(features_BCHW, width)
        assert z_BCHW.shape[2:] == (back.restored.height, back.restored.width)
        restored_BCHW = tail.decoder(widen(z_BCHW, bottleneck.sent), torch.full((2,), place))
        assert restored_BCHW.shape[1:] == tuple(back.restored)
        assert tail(widen(z_BCHW, bottleneck.sent), torch.full((2,), place)).shape == wanted.shape


@pytest.mark.parametrize(("family", "arguments"), SMALL)
@torch.inference_mode()
def test_the_last_stage_of_a_body_is_its_answer_or_the_map_that_it_is_made_of(
    family: str, arguments: Arguments
) -> None:
    _, back = pieces(family, arguments)
    body: Any = back.body
    restored_BCHW = torch.rand(2, *back.restored)
    last = body.stages(restored_BCHW)[-1]
    answer = best_cells(last, body.candidates) if family == "fastestdet" else last
    torch.testing.assert_close(answer, body(restored_BCHW), rtol=0, atol=0)


@torch.inference_mode()
def test_the_usual_sizes() -> None:
    front, back = pieces("darknet", {})
    assert (tuple(front.features), tuple(back.restored)) == ((32, 56, 56), (128, 28, 28))
    front, back = pieces("fastestdet", {})
    assert (tuple(front.features), tuple(back.restored)) == ((24, 88, 88), (48, 44, 44))
    body: Any = back.body
    maps = body.stages(torch.zeros(1, *back.restored))
    assert [tuple(one.shape) for one in maps] == [(1, 96, 22, 22), (1, 192, 11, 11), (1, 85, 22, 22)]


@pytest.mark.parametrize("cut", [1, 2, 3])
@torch.inference_mode()
def test_darknet_has_a_stage_for_each_run_after_the_replaced_one(cut: int) -> None:
    _, back = pieces("darknet", {"classes": 10, "resolution": 64, "cut": cut})
    restored_BCHW = torch.rand(2, *back.restored)
    body: Any = back.body
    stages = body.stages(restored_BCHW)
    assert len(stages) == 4 - cut
    torch.testing.assert_close(stages[-1], body(restored_BCHW))


@pytest.mark.parametrize("side", ["head", "tail"])
@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("resnet", {"classes": 6, "cut": 0}, r"resnet\.cut must be 1 or 2 .*, got 0; the nearest is 1"),
        ("resnet", {"classes": 6, "cut": 3}, r"resnet\.cut must be 1 or 2 .*, got 3; the nearest is 2"),
        ("resnet", {"classes": 6, "depth": 21}, r"resnet\.depth must be 6n \+ 2 .*, got 21"),
        ("darknet", {"cut": 0}, r"darknet\.cut must be 1 to 3 .*, got 0; the nearest is 1"),
        ("darknet", {"cut": 4}, r"darknet\.cut must be 1 to 3 .*, got 4; the nearest is 3"),
        ("darknet", {"resolution": 225}, r"darknet\.resolution must be a multiple of 16 from 64 to 512, got 225"),
        ("darknet", {"resolution": 48}, r"darknet\.resolution .*, got 48"),
        ("fastestdet", {"resolution": 350}, r"fastestdet\.resolution must be a multiple of 32 .*, got 350"),
        ("fastestdet", {"resolution": 64}, r"fastestdet\.resolution .*, got 64"),
        ("fastestdet", {"resolution": 96}, r"fastestdet\.candidates must be 1 to 36 at resolution 96, got 100"),
        ("fastestdet", {"candidates": 0}, r"fastestdet\.candidates must be 1 to 484 at resolution 352, got 0"),
    ],
)
def test_arguments_that_make_no_network_are_refused(side: str, family: str, arguments: Arguments, message: str) -> None:
    module = families.head_module(family) if side == "head" else families.tail_module(family)
    with pytest.raises(ConfigError, match=message):
        module.build(**arguments)


@pytest.mark.parametrize("resolution", [0, 64, 100, 127, 192, -96])
def test_a_resolution_that_mobilenet_cannot_is_refused(resolution: int) -> None:
    with pytest.raises(ConfigError, match=rf"mobilenet\.resolution must be .*, got {resolution}"):
        families.head_module("mobilenet").build(classes=6, resolution=resolution)


# ── candidates ──────────────────────────────────────────────────────────────────────────────────────


@torch.inference_mode()
def test_candidates_come_best_first_inside_the_frame_and_name_a_class() -> None:
    arguments = {"classes": 5, "resolution": 160, "candidates": 40}
    front, back = pieces("fastestdet", arguments)
    found_BK6 = Whole(front, back)(frames(arguments))
    assert found_BK6.shape == (2, 40, 6)
    assert found_BK6.dtype == torch.float32
    assert (found_BK6[:, :-1, 4] >= found_BK6[:, 1:, 4]).all()
    assert found_BK6[:, :, :4].min() >= 0
    assert found_BK6[:, :, :4].max() <= 1
    assert set(found_BK6[:, :, 5].unique().tolist()) <= {0, 1, 2, 3, 4}


def test_a_candidate_is_the_box_of_its_cell() -> None:
    """Row 1, column 2 of a map of 2 x 4 cells: objectness 0.5, class 3 with 0.8."""
    map_BMHW = torch.zeros(1, 10, 2, 4)
    map_BMHW[0, :, 1, 2] = torch.tensor([0.5, 0.3, -0.2, -1.0, -2.0, 0.0, 0.1, 0.1, 0.8, 0.0])
    row_6 = best_cells(map_BMHW, 1)[0, 0].numpy()
    x, y, wide, high = (np.tanh(0.3) + 2) / 4, (np.tanh(-0.2) + 1) / 2, 1 / (1 + np.exp(1)), 1 / (1 + np.exp(2))
    corners = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
    np.testing.assert_allclose(row_6, [*corners, 0.5**0.6 * 0.8**0.4, 3], rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        ("darknet", {"classes": 10, "resolution": 64}),
        ("fastestdet", {"classes": 5, "resolution": 96, "candidates": 36}),
    ],
)
def test_onnx_runtime_gives_the_same_at_another_batch_size(family: str, arguments: Arguments, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    whole = spread(Whole(*pieces(family, arguments)))
    export(whole, frames(arguments), tmp_path / "whole.onnx")
    x_BCHW = frames(arguments, batch=3)
    with torch.inference_mode():
        wanted = whole(x_BCHW).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "whole.onnx"), options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"frame": x_BCHW.numpy()})
    np.testing.assert_allclose(outputs, wanted, atol=1e-4)


def spread(whole: Whole) -> Whole:
    """Weights that keep a signal's size: where candidates' scores are all but equal, two runtimes may rank them
    differently.
    """
    for layer in whole.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return whole


def export(module: nn.Module, x_BCHW: Tensor, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x_BCHW,),
            str(path),
            input_names=["frame"],
            opset_version=18,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            verbose=False,
        )
