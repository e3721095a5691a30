"""Shape letters: B batch, F feature channels, Z bottleneck channels, C H W frames, N classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from splitrt import families
from splitrt.codec.quantise import BITS, Ranges, dequantise, quantise
from splitrt.errors import ConfigError
from splitrt.nn.bottleneck import Decoder, SlimEncoder, fake_quantise, widen
from splitrt.nn.split import Head, Tail, Whole

pytestmark = pytest.mark.torch

WIDTHS = (1, 2, 4, 8)
FEATURES, SIDE = 12, 16


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Maps this small are slower on two threads, most of all on a machine that has other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def encoder() -> SlimEncoder:
    torch.manual_seed(0)
    some = SlimEncoder(FEATURES, WIDTHS, hidden_per_group=6)
    for layer in some.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as if trained: not the identity
            nn.init.normal_(layer.get_buffer("running_mean"))
            nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2)
    return some


def features(batch: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, FEATURES, SIDE, SIDE)


# ── encoder ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("narrow", WIDTHS)
def test_narrow_output_is_a_prefix_of_the_wide_one(encoder: SlimEncoder, narrow: int, is_training: bool) -> None:
    """In training too: a channel's batch statistics are the same at every width."""
    encoder.train(is_training)
    x_BFHW = features()
    torch.testing.assert_close(encoder(x_BFHW, narrow), encoder(x_BFHW, WIDTHS[-1])[:, :narrow], rtol=0, atol=0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_shape_is_width_by_side_over_stride_and_values_lie_within_one(width: int, stride: int) -> None:
    torch.manual_seed(0)
    z_BZHW = SlimEncoder(FEATURES, WIDTHS, 4, stride).eval()(features() * 50, width)
    assert z_BZHW.shape == (2, width, SIDE // stride, SIDE // stride)
    assert z_BZHW.abs().max() <= 1


def test_narrow_compute_does_less_work(encoder: SlimEncoder) -> None:
    work = []
    for width in WIDTHS:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            encoder(features(1), width)
        work.append(counter.get_total_flops())
    assert work == sorted(set(work))
    assert work[0] < 0.25 * work[-1]  # a group of four, and it reads no other


def test_a_width_does_not_run_the_groups_above_it(encoder: SlimEncoder) -> None:
    for group in list(encoder.groups)[2:]:
        for parameter in group.parameters():
            parameter.data.fill_(float("nan"))
    assert encoder.eval()(features(), 2).isfinite().all()
    assert not encoder(features(), 4).isfinite().all()


def test_a_group_reads_the_groups_before_it(encoder: SlimEncoder) -> None:
    encoder.eval()
    before = encoder(features(), 8)
    first: Any = encoder.groups[0]
    first.spread[0].weight.data.add_(0.1)
    after = encoder(features(), 8)
    for start, stop in ((0, 1), (1, 2), (2, 4), (4, 8)):
        assert not torch.equal(before[:, start:stop], after[:, start:stop])


def test_at_a_narrow_width_only_its_own_groups_learn(encoder: SlimEncoder) -> None:
    encoder(features(), 2).square().sum().backward()
    learns = [any(p.grad is not None for p in group.parameters()) for group in encoder.groups]
    assert learns == [True, True, False, False]


# ── quantiser ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bits", BITS)
def test_in_training_the_far_side_is_seen_as_the_codec_will_give_it(bits: int) -> None:
    torch.manual_seed(0)
    z_BZHW = torch.tanh(torch.randn(1, 8, 32, 32))
    ranges = Ranges(low_C=np.full(8, -1, np.float32), high_C=np.full(8, 1, np.float32))
    sent_ZHW = dequantise(quantise(z_BZHW[0].numpy(), ranges, bits), ranges, bits)
    np.testing.assert_allclose(fake_quantise(z_BZHW, bits)[0].numpy(), sent_ZHW, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_the_quantiser_gives_every_level_and_no_other(bits: int) -> None:
    seen = fake_quantise(torch.linspace(-1, 1, 5001).reshape(1, 1, 1, -1), bits)
    levels = np.unique(seen.numpy().round(5))  # rounded: one level may come out two ways
    np.testing.assert_allclose(levels, np.linspace(-1, 1, 2**bits), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_gradients_pass_the_quantiser_as_if_it_were_not_there(bits: int) -> None:
    torch.manual_seed(0)
    z_BZHW = torch.tanh(torch.randn(2, 4, 5, 5)).requires_grad_()
    weight_BZHW = torch.randn(2, 4, 5, 5)
    (gradient_BZHW,) = torch.autograd.grad((fake_quantise(z_BZHW, bits) * weight_BZHW).sum(), z_BZHW)
    torch.testing.assert_close(gradient_BZHW, weight_BZHW, rtol=0, atol=0)


def test_quantising_twice_changes_nothing_more() -> None:
    torch.manual_seed(0)
    once = fake_quantise(torch.tanh(torch.randn(1, 4, 8, 8)), 4)
    torch.testing.assert_close(fake_quantise(once, 4), once, rtol=0, atol=1e-6)


# ── decoder ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", WIDTHS)
def test_what_was_not_sent_is_zero(width: int) -> None:
    z_BZHW = torch.rand(2, width, 3, 5) + 0.5
    wide_BZHW = widen(z_BZHW, 8)
    assert wide_BZHW.shape == (2, 8, 3, 5)
    assert torch.equal(wide_BZHW[:, :width], z_BZHW)
    assert (wide_BZHW[:, width:] == 0).all()


def test_a_batch_may_mix_widths() -> None:
    torch.manual_seed(0)
    decoder = Decoder(8, FEATURES, 10).eval()
    frames = [widen(torch.rand(1, width, 6, 6), 8) for width in WIDTHS]
    mixed_BFHW = decoder(torch.cat(frames))
    assert mixed_BFHW.shape == (4, FEATURES, 6, 6)
    for row, frame in enumerate(frames):
        torch.testing.assert_close(mixed_BFHW[row : row + 1], decoder(frame))


# ── families ────────────────────────────────────────────────────────────────────────────────────────

MODELS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("mobilenet", {"resolution": 96}, {}),
    ("mobilenet", {"resolution": 160, "hidden_per_group": 4}, {"decoder_hidden": 8}),
    ("mobilenet", {"width": 0.5}, {"width": 0.5}),
    ("mobilenet", {"width": 1.5, "resolution": 96}, {"width": 1.5}),
    ("resnet", {}, {}),
    ("resnet", {"cut": 2}, {"cut": 2}),
    ("resnet", {"depth": 8, "cut": 1}, {"depth": 8, "cut": 1}),
    ("resnet", {"depth": 32, "cut": 2, "resolution": 64}, {"depth": 32, "cut": 2, "decoder_hidden": 8}),
]


@pytest.mark.parametrize(("family", "head_arguments", "tail_arguments"), MODELS)
def test_the_halves_of_a_family_join_to_logits(
    family: str, head_arguments: dict[str, Any], tail_arguments: dict[str, Any]
) -> None:
    widths, classes = (2, 5), 7
    head_module, tail_module = families.head_module(family), families.tail_module(family)
    head: Head = head_module.build(widths=widths, classes=classes, **head_arguments).eval()
    tail: Tail = tail_module.build(widths=widths, classes=classes, **tail_arguments).eval()
    model = {key: value for key, value in tail_arguments.items() if key != "decoder_hidden"}
    replaced = tail_module.replaced(head.features, **model).eval()
    side = head_arguments.get("resolution", 128 if family == "mobilenet" else 32)

    frames_BCHW = torch.randn(2, 3, side, side)
    features_BFHW = head.stem(frames_BCHW)
    assert features_BFHW.shape[1:] == head.features
    assert head.exit(features_BFHW).shape == (2, classes)
    for width in widths:
        z_BZHW = head.encoder(features_BFHW, width)
        assert z_BZHW.shape[1:] == (width, head.features.height // 2, head.features.width // 2)
        assert tail(widen(z_BZHW, max(widths))).shape == (2, classes)
    # The decoder restores what the replaced stage would have given.
    restored_BFHW = replaced(features_BFHW)
    assert tail.decoder(widen(z_BZHW, max(widths))).shape == restored_BFHW.shape
    whole = Whole(head.stem, replaced, tail.body).eval()
    torch.testing.assert_close(whole(frames_BCHW), tail.body(restored_BFHW))


@pytest.mark.parametrize("resolution", [0, 64, 100, 127, 192, -96])
def test_a_resolution_that_mobilenet_cannot_is_refused(resolution: int) -> None:
    with pytest.raises(ConfigError, match=rf"mobilenet\.resolution must be .*, got {resolution}"):
        families.head_module("mobilenet").build(widths=WIDTHS, classes=6, resolution=resolution)


@pytest.mark.parametrize("cut", [-1, 0, 3])
def test_a_cut_that_resnet_cannot_is_refused(cut: int) -> None:
    with pytest.raises(ConfigError, match=rf"resnet\.cut must be 1 or 2, got {cut}"):
        families.head_module("resnet").build(widths=WIDTHS, classes=6, cut=cut)


@pytest.mark.parametrize("half", [families.head_module, families.tail_module])
def test_a_depth_that_resnet_cannot_is_refused_on_both_sides(half: Any) -> None:
    with pytest.raises(ConfigError, match="resnet.depth must be 6n"):
        half("resnet").build(widths=WIDTHS, classes=6, depth=21)
