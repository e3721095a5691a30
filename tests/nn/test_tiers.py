"""Shape letters: B batch, C channels, H W space, T tiers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from splitrt.codec.quantise import BITS, Ranges, dequantise, quantise
from splitrt.nn.tiers import LEAST_GAIN, LEAST_LIKELY, MOST_GAIN, Tiers

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

CHANNELS = 4
TRAINED = (2, 4, 7)


@pytest.fixture
def tiers() -> Tiers:
    """As if trained: every channel and tier has a gain of its own, coarse and fine."""
    torch.manual_seed(0)
    some = Tiers(CHANNELS, TRAINED)
    some.log_gain_TC.data.uniform_(-1, 1)
    return some


def values(batch: int = 2, side: int = 8, spread: float = 1.0) -> Tensor:
    torch.manual_seed(1)
    return torch.tanh(spread * torch.randn(batch, CHANNELS, side, side))


def ranges_of(tiers: Tiers, bits: int) -> Ranges:
    high_C = (1 / tiers.gain_C(bits)).detach().numpy()
    return Ranges(low_C=-high_C, high_C=high_C)


# ── quantiser ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bits", BITS)
def test_in_training_the_far_side_is_seen_as_the_codec_will_give_it(tiers: Tiers, bits: int) -> None:
    """At trained depths and between them; a value at a step's edge may fall to either side."""
    z_BCHW, ranges = values(batch=1, side=32), ranges_of(tiers, bits)
    sent_CHW = dequantise(quantise(z_BCHW[0].numpy(), ranges, bits), ranges, bits)
    seen_CHW = tiers.seen(z_BCHW, bits)[0].detach().numpy()
    step_C11 = (2 * ranges.high_C / (2**bits - 1))[:, None, None]
    differs = np.abs(seen_CHW - sent_CHW) > 1e-5
    assert differs.mean() < 1e-3
    assert (np.abs(seen_CHW - sent_CHW) < step_C11 + 1e-5).all()


