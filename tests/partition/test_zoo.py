"""Networks that nobody here wrote: cut anywhere, halves joined give what the module gives, bit for bit."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

import torch
from torch import Tensor

from splitrt.bench.architectures import ARCHITECTURES
from splitrt.bench.joins import difference, mirrored, outputs
from splitrt.bench.networks import build
from splitrt.bench.zoo import choose, examine, summarise
from splitrt.partition.bundle import Order, load_half, split_captured
from splitrt.partition.capture import Captured, capture
from splitrt.partition.cuts import cuts
from splitrt.partition.divide import divide, joined

pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers: the llm extra"),
]
SIX = {
    "resnet-basic": "residuals",
    "segformer": "several scales at once",
    "vit": "tokens",
    "swin": "shifted windows",
    "gemma": "a decoder with tied weights",
    "detr": "a detector",
}


class Silent:
    def line(self, text: str) -> None: ...

    def step(self, phase: str, done: int, total: int) -> None: ...


@cache
def captured_with_outputs(name: str) -> tuple[Captured, tuple[Tensor, ...]]:
    """What the module gives for the mirrored sample: an input that capture has not seen."""
    module, inputs = build(ARCHITECTURES[name])
    return capture(module, inputs), tuple(outputs(module, mirrored(inputs)))


@pytest.mark.parametrize("name", SIX)
def test_halves_of_every_cut_join_bit_for_bit(name: str) -> None:
    captured, wanted = captured_with_outputs(name)
    found = cuts(captured)
    unseen = mirrored(captured.inputs)
    assert len(found) > 20
    differing = {cut.name: gap for cut in found if (gap := difference(wanted, joined(divide(captured, cut), unseen)))}
    assert not differing


@pytest.mark.parametrize("name", SIX)
def test_a_saved_bundle_joins_bit_for_bit(name: str, tmp_path: Path) -> None:
    captured, wanted = captured_with_outputs(name)
    found = cuts(captured)
    folder = split_captured(captured, found[len(found) // 2], Order(name="zoo"), tmp_path, Silent())
    seam = load_half(folder, "head")(*mirrored(captured.inputs))
    assert difference(wanted, load_half(folder, "tail")(*seam)) == 0


def test_several_scales_cross_together() -> None:
    captured, _ = captured_with_outputs("segformer")
    assert max(len(cut.seam) for cut in cuts(captured)) >= 4


def test_a_tail_knows_in_what_order_in_memory_its_seam_was_made() -> None:
    """Of a transposed convolution over tokens the tracer foretells channels last; the kernel gives channels first."""

    class Upscaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = torch.nn.ConvTranspose2d(8, 4, 2, stride=2)

        def forward(self, tokens_BTC: Tensor) -> Tensor:
            return torch.relu(self.up(tokens_BTC.transpose(1, 2).reshape(1, 8, 4, 4)))

    captured = capture(Upscaled().eval(), (torch.randn(1, 16, 8),))
    for cut in cuts(captured):
        halves = divide(captured, cut)
        for value, made in zip(halves.tail.graph.inputs, outputs(halves.head.module(), captured.inputs), strict=True):
            assert made.permute(value.order).is_contiguous()


def test_tied_weights_are_stored_once() -> None:
    captured, _ = captured_with_outputs("gemma")
    module, _ = build(ARCHITECTURES["gemma"])
    tied = dict(module.named_parameters(remove_duplicate=False))
    assert len(tied) > len(dict(module.named_parameters()))
    assert sum(one.name.endswith(("embed_tokens.weight", "lm_head.weight")) for one in captured.graph.weights) == 1


def test_places_are_at_both_ends_and_where_most_tensors_cross() -> None:
    captured, _ = captured_with_outputs("segformer")
    found = cuts(captured)
    chosen = choose(found, is_quick=False)
    assert chosen[0] == 0
    assert chosen[-1] == len(found) - 1
    assert max(len(cut.seam) for cut in found) in {len(found[place].seam) for place in chosen}


def test_what_cannot_be_made_is_a_failure_with_a_name() -> None:
    row = examine("no-such-network", is_quick=True)
    summary = summarise([row])
    assert summary["exact"] == 0
    assert summary["failures"] == ["no-such-network: KeyError: 'no-such-network'"]


def test_another_number_dtype_or_shape_of_outputs_is_no_small_difference() -> None:
    ones = torch.ones(2, 3)
    assert difference([ones], [ones + 1e-3]) == pytest.approx(1e-3, rel=1e-3)
    for other in ([], [ones.double()], [ones[:1]], [ones * torch.nan]):
        assert difference([ones], other) == float("inf")
