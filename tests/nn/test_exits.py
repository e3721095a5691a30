"""Exits after any stem: a chain whose deeper branches read what the cheaper ones carry on."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from splitrt import families
from splitrt.manifest import Branch
from splitrt.nn.exits import LARGE_SIDE, Exits
from splitrt.nn.split import FeatureShape

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
CHAIN = (Branch(channels=16, blocks=2), Branch(channels=24, blocks=2, expand=3))


@pytest.mark.parametrize("family", ["mobilenet", "resnet", "darknet", "mobilenetv3", "fastvit", "edgenext"])
def test_exits_go_after_the_stem_of_any_family(family: str) -> None:
    with torch.device("meta"):
        front = families.head_module(family).build(classes=10)
        assert front.exits is None
        exits = Exits(front.features, CHAIN, 10).eval()
        assert [logits_BN.shape for logits_BN in exits(torch.empty(2, *front.features))] == [(2, 10)] * 2


@pytest.mark.parametrize("side", [5, 8, 9, 16, 33])
def test_what_a_branch_says_it_carries_on_it_does(side: int) -> None:
    exits = Exits(FeatureShape(6, side, side), CHAIN, 3).eval()
    carried = torch.rand(1, 6, side, side)
    for branch in exits:
        _, carried = branch(carried)
        assert tuple(carried.shape[1:]) == branch.carried
    assert min(carried.shape[2:]) <= max(LARGE_SIDE, side // 4 + 1)


def test_the_chain_s_logits_are_those_of_its_branches_in_turn() -> None:
    torch.manual_seed(0)
    exits = Exits(FeatureShape(6, 16, 16), CHAIN, 3).eval()
    features_BFHW = torch.rand(2, 6, 16, 16)
    first_BN, carried = exits[0](features_BFHW)
    second_BN, _ = exits[1](carried)
    for given_BN, wanted_BN in zip(exits(features_BFHW), (first_BN, second_BN), strict=True):
        torch.testing.assert_close(given_BN, wanted_BN)
