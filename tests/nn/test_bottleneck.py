"""Shape letters: B batch, F feature channels, R restored channels, Z bottleneck channels, K channels of one link,
H W space.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from splitrt.errors import ConfigError
from splitrt.manifest import Manifest, Output, Pixels, Seam
from splitrt.nn.bottleneck import (
    Bottleneck,
    Decoder,
    PlainDecoder,
    PlainEncoder,
    SlimEncoder,
    WidthNorm,
    bottleneck_of,
    widen,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

FEATURES, RESTORED, SIDE = 12, 10, 16
NESTED = Bottleneck(widths=(1, 2, 4, 8), hidden=6, decoder_hidden=9)
ENSEMBLE = Bottleneck(form="ensemble", widths=(1, 2, 3), channels=5, hidden=6, decoder_hidden=9)
BOTH = pytest.mark.parametrize("bottleneck", [NESTED, ENSEMBLE], ids=lambda one: str(one.form))


def as_if_trained(module: Any) -> Any:
    """Normalisations that are not the identity."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.get_buffer("running_mean"))
            nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    return module


def encoder_of(bottleneck: Bottleneck, stride: int = 1) -> SlimEncoder:
    torch.manual_seed(0)
    made: SlimEncoder = as_if_trained(bottleneck.encoder(FEATURES, stride))
    return made


def features(batch: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, FEATURES, SIDE, SIDE)


