"""The virtual time that `bench speculate` tells: against sums that can be done by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from splitrt.bench.course import down_size, run, up_size  # noqa: E402
from splitrt.bench.crowd import alone_s_p95, capacity  # noqa: E402
from splitrt.bench.profiles import Costs, Profile  # noqa: E402
from splitrt.bench.routed import routed, server_alone  # noqa: E402
from splitrt.bench.stories import Told  # noqa: E402
from splitrt.bench.turns import split  # noqa: E402
from splitrt.device.pace import Pace  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.policy.drafting import RoundCosts, plan  # noqa: E402

FAST = 1e6  # Mbit/s: bytes take no time
LINK = Profile(name="link", rtt_ms=60, up_mbit=FAST, down_mbit=FAST)
COSTS = Costs(pass_s=0.03, node_s=0.001, draft_s=0.01, server_draft_s=0.004)


def told(met: list[bool]) -> Told:
    return Told((1,), (5,) * len(met), Sampling(), tuple(met), (0.9,) * len(met))


ALWAYS, NEVER = told([True] * 60), told([False] * 60)


def test_a_request_per_token_pays_the_round_trip_and_a_pass_each() -> None:
    (course,) = run(split(0), [ALWAYS], LINK, COSTS)
    assert course.calls == course.tokens == 60
    assert course.token_s == pytest.approx(0.09, rel=1e-3)
    assert course.up_bytes == 60 * up_size(0)


@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_a_draft_that_stands_is_its_length_and_one_and_the_next_is_drafted_meanwhile(length: int) -> None:
    (course,) = run(split(length), [ALWAYS], LINK, COSTS)
    assert course.calls == -(-60 // (length + 1))
    waits = 0.06 + 0.03 + length * 0.001
    ready = min(length, int(waits / 0.01) - 1)  # one is the target's own, guessed
    rounds = course.calls
    expected = length * 0.01 + rounds * waits + (rounds - 1) * (length - ready) * 0.01
    assert course.ended_at == pytest.approx(expected, rel=0.03)


def test_drafts_that_never_stand_cost_their_drafting_and_gain_nothing() -> None:
    (course,) = run(split(4), [NEVER], LINK, COSTS)
    assert course.calls == 60
    assert course.token_s == pytest.approx(0.09 + 4 * 0.011, rel=0.02)
    assert course.server_s == pytest.approx(sum(COSTS.verify_s(min(4, 59 - place)) for place in range(60)))


def test_a_server_that_streams_pays_the_round_trip_once() -> None:
    (course,) = run(server_alone(0), [ALWAYS], LINK, COSTS)
    assert course.calls == 1
    assert course.ended_at == pytest.approx(0.06 + 60 * 0.03, rel=1e-3)
    (spoken,) = run(server_alone(4), [ALWAYS], LINK, COSTS)
    assert spoken.ended_at == pytest.approx(0.06 + 12 * (0.03 + 4 * 0.005), rel=1e-3)
    assert spoken.down_bytes == 12 * down_size(0, 5)


def test_a_second_round_in_flight_halves_the_way_where_all_stand_and_costs_bytes_where_none_does() -> None:
    far = replace(LINK, rtt_ms=400)
    (one,), (two,) = (run(split(3, in_flight=rounds), [ALWAYS], far, COSTS) for rounds in (1, 2))
    assert two.calls == one.calls
    assert two.ended_at == pytest.approx((0.43 + 0.04) * two.calls / 2 + 0.43, rel=0.05)  # 40 ms: the next draft's
    (one,), (two,) = (run(split(3, in_flight=rounds), [NEVER], far, COSTS) for rounds in (1, 2))
    assert (two.calls, two.ended_at, two.server_s) == (one.calls, one.ended_at, one.server_s)
    assert two.up_bytes > 1.9 * one.up_bytes


@pytest.mark.parametrize("chance", [0.5, 0.8])
@pytest.mark.parametrize("rtt_ms", [30, 200])
def test_the_policys_seconds_a_token_are_those_of_virtual_time(chance: float, rtt_ms: float) -> None:
    draw, link, costs = random.Random(0), replace(LINK, rtt_ms=rtt_ms), replace(COSTS, draft_s=0.002)
    text = told([draw.random() < chance for _ in range(4_000)])
    reach = [chance ** (depth + 1) for depth in range(48)]
    fixed_s = rtt_ms / 1e3 + costs.pass_s
    chosen = plan(reach, RoundCosts(fixed_s=fixed_s, pass_s=costs.pass_s, node_s=costs.node_s, draft_s=costs.draft_s))
    for in_flight, token_s in ((1, chosen.token_s), (2, chosen.paired_s)):
        (course,) = run(split(chosen.length, in_flight=in_flight), [text], link, costs)
        assert token_s is None or course.token_s == pytest.approx(token_s, rel=0.05)


def test_an_outage_holds_what_is_on_its_way_and_the_device_speaks_meanwhile() -> None:
    broken = Profile(name="broken", rtt_ms=60, up_mbit=FAST, down_mbit=FAST, outage_every_s=4, outage_s=3)
    (sound,), (held,) = (run(split(2), [ALWAYS], link, COSTS) for link in (LINK, broken))
    assert sound.ended_at > 1
    assert held.ended_at == pytest.approx(sound.ended_at + 3, abs=0.15)
    assert held.provisional > 0
    assert held.retracted == 0  # the drafter is always right here
    (silent,) = run(split(2, alone=False), [ALWAYS], broken, COSTS)
    assert silent.provisional == 0
    assert silent.stalled_s > held.stalled_s


def test_ways_that_are_nearly_alike_meet_outages_alike() -> None:
    """Of one start, the luck of a moment; over all starts, a way's own time."""
    broken = Profile(name="broken", rtt_ms=60, up_mbit=FAST, down_mbit=FAST, outage_every_s=20, outage_s=3)
    assert LINK.starts() == (0.0,)

    def mean_s(pass_s: float, starts: tuple[float, ...]) -> float:
        costs = replace(COSTS, pass_s=pass_s)
        courses = [course for at in starts for course in run(server_alone(0), [ALWAYS] * 16, broken, costs, at)]
        return sum(course.token_s for course in courses) / len(courses)

    ratios = [mean_s(0.0051, (at,)) / mean_s(0.005, (at,)) for at in broken.starts()]
    assert 1 < mean_s(0.0051, broken.starts()) / mean_s(0.005, broken.starts()) < 1.03
    assert max(ratios) > 1.1


