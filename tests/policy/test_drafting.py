from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.policy.drafting import MOST_LENGTH, Calibration, PassCost, Reach, RoundCosts, plan
from splitrt.policy.modes import PATIENCE, Router
from splitrt.policy.patience import FIRST_S, FLOOR_S, Patience

SECONDS = st.floats(1e-4, 1)


def geometric(chance: float) -> list[float]:
    return [chance ** (depth + 1) for depth in range(MOST_LENGTH)]


def token_s(length: int, reach: list[float], costs: RoundCosts) -> float:
    """The formula, written again."""
    tokens = 1 + sum(reach[:length])
    waited, drafting = costs.fixed_s + length * costs.node_s, length * costs.draft_s
    hidden = reach[length] * min(waited, drafting) if length else 0
    return (waited + drafting - hidden) / tokens


@given(chance=st.floats(0.01, 0.99), fixed=SECONDS, node=st.floats(0, 0.1), draft=st.floats(0, 0.1))
def test_no_other_length_is_expected_to_be_faster(chance: float, fixed: float, node: float, draft: float) -> None:
    costs = RoundCosts(fixed_s=fixed, pass_s=0.8 * fixed, node_s=node, draft_s=draft)
    reach = geometric(chance)
    chosen = plan(reach, costs, MOST_LENGTH - 1)
    assert chosen.token_s == pytest.approx(token_s(chosen.length, reach, costs))
    assert all(token_s(length, reach, costs) >= chosen.token_s - 1e-12 for length in range(MOST_LENGTH))
    assert 0 <= chosen.least_sent <= chosen.least_drafted <= 1


@given(chance=st.floats(0.3, 0.95), node=st.floats(1e-4, 0.02), near=SECONDS, more=st.floats(1, 100))
def test_a_longer_round_trip_never_asks_for_a_shorter_draft(
    chance: float, node: float, near: float, more: float
) -> None:
    reach = geometric(chance)
    short = plan(reach, RoundCosts(fixed_s=near, pass_s=near, node_s=node, draft_s=0))
    long = plan(reach, RoundCosts(fixed_s=near * more, pass_s=near, node_s=node, draft_s=0))
    assert long.length >= short.length


@given(chance=st.floats(0.01, 0.99), way=SECONDS, served=SECONDS, draft=st.floats(1e-4, 0.1))
def test_a_second_round_in_flight_pays_over_a_long_way_and_never_without_one(
    chance: float, way: float, served: float, draft: float
) -> None:
    reach = geometric(chance)
    near = plan(reach, RoundCosts(fixed_s=served, pass_s=served, node_s=1e-3, draft_s=draft))
    assert near.paired_s is None
    far = plan(reach, RoundCosts(fixed_s=way + served, pass_s=served, node_s=1e-3, draft_s=draft))
    assert far.paired_s is None or 0 < far.paired_s < far.token_s
    quick = RoundCosts(fixed_s=way + 0.01 * way, pass_s=0.01 * way, node_s=0.005 * way, draft_s=0.005 * way)
    assert plan(geometric(0.8), quick).in_flight == 2


def test_lengths_are_those_of_the_published_closed_form() -> None:
    """Acceptance .8, 130 ms a round, 10.5 ms a token: K + 1 = ln(1 + (F/c + K) ln(1/a)) / ln(1/a) gives 6.3."""
    reach = [one if depth < 20 else 0.0 for depth, one in enumerate(geometric(0.8))]
    costs = RoundCosts(fixed_s=0.13, pass_s=0.13, node_s=0.0105, draft_s=0)
    assert plan(reach, costs).length == 6


@given(chance=st.floats(0.4, 0.9), fixed=st.floats(0.01, 0.5), node=st.floats(1e-4, 0.01), draft=st.floats(0, 0.02))
def test_drafts_as_sure_as_the_mean_are_of_the_best_length_surer_ones_longer_and_unsure_ones_end(
    chance: float, fixed: float, node: float, draft: float
) -> None:
    chosen = plan(geometric(chance), RoundCosts(fixed_s=fixed, pass_s=0.8 * fixed, node_s=node, draft_s=draft))

    def drafted(step: float) -> int:
        return next(depth for depth in range(MOST_LENGTH + 1) if not chosen.goes_on([step] * depth))

    assert abs(drafted(chance) - chosen.length) <= 1 + 0.35 * chosen.length  # what is drafted ahead is not in the rule
    assert drafted(1.0) >= drafted(chance) >= drafted(chance / 2)
    assert drafted(0.0) == min(1, chosen.length)
    chances = [chance] * drafted(chance)
    assert chosen.sent(chances) == len(chances)  # what was worth drafting is worth sending
    assert chosen.sent([*chances, 0.0]) == len(chances)


