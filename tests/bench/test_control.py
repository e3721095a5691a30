"""The simulator and those who play in it, on links of a few seconds that are made up here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from splitrt.bench import control, drills, gains, wire
from splitrt.bench.degrading import simulate_degrading
from splitrt.bench.oracle import oracle
from splitrt.bench.packets import PACKET_BYTES, Packets, expand, packets_of
from splitrt.bench.players import Genie, Ours
from splitrt.bench.pull import simulate_pull
from splitrt.bench.report import Asked
from splitrt.bench.rivals import Fixed
from splitrt.bench.simulation import FRAMING_BYTES, Present, Sent, Ways, World, simulate, world_of
from splitrt.bench.suite import LADDER_ACCURACY, LOCAL_ACCURACY, Cell, cells, ladder, tracks
from splitrt.errors import ConfigError
from splitrt.netem import Trace
from splitrt.policy.decision import Choice
from splitrt.policy.queue import InFlight

LENGTH_S = 6.0


@pytest.fixture(scope="module")
def made() -> list[Cell]:
    return list(cells(tracks(None, LENGTH_S, 0), ladder(), LOCAL_ACCURACY, LENGTH_S))


class Planned:
    """Plays what was written down beforehand."""

    def __init__(self, plan: Sequence[int | None]) -> None:
        self._plan = iter(plan)

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        index = next(self._plan)
        return None if index is None else Sent(index=index)

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        pass

    def ended(self, sent: Sent, is_hit: bool) -> None:
        pass


def tiny(seed: int) -> World:
    draw = np.random.default_rng(seed)
    choices = [
        Choice(width=n, bits=4, link_bytes=kb * 1_448, accuracy=accuracy, head_s=0.002 * n)
        for n, (kb, accuracy) in enumerate([(1, 0.6), (3, 0.7), (6, 0.75)])
    ]
    packets = packets_of(np.exp(draw.normal(11.5, 1.0, 60)), draw)
    ways = Ways(round_trip_s=0.03, jitter_s=0.0, spike_share=0.0, busy_in=0.0, size_spread=0.0)
    return world_of(choices, 0.55, packets, ways, deadline_s=0.1, fps=20.0, length_s=0.3, draw=draw)


@pytest.mark.parametrize("seed", range(8))
def test_the_oracle_is_the_best_of_all_plans(seed: int) -> None:
    world = tiny(seed)
    plans = product([None, 0, 1, 2], repeat=len(world.captured_K))
    best = max(simulate(world, Planned(plan), is_hedged=False).accuracy for plan in plans)
    assert oracle(world) == pytest.approx(best)


def test_nobody_beats_the_oracle(made: list[Cell]) -> None:
    for cell in made:
        best = oracle(cell.world)
        row = control.row_of(cell, "B")
        assert max(*row["hedged"].values(), *row["unhedged"].values()) <= best + 1e-9


def test_knowing_the_present_is_no_worse_on_the_mean_and_ours_is_better_than_nothing(made: list[Cell]) -> None:
    for is_hedged in (True, False):
        ours, genie = (
            np.mean(
                [
                    simulate(
                        cell.world, kind(cell.world.choices, LOCAL_ACCURACY, is_hedged=is_hedged), is_hedged=is_hedged
                    ).accuracy
                    for cell in made
                ]
            )
            for kind in (Ours, Genie)
        )
        assert LOCAL_ACCURACY < ours <= genie + 0.002


def test_nobody_who_commits_beforehand_gains_what_a_link_that_asks_does(made: list[Cell]) -> None:
    for cell in made[::3]:
        committed = simulate_degrading(cell.world, acks_packets=True)
        assert LOCAL_ACCURACY < committed <= simulate_pull(cell.world) + 0.001


def test_the_worst_cells_are_those_behind_what_one_width_would_have_gained(made: list[Cell]) -> None:
    rows = [control.row_of(cell, "B") for cell in made[:4]]
    found = gains.worst(rows, "hedged")
    assert [one["accuracy_ahead"] for one in found] == sorted(gains.ahead_of_hindsight(row, "hedged") for row in rows)


def test_each_link_of_the_wire_is_told_apart() -> None:
    rows = [
        {
            "link": link,
            "oracle": 0.75,
            "real": {"whole": real, "degrading": 0.75},
            "simulated": {"whole": 0.75, "degrading": 0.75},
            "late": 0,
        }
        for link, real in (("emulated", 0.65), ("kernel", 0.7))
    ]
    both = wire.figures(rows, "both")
    assert (both["real_gain_whole"], both["kernel_gain_whole"]) == pytest.approx((0.5, 0.75))
    assert (both["real_minus_simulated"], both["kernel_minus_simulated_whole"]) == pytest.approx((-0.5, -0.25))
    one = wire.figures(rows[:1], "one")
    assert one["real_link"] == "one"
    assert "kernel_gain_whole" not in one


def test_always_local_gains_nothing(made: list[Cell]) -> None:
    rows = [control.row_of(cell, "A") for cell in made[:2]]
    for how in ("hedged", "unhedged"):
        assert gains.gain(rows, how, "always local") == pytest.approx(0)
        low, high = gains.interval(rows, how, "splitrt")
        assert low <= gains.gain(rows, how, "splitrt") <= high


def test_a_world_is_the_same_for_everyone_and_every_time(made: list[Cell]) -> None:
    again = next(cells(tracks(None, LENGTH_S, 0), ladder(), LOCAL_ACCURACY, LENGTH_S))
    assert again.world.packets.times == made[0].world.packets.times
    assert (again.world.size_K, again.world.way_K) == (made[0].world.size_K, made[0].world.way_K)
    runs = [
        simulate(made[0].world, Ours(ladder(), LOCAL_ACCURACY, is_hedged=True), is_hedged=True).value_K
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_what_is_not_begun_by_its_deadline_is_withdrawn_and_takes_no_packet() -> None:
    packets = Packets(times=[0.5, 0.6], edges=np.array([0.0, 1.0]), bytes_per_s=np.array([2 * 1448.0]))
    choice = Choice(width=1, bits=4, link_bytes=PACKET_BYTES, accuracy=0.9)
    world = World(
        choices=[choice],
        local_accuracy=0.5,
        packets=packets,
        captured_K=[0.0, 0.45],
        deadline_s=0.1,
        size_K=[1.0, 1.0],
        round_trip_s=0.01,
        way_K=[0.01, 0.01],
        server_K=[0.0, 0.0],
    )
    played = simulate(world, Fixed(0), is_hedged=False)
    assert played.is_hit_K == [False, True]
    assert played.value_K == [0.0, 0.9]
    assert played.replied_K == [float("inf"), pytest.approx(0.51)]


def test_packets_are_as_many_as_the_trace_says() -> None:
    trace = Trace(times_s=(0.0, 0.1, 0.2), up_mbps=(1.2, 0.0, 12.0), down_mbps=None, duration_s=0.3)
    packets = expand(trace, "up", 1.0, 0.0, 0.3, np.random.default_rng(0))
    counts = np.histogram(packets.times, bins=[0.0, 0.1, 0.2, 0.3])[0]
    assert counts.tolist() == [10, 0, 100]
    assert list(packets.times) == sorted(packets.times)


def test_the_drills_hold() -> None:
    assert drills.step_down(2)["step_met"] == 1
    assert drills.outage(2)["outage_recovery_ms"] < 300
    assert drills.slow_server(1)["slow_server_rate_change_worst"] < 0.1


def test_certainty_that_comes_true_is_calibrated() -> None:
    assert gains.calibration_error([(0.25, n % 4 == 0) for n in range(100)]) == pytest.approx(0)
    assert gains.calibration_error([(0.9, False)] * 10) == pytest.approx(0.9)


def test_the_claim_runs_on_a_folder_of_traces_and_says_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "\n".join(f"{n / 10},{1 + n % 5}," for n in range(200))
    (tmp_path / "one.csv").write_text(f"time_s,up_mbps,down_mbps\n{rows}\n")
    monkeypatch.setattr(control, "QUICK_LENGTH_S", 3.0)
    monkeypatch.setattr(control, "QUICK_SEEDS", 1)
    claim = control.measure(Asked(quick=True, bundle="photos", data=None, traces=tmp_path))
    wanted = {
        "gain_whole", "gain_whole_unhedged", "genie", "genie_unhedged", "oracle_share", "margin_best_baseline",
        "worst_cell", "ece", "decision_us_p50", "deadline_met_published_rates", "step_replies", "outage_recovery_ms",
    }  # fmt: skip
    assert wanted <= set(claim.summary)
    assert claim.summary.keys() >= {"gain_degrading", "gain_degrading_chunk_acks", "worst_cell_degrading"}
    assert claim.summary["traces"] == 1


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must hold CSV files"):
        control.measure(Asked(quick=True, bundle="photos", data=None, traces=tmp_path))
    with pytest.raises(ConfigError, match="--traces must be a folder"):
        control.measure(Asked(quick=True, bundle="photos", data=None, traces=tmp_path / "none"))


def steady_world(mbit: float, deadline_s: float = 0.2) -> World:
    draw = np.random.default_rng(3)
    packets = packets_of(np.full(200, mbit * 125_000.0), draw)
    ways = Ways(round_trip_s=0.03, jitter_s=0.001, spike_share=0.0, busy_in=0.0, size_spread=0.0)
    return world_of(ladder(), LOCAL_ACCURACY, packets, ways, deadline_s=deadline_s, fps=10.0, length_s=10.0, draw=draw)


@pytest.mark.parametrize("acks_packets", [True, False])
def test_frames_that_degrade_are_all_of_them_there_on_a_fast_link_and_local_on_a_dead_one(acks_packets: bool) -> None:
    fast = simulate_degrading(steady_world(100.0), acks_packets=acks_packets)
    assert fast >= LADDER_ACCURACY[-1] - 0.01
    assert simulate_degrading(steady_world(0.0), acks_packets=acks_packets) == pytest.approx(LOCAL_ACCURACY)


@pytest.mark.parametrize("mbit", [0.3, 1.0, 3.0])
def test_no_more_of_a_frame_is_answered_than_the_link_carried(mbit: float) -> None:
    """Were every bit of the link used, and in the cheapest way: the ladder's accuracy at its share a frame."""
    world = steady_world(mbit)
    most = np.interp(
        mbit * 125_000 / 10.0 * 1.1,
        [0.0, *(choice.link_bytes - FRAMING_BYTES for choice in world.choices)],
        [LOCAL_ACCURACY, *LADDER_ACCURACY],
    )
    assert LOCAL_ACCURACY < simulate_degrading(world, acks_packets=True) <= most


def test_frames_that_degrade_gain_more_than_whole_ones_where_the_link_carries_a_part(made: list[Cell]) -> None:
    whole = [
        simulate(cell.world, Ours(cell.world.choices, LOCAL_ACCURACY, is_hedged=True), is_hedged=True).accuracy
        for cell in made
    ]
    degrading = [simulate_degrading(cell.world, acks_packets=True) for cell in made]
    assert np.mean(degrading) > np.mean(whole)