# ── encoders of both forms ──────────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.parametrize("stride", [1, 2])
def test_the_shape_is_what_the_seam_says_and_values_lie_within_one(bottleneck: Bottleneck, stride: int) -> None:
    encoder = encoder_of(bottleneck, stride).eval()
    for width in bottleneck.widths:
        z_BZHW = encoder(features() * 50, width)
        channels = bottleneck.channels or width
        assert z_BZHW.shape == (2, channels, SIDE // stride, SIDE // stride)
        assert z_BZHW.abs().max() <= 1


@BOTH
@pytest.mark.parametrize("is_training", [False, True])
def test_every_width_at_once_equals_one_at_a_time(bottleneck: Bottleneck, is_training: bool) -> None:
    """In training too: a channel's batch statistics are the same at every width."""
    encoder = encoder_of(bottleneck).train(is_training)
    together = encoder.every_width(features())
    assert len(together) == len(bottleneck.widths)
    for width, z_BZHW in zip(bottleneck.widths, together, strict=True):
        torch.testing.assert_close(encoder(features(), width), z_BZHW, rtol=0, atol=0)


@BOTH
def test_narrow_compute_does_less_work(bottleneck: Bottleneck) -> None:
    encoder, work = encoder_of(bottleneck), []
    for width in bottleneck.widths:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            encoder(features(1), width)
        work.append(counter.get_total_flops())
    assert work == sorted(set(work))
    assert work[0] <= work[-1] / len(bottleneck.widths)


@BOTH
def test_a_width_does_not_run_the_links_above_it(bottleneck: Bottleneck) -> None:
    encoder = encoder_of(bottleneck).eval()
    for link in list(encoder.links)[2:]:
        for parameter in link.parameters():
            parameter.data.fill_(float("nan"))
    assert encoder(features(), bottleneck.widths[1]).isfinite().all()
    assert not encoder(features(), bottleneck.widths[2]).isfinite().all()


@BOTH
def test_at_a_narrow_width_only_its_own_links_learn(bottleneck: Bottleneck) -> None:
    encoder = encoder_of(bottleneck)
    encoder(features(), bottleneck.widths[1]).square().sum().backward()
    learns = [any(p.grad is not None for p in link.parameters()) for link in encoder.links]
    assert learns == [True, True] + [False] * (len(learns) - 2)


# ── nested ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("narrow", NESTED.widths)
def test_narrow_output_is_a_prefix_of_the_wide_one(narrow: int, is_training: bool) -> None:
    encoder, x_BFHW = encoder_of(NESTED).train(is_training), features()
    torch.testing.assert_close(encoder(x_BFHW, narrow), encoder(x_BFHW, 8)[:, :narrow], rtol=0, atol=0)


def test_a_group_reads_the_groups_before_it() -> None:
    encoder = encoder_of(NESTED).eval()
    before = encoder(features(), 8)
    first: Any = encoder.links[0]
    first.spread[0].weight.data.add_(0.1)
    after = encoder(features(), 8)
    for start, stop in ((0, 1), (1, 2), (2, 4), (4, 8)):
        assert not torch.equal(before[:, start:stop], after[:, start:stop])


# ── ensemble ────────────────────────────────────────────────────────────────────────────────────────


def test_a_member_adds_to_those_before_it_and_reads_none_of_them() -> None:
    encoder = encoder_of(ENSEMBLE).eval()
    totals, alone, carried = [], [], None
    for link in encoder.links:
        _, carried = link(features(), carried)
        totals.append(carried)
        alone.append(link(features(), None)[1])
    torch.testing.assert_close(totals[2], alone[0] + alone[1] + alone[2])
    torch.testing.assert_close(encoder.links[2](features(), totals[1])[1], totals[1] + alone[2])


def test_members_of_an_ensemble_come_in_their_order() -> None:
    """Width 2 is the first two members under the second one's scale, not any two."""
    encoder = encoder_of(ENSEMBLE).eval()
    scales: list[Any] = [link.scale for link in encoder.links]
    for place, scale in enumerate(scales, start=1):
        scale.data.fill_(0.1 * place)
    sums_BZHW = [link(features(), None)[1] for link in encoder.links]
    torch.testing.assert_close(encoder(features(), 1), torch.tanh(0.1 * sums_BZHW[0]))
    torch.testing.assert_close(encoder(features(), 2), torch.tanh(0.2 * (sums_BZHW[0] + sums_BZHW[1])))
    torch.testing.assert_close(encoder(features(), 3), torch.tanh(0.3 * sum(sums_BZHW, torch.zeros(()))))


# ── none ────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_bottleneck_the_features_are_sent_as_they_are() -> None:
    encoder = PlainEncoder(FEATURES)
    assert encoder.widths == (FEATURES,)
    assert torch.equal(encoder(features(), FEATURES), features())
    (link,) = encoder.links
    assert torch.equal(link(features())[0], features())
    assert torch.equal(encoder.every_width(features())[0], features())


def test_without_a_bottleneck_the_replaced_stage_reads_what_was_sent() -> None:
    torch.manual_seed(0)
    stage = nn.Conv2d(FEATURES, RESTORED, 3, 2, 1)
    given = PlainDecoder(stage)(features(), torch.zeros(2, dtype=torch.int64))
    assert torch.equal(given, stage(features()))


# ── decoder ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", NESTED.widths)
def test_what_was_not_sent_is_zero(width: int) -> None:
    z_BZHW = torch.rand(2, width, 3, 5) + 0.5
    wide_BZHW = widen(z_BZHW, 8)
    assert wide_BZHW.shape == (2, 8, 3, 5)
    assert torch.equal(wide_BZHW[:, :width], z_BZHW)
    assert (wide_BZHW[:, width:] == 0).all()


def decoder_of(bottleneck: Bottleneck) -> Decoder:
    torch.manual_seed(0)
    made: Decoder = as_if_trained(bottleneck.decoder(RESTORED))
    return made


@BOTH
@pytest.mark.parametrize("is_training", [False, True])
def test_a_batch_may_mix_widths(bottleneck: Bottleneck, is_training: bool) -> None:
    """Two frames of each width, side by side: they restore to what each width by itself does."""
    decoder = decoder_of(bottleneck).train(is_training)
    frames = [widen(torch.rand(2, bottleneck.channels or width, 6, 6), bottleneck.sent) for width in bottleneck.widths]
    places = [torch.full((2,), place) for place in range(len(frames))]
    mixed_BRHW = decoder(torch.cat(frames), torch.cat(places))
    assert mixed_BRHW.shape == (2 * len(frames), RESTORED, 6, 6)
    for rows, frame, place_B in zip(torch.split(mixed_BRHW, 2), frames, places, strict=True):
        torch.testing.assert_close(rows, decoder(frame, place_B), rtol=1e-4, atol=1e-5)


def test_a_batch_may_mix_widths_in_any_order() -> None:
    decoder = decoder_of(NESTED).eval()
    z_BZHW, place_B = torch.rand(5, 8, 4, 4), torch.tensor([3, 0, 3, 1, 0])
    restored_BRHW = decoder(z_BZHW, place_B)
    for row in range(5):
        torch.testing.assert_close(
            restored_BRHW[row : row + 1], decoder(z_BZHW[row : row + 1], place_B[row : row + 1]), rtol=1e-4, atol=1e-5
        )


def test_the_width_alone_changes_what_is_restored() -> None:
    decoder, z_BZHW = decoder_of(NESTED).eval(), torch.rand(1, 8, 4, 4)
    restored = [decoder(z_BZHW, torch.tensor([place])) for place in range(4)]
    assert not any(torch.allclose(one, other) for one, other in zip(restored, restored[1:], strict=False))


@pytest.mark.parametrize("place", range(3))
def test_normalisation_of_a_width_is_batch_normalisation_of_its_own(place: int) -> None:
    torch.manual_seed(0)
    norm: WidthNorm = as_if_trained(WidthNorm(4, 3))
    x_BCHW, place_B = torch.randn(6, 4, 5, 5), torch.full((6,), place)
    wanted = norm.norms[place].eval()(x_BCHW)
    torch.testing.assert_close(norm.eval()(x_BCHW, place_B), wanted, rtol=1e-4, atol=1e-5)


def test_in_training_a_width_s_statistics_are_those_of_its_own_frames() -> None:
    norm = WidthNorm(1, 3).train()
    x_BCHW = torch.cat([torch.full((4, 1, 2, 2), 10.0), torch.full((4, 1, 2, 2), -10.0)])
    norm(x_BCHW, torch.tensor([0] * 4 + [2] * 4))
    means = [one.get_buffer("running_mean").item() for one in norm.norms if isinstance(one, nn.BatchNorm2d)]
    assert means[0] > 0 > means[2]
    assert means[1] == 0


# ── what decides its modules ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"widths": ()}, "rise strictly, got"),
        ({"widths": (2, 1)}, r"rise strictly, got \[2, 1\]"),
        ({"widths": (2, 2)}, "rise strictly"),
        ({"widths": (0, 1)}, "above 0"),
        ({"widths": (1,), "form": "slim"}, "form must be one of nested, ensemble, got 'slim'"),
        ({"widths": (1, 2), "form": "ensemble"}, r"channels above 0 .*, got 0 channels"),
        ({"widths": (1, 3), "form": "ensemble", "channels": 4}, r"widths 1, 2, \.\. n .* widths \[1, 3\]"),
        ({"widths": (2, 3), "form": "ensemble", "channels": 4}, r"widths 1, 2, \.\. n"),
    ],
)
def test_what_makes_no_bottleneck_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Bottleneck(**arguments)


def manifest_of(bottleneck: Bottleneck | None) -> Manifest:
    is_sum = bottleneck is not None and bottleneck.is_sum
    return Manifest(
        schema_version=1,
        name="toy",
        version="1",
        family="resnet",
        pixels=Pixels(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1)),
        output=Output(kind="classes"),
        seam=Seam(
            widths=bottleneck.widths if bottleneck else (FEATURES,),
            bits=(4,),
            height=4,
            width=4,
            sum_channels=bottleneck.channels if bottleneck and is_sum else None,
        ),
        bottleneck={"hidden": bottleneck.hidden, "decoder_hidden": bottleneck.decoder_hidden} if bottleneck else None,
        golden_tolerance=1e-3,
        files={},
    )


@pytest.mark.parametrize("bottleneck", [NESTED, ENSEMBLE, None])
def test_a_manifest_says_which_bottleneck_its_weights_belong_to(bottleneck: Bottleneck | None) -> None:
    assert bottleneck_of(manifest_of(bottleneck)) == bottleneck