@pytest.mark.parametrize("bits", BITS)
def test_the_quantiser_gives_every_level_and_no_other(bits: int) -> None:
    """A gain of one: the levels divide -1 to 1, ends included, and what lies beyond them saturates."""
    seen = Tiers(1, (bits,)).seen(torch.linspace(-1.5, 1.5, 5001).reshape(1, 1, 1, -1), bits).detach()
    levels = np.unique(seen.numpy().round(5))  # rounded: one level may come out two ways
    np.testing.assert_allclose(levels, np.linspace(-1, 1, 2**bits), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bits", BITS)
def test_quantising_twice_changes_nothing_more(tiers: Tiers, bits: int) -> None:
    once = tiers.seen(values(), bits).detach()
    torch.testing.assert_close(tiers.seen(once, bits).detach(), once, rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_a_narrow_frame_is_seen_as_the_same_channels_of_a_wide_one(tiers: Tiers, width: int, bits: int) -> None:
    z_BCHW = values()
    assert torch.equal(tiers.seen(z_BCHW[:, :width], bits), tiers.seen(z_BCHW, bits)[:, :width])


@pytest.mark.parametrize("bits", BITS)
def test_gradients_reach_values_as_if_there_were_no_quantiser_unless_they_saturate(tiers: Tiers, bits: int) -> None:
    z_BCHW = values().requires_grad_()
    weight_BCHW = torch.randn_like(z_BCHW)
    (gradient_BCHW,) = torch.autograd.grad((tiers.seen(z_BCHW, bits) * weight_BCHW).sum(), z_BCHW)
    is_inside = z_BCHW.detach().abs() <= 1 / tiers.gain_C(bits).detach()[:, None, None]
    assert 0 < is_inside.float().mean() < 1
    torch.testing.assert_close(gradient_BCHW, weight_BCHW * is_inside, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bits", "learns"), [(1, [0]), (2, [0]), (3, [0, 1]), (4, [1]), (5, [1, 2]), (8, [2])])
def test_gradients_reach_the_gains_of_the_tiers_around(tiers: Tiers, bits: int, learns: list[int]) -> None:
    tiers.seen(values(), bits).square().sum().backward()  # type: ignore[no-untyped-call]
    gradient_TC = tiers.log_gain_TC.grad
    assert gradient_TC is not None
    assert [place for place in range(len(TRAINED)) if gradient_TC[place].abs().min() > 0] == learns
    assert [place for place in range(len(TRAINED)) if gradient_TC[place].abs().max() > 0] == learns


def test_a_channel_whose_values_saturate_learns_a_smaller_gain() -> None:
    """Against the error, by gradient descent: the grid grows until it holds the values."""
    tiers = Tiers(1, (4,))
    tiers.log_gain_TC.data.fill_(1.2)
    z_BCHW = values()[:, :1]
    before = float((tiers.seen(z_BCHW, 4) - z_BCHW).square().mean().detach())
    optimiser = torch.optim.SGD([tiers.log_gain_TC], 0.5)
    for _ in range(50):
        optimiser.zero_grad()
        loss = (tiers.seen(z_BCHW, 4) - z_BCHW).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert tiers.log_gain_TC.item() < 1
    assert float(loss.detach()) < before / 2


# ── gains ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_trained_depth_has_its_own_gains(tiers: Tiers) -> None:
    for place, bits in enumerate(TRAINED):
        torch.testing.assert_close(tiers.gain_C(bits), tiers.log_gain_TC[place].exp())


def test_a_depth_between_two_has_gains_between_theirs(tiers: Tiers) -> None:
    for low, bits, high in ((2, 3, 4), (4, 5, 7), (4, 6, 7)):
        bounds = torch.stack([tiers.gain_C(low), tiers.gain_C(high)]).sort(dim=0).values
        assert ((bounds[0] < tiers.gain_C(bits)) & (tiers.gain_C(bits) < bounds[1])).all()
    torch.testing.assert_close(tiers.gain_C(3), (tiers.gain_C(2) * tiers.gain_C(4)).sqrt())


def test_a_depth_beyond_the_trained_ones_has_the_gains_of_the_last(tiers: Tiers) -> None:
    assert torch.equal(tiers.gain_C(1), tiers.gain_C(2))
    assert torch.equal(tiers.gain_C(8), tiers.gain_C(7))


@pytest.mark.parametrize("log_gain", [-50.0, 50.0])
def test_gains_stay_within_bounds_that_a_codec_can_use(tiers: Tiers, log_gain: float) -> None:
    tiers.log_gain_TC.data.fill_(log_gain)
    for bits in BITS:
        gain_C = tiers.gain_C(bits)
        assert ((gain_C > LEAST_GAIN * 0.999) & (gain_C < MOST_GAIN * 1.001)).all()
        ranges_of(tiers, bits)


# ── rate ────────────────────────────────────────────────────────────────────────────────────────────


def priced(tiers: Tiers, z_BCHW: Tensor, bits: int, steps: int = 150) -> float:
    """Bits of a frame after the prior has learnt these values."""
    torch.manual_seed(2)
    optimiser = torch.optim.Adam([tiers.mean_CK, tiers.log_scale_CK, tiers.weight_CK], 0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = tiers.rate(z_BCHW, bits).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return float(tiers.rate(z_BCHW, bits).mean().detach())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_rate_falls_when_values_concentrate(bits: int) -> None:
    rates = [priced(Tiers(CHANNELS, (bits,)), values(spread=spread), bits) for spread in (0.02, 0.2, 1.0)]
    assert rates == sorted(rates)
    assert rates[0] < 0.9 * rates[2]


def test_a_learnt_rate_is_about_the_entropy_of_the_symbols() -> None:
    """Never far below it, or a codec could not keep the promise; within a third above."""
    torch.manual_seed(3)
    z_BCHW, bits = torch.tanh(0.5 * torch.randn(8, 1, 16, 16)), 4
    tiers = Tiers(1, (bits,))
    rate = priced(tiers, z_BCHW, bits) / 256
    ranges = ranges_of(tiers, bits)
    counts = np.bincount(np.stack([quantise(one.numpy(), ranges, bits) for one in z_BCHW]).ravel())
    share = counts[counts > 0] / counts.sum()
    entropy = float(-(share * np.log2(share)).sum())
    assert 0.95 * entropy < rate < 1.33 * entropy


def test_a_finer_depth_costs_more(tiers: Tiers) -> None:
    tiers.log_gain_TC.data.zero_()
    torch.manual_seed(2)
    rates = [float(tiers.rate(values(), bits).mean().detach()) for bits in BITS]
    assert rates == sorted(rates)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("extreme", [-1.0, 1.0, 1e-30, 1e4, -1e30])
def test_the_rate_and_its_gradients_are_finite_for_extreme_values(tiers: Tiers, bits: int, extreme: float) -> None:
    z_BCHW = torch.full((2, CHANNELS, 3, 3), extreme, requires_grad=True)
    rate_B = tiers.rate(z_BCHW, bits)
    assert rate_B.shape == (2,)
    assert (rate_B >= -1e-3).all()
    assert (rate_B <= -np.log2(LEAST_LIKELY) * CHANNELS * 9 + 1).all()
    rate_B.sum().backward()  # type: ignore[no-untyped-call]
    for given in (z_BCHW, *tiers.parameters()):
        assert given.grad is not None
        assert given.grad.isfinite().all()


@pytest.mark.parametrize("extreme", [-50.0, 50.0])
def test_the_rate_is_finite_for_extreme_priors(tiers: Tiers, extreme: float) -> None:
    for parameter in tiers.parameters():
        parameter.data.fill_(extreme)
    assert tiers.rate(values(), 4).isfinite().all()


def test_the_rate_of_a_narrow_frame_is_that_of_its_channels() -> None:
    tiers, z_BCHW = Tiers(CHANNELS, (4,)), values()
    tiers.mean_CK.data[2:] = 9.0  # what is not sent is not priced
    torch.manual_seed(2)
    narrow_B = tiers.rate(z_BCHW[:, :2], 4)
    tiers.mean_CK.data[2:] = 0.0
    torch.manual_seed(2)
    assert torch.equal(tiers.rate(z_BCHW[:, :2], 4), narrow_B)
    assert (tiers.rate(z_BCHW, 4) > narrow_B).all()


def test_gradients_of_the_rate_reach_values_gains_and_prior(tiers: Tiers) -> None:
    z_BCHW = values().requires_grad_()
    tiers.rate(z_BCHW, 3).sum().backward()  # type: ignore[no-untyped-call]
    for given in (z_BCHW, *tiers.parameters()):
        assert given.grad is not None
        assert given.grad.abs().sum() > 0