def test_costs_that_no_clock_could_tell_from_nothing_are_planned_with() -> None:
    assert plan(geometric(0.5), RoundCosts(fixed_s=0, pass_s=0, node_s=0, draft_s=0)).length == 0


def test_a_drafter_that_costs_more_than_a_round_is_not_used() -> None:
    assert plan(geometric(0.5), RoundCosts(fixed_s=0.002, pass_s=0.002, node_s=0, draft_s=0.01)).length == 0


@given(chance=st.floats(0.05, 0.95), drafted=st.integers(4, 12))
def test_the_curve_comes_near_the_truth_and_never_rises(chance: float, drafted: int) -> None:
    draw, reach = random.Random(1), Reach()
    for _ in range(600):
        accepted = next((depth for depth in range(drafted) if draw.random() > chance), drafted)
        reach.add(drafted, accepted)
    curve = reach.curve()
    assert all(above >= below for above, below in zip(curve, curve[1:], strict=False))
    assert curve[0] == pytest.approx(chance, abs=0.2)
    assert curve[2] == pytest.approx(chance**3, abs=0.25)


def test_calibration_follows_what_stood() -> None:
    calibration = Calibration()
    for _ in range(200):
        calibration.add([0.95, 0.25], 1)  # the sure one stands, the unsure one does not
    assert calibration.chance(0.97) > 0.9
    assert calibration.chance(0.21) < 0.1


@given(fixed=st.floats(0.001, 0.1), node=st.floats(0, 0.01), seed=st.integers(0, 99))
def test_the_line_of_a_pass_is_found(fixed: float, node: float, seed: int) -> None:
    draw, cost = random.Random(seed), PassCost()
    assert not cost.is_known
    for _ in range(50):
        nodes = draw.randrange(12)
        cost.add(nodes, fixed + node * nodes)
    found_fixed, found_node = cost.line()
    assert found_fixed == pytest.approx(fixed, rel=0.05, abs=1e-4)
    assert found_node == pytest.approx(node, rel=0.05, abs=1e-5)


def test_a_mode_changes_for_a_clear_gain_that_lasts_and_not_for_a_whim() -> None:
    router = Router("split")
    for _ in range(10):
        assert router.pick({"split": 1.0, "stream": 0.98, "server": 2.0}) == "split"
    for turn in range(20):  # better every other time only
        assert router.pick({"split": 1.0, "stream": 0.5 if turn % 2 else 1.5, "server": 2.0}) == "split"
    picks = [router.pick({"split": 1.0, "stream": 0.5, "server": 2.0}) for _ in range(PATIENCE)]
    assert picks[-1] == "stream"
    assert router.mode == "stream"


def test_a_mode_is_not_left_for_less_than_the_change_costs_but_at_the_next_text() -> None:
    router, times = Router("server"), {"split": 9.0, "stream": 0.8, "server": 1.0}
    for _ in range(9):
        assert router.pick(times, switch_s=0.3) == "server"  # type: ignore[arg-type]
    assert router.pick(times) == "stream"  # type: ignore[arg-type]


def test_patience_is_the_callers_or_follows_the_answers() -> None:
    assert Patience(0.3).bound_s == 0.3
    learnt = Patience()
    assert learnt.bound_s == FIRST_S
    for _ in range(50):
        learnt.answered(0.5)
    assert learnt.bound_s == pytest.approx(0.5, abs=0.05)
    for _ in range(50):
        learnt.answered(0.01)
    assert learnt.bound_s == FLOOR_S
    for took in (0.2, 0.9) * 20:
        learnt.answered(took)
    assert learnt.bound_s > 0.9
