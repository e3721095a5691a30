"""A row of gated compression: hard at run time, soft backwards, and a stopped sample costs nothing further."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.nn.gate import GatedCompression, GatedRow, Weights, class_set, gated_loss, log_odds

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
IS_IN = torch.tensor([True, False, False])
EVEN = (0.0, 0.0)


def layer(channels: int = 8, closed: int = 3) -> GatedCompression:
    """The first `closed` channels are shut."""
    torch.manual_seed(channels)
    made = GatedCompression(channels, classes=3)
    with torch.no_grad():
        made.openness_C[:closed] = -1
    return made


def row() -> GatedRow:
    torch.manual_seed(1)
    return GatedRow([nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3)], [layer(), layer(8, closed=5)]).eval()


@pytest.mark.parametrize("is_training", [True, False])
def test_the_mask_is_zeros_and_ones_in_training_as_at_run_time(is_training: bool) -> None:
    mask_C = layer().train(is_training).mask().detach()
    torch.testing.assert_close(mask_C, torch.tensor([0.0] * 3 + [1.0] * 5), atol=1e-6, rtol=0)


def test_the_masks_gradient_is_that_of_the_soft_mask() -> None:
    hard, soft = layer().train(), layer().train()
    weights_C = torch.randn(8)
    (hard.mask() * weights_C).sum().backward()  # type: ignore[no-untyped-call]
    (soft.soft_mask() * weights_C).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(hard.openness_C.grad, soft.openness_C.grad)


def test_what_is_sent_is_a_subset_of_the_activation() -> None:
    gate, h_BCHW = layer().eval(), torch.randn(2, 8, 4, 4)
    narrow_BCHW = gate.compress(h_BCHW)
    assert torch.equal(narrow_BCHW[:, gate.kept()], h_BCHW[:, gate.kept()])
    assert not narrow_BCHW[:, :3].any()


def test_no_more_than_the_limit_is_sent_and_the_most_open_go() -> None:
    one = layer(8, closed=3)
    with torch.no_grad():
        one.openness_C.add_(0.01 * torch.arange(8))
    open_then = one.kept()
    one.limit = 2
    assert one.kept() == open_then[-2:]
    assert torch.nonzero(one.eval().mask()).flatten().tolist() == one.kept()


def test_a_mask_that_closes_everything_still_sends_its_least_closed_channel() -> None:
    gate = layer(closed=8)
    with torch.no_grad():
        gate.openness_C[2] = -0.5
    assert gate.kept() == [2]


@given(st.integers(0, 2**31 - 1), st.floats(0.05, 0.95))
def test_a_block_never_sees_what_a_layer_before_it_stopped(seed: int, threshold: float) -> None:
    gated, seen = row(), [0, 0]
    for place, block in enumerate(gated.blocks):
        block.register_forward_hook(lambda _, given, __, place=place: seen.__setitem__(place, len(given[0])))
    x_BCHW = torch.randn(12, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    places_S, _ = gated.survivors(x_BCHW, IS_IN, EVEN, threshold)
    first_B = log_odds(gated.layer(0).logits(gated.blocks[0](x_BCHW)), IS_IN)
    assert seen == [12, int((torch.sigmoid(-first_B) < threshold).sum())]
    assert len(places_S) <= seen[1]


@given(st.integers(0, 2**31 - 1), st.floats(0.05, 0.95))
def test_one_threshold_on_the_rows_odds_says_who_survives_all_of_it(seed: int, threshold: float) -> None:
    gated, handicaps = row(), (0.3, 0.0)
    x_BCHW = torch.randn(12, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    places_S, _ = gated.survivors(x_BCHW, IS_IN, handicaps, threshold)
    nothing_B = torch.sigmoid(-gated.odds(x_BCHW, IS_IN, handicaps))
    is_close_B = (nothing_B - threshold).abs() < 1e-5
    assert {int(i) for i in torch.nonzero((nothing_B < threshold) & ~is_close_B)} <= set(places_S.tolist())
    assert not {int(i) for i in torch.nonzero((nothing_B >= threshold) & ~is_close_B)} & set(places_S.tolist())


def test_survivors_arrive_as_they_would_have_without_a_gate() -> None:
    gated, x_BCHW = row(), torch.randn(12, 2, 8, 8)
    places_S, h_SCHW = gated.survivors(
        x_BCHW, IS_IN, EVEN, float(torch.sigmoid(-gated.odds(x_BCHW, IS_IN, EVEN)).median())
    )
    assert 0 < len(places_S) < 12
    torch.testing.assert_close(h_SCHW, gated.plain(x_BCHW)[places_S])


def test_nan_stops_nothing() -> None:
    gated = row()
    with torch.no_grad():
        gated.layer(0).mlp[2].bias.fill_(torch.nan)  # type: ignore[operator]
        gated.layer(1).mlp[2].bias.fill_(torch.nan)  # type: ignore[operator]
    places_S, _ = gated.survivors(torch.randn(5, 2, 8, 8), IS_IN, EVEN, 0.01)
    assert places_S.tolist() == [0, 1, 2, 3, 4]


def test_a_batch_that_is_stopped_whole_ends_with_nobody() -> None:
    places_S, _ = row().survivors(torch.randn(5, 2, 8, 8), IS_IN, EVEN, 0.0)
    assert places_S.tolist() == []


def test_the_odds_of_a_set_are_those_of_the_softmax() -> None:
    logits_BN = torch.randn(6, 3)
    inside_B = logits_BN.softmax(1)[:, 0]
    torch.testing.assert_close(torch.sigmoid(log_odds(logits_BN, IS_IN)), inside_B)


@pytest.mark.parametrize("positives", [(), ("a", "b", "c"), ("d",)])
def test_a_set_that_leaves_a_gate_nothing_to_tell_apart_is_refused(positives: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="gate"):
        class_set(positives, ("a", "b", "c"))


def loss(is_positive_B: Tensor, alpha: float = 0.5, beta: float = 0.1, warm: float = 1.0) -> float:
    gates = [layer()]
    weights = [Weights(alpha=alpha, beta=beta)]
    value = gated_loss(torch.full((4,), 2.0), [torch.zeros(4)], is_positive_B, gates, weights, warm=warm)
    return float(value.detach())


def test_the_loss_is_the_task_and_both_weighted_terms() -> None:
    gate = F.binary_cross_entropy_with_logits(torch.zeros(4), torch.ones(4))
    expected = 2.0 + 0.5 * float(gate) + 0.1 * float(layer().soft_mask().mean().detach())
    assert loss(torch.ones(4, dtype=torch.bool)) == pytest.approx(expected)


def test_a_batch_of_negatives_alone_pays_for_its_gate_only() -> None:
    assert loss(torch.zeros(4, dtype=torch.bool)) == pytest.approx(0.5 * 0.6931, abs=1e-3)


def test_beta_comes_in_with_the_warm_up() -> None:
    some = torch.tensor([True, False, True, False])
    assert loss(some, warm=0.0) == pytest.approx(loss(some, beta=0.0))
    assert loss(some, warm=0.0) < loss(some, warm=0.5) < loss(some, warm=1.0)


def test_a_row_learns_to_stop_what_is_not_asked_for_and_to_close_channels() -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()) for _ in range(1)]
    gated, answer = GatedRow(blocks, [GatedCompression(8, classes=2)]), nn.Linear(8, 2)
    optimiser = torch.optim.Adam([*gated.parameters(), *answer.parameters()], lr=0.02)
    labels_B = torch.arange(64) % 2
    x_BCHW = torch.randn(64, 1, 6, 6) + 2.0 * labels_B.view(-1, 1, 1, 1)
    is_in_BN = torch.tensor([False, True]).expand(64, 2)
    for step in range(80):
        h_BCHW, logits = gated(x_BCHW, is_in_BN)
        task_B = F.cross_entropy(answer(h_BCHW.mean((2, 3))), labels_B, reduction="none")
        odds = [log_odds(one, is_in_BN) for one in logits]
        value = gated_loss(task_B, odds, labels_B == 1, [gated.layer(0)], [Weights(beta=2.0)], warm=min(1, step / 20))
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    places_S, _ = gated.eval().survivors(x_BCHW, torch.tensor([False, True]), (0.0,), 0.5)
    assert len(gated.layer(0).kept()) <= 4
    assert set(places_S.tolist()) <= set(torch.nonzero(labels_B).flatten().tolist())
    assert len(places_S) >= 30


def test_a_heavier_positive_costs_more_to_miss() -> None:
    some = torch.tensor([True, False, True, False])
    values = [
        float(gated_loss(torch.zeros(4), [torch.zeros(4)], some, [layer()], [Weights(beta=0.0)], weight).detach())
        for weight in (1.0, 4.0)
    ]
    assert values[1] == pytest.approx(2.5 * values[0], rel=1e-3)