def test_the_router_takes_what_is_fastest_and_a_drafter_that_is_never_right_is_left_out() -> None:
    pace = Pace()
    for _ in range(2):
        course = run(routed(pace), [NEVER] * 8, LINK, COSTS)[-1]
    assert course.token_s == pytest.approx(0.03 + 0.06 / 60, rel=0.15)
    near = Profile(name="near", rtt_ms=0.1, up_mbit=FAST, down_mbit=FAST)
    free = Costs(pass_s=0.03, node_s=0.0, draft_s=0.0001, server_draft_s=0.02)
    pace = Pace()
    course = run(routed(pace), [ALWAYS] * 12, near, free)[-1]
    assert course.token_s < 0.008
    assert pace.router.mode == "split"


def test_a_server_carries_more_clients_when_they_draft_themselves() -> None:
    texts = [told([True, True, False] * 20), told([True, False, False] * 20)]
    bound_s = 1.5 * alone_s_p95(texts, LINK, COSTS, 3, split=True)
    ours = capacity(bound_s, texts, LINK, COSTS, 3, split=True)
    theirs = capacity(bound_s, texts, LINK, COSTS, 3, split=False)
    assert ours > theirs >= 1
    assert capacity(0.001, texts, LINK, COSTS, 3, split=True) == 0
