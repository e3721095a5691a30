from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.errors import ConfigError
from splitrt.partition.plan import FRAMING_BYTES, OVERHEAD_MS, Link, Machines, Option, parse_link, ranked, ways, winners


def option(cut: str = "add", size: float = 1000.0, head_ms: float = 10.0, tail_ms: float = 5.0) -> Option:
    return Option(
        cut=cut,
        how="8 bit",
        position=3,
        head_ms=head_ms,
        head_spread_ms=0.1,
        tail_ms=tail_ms,
        tail_spread_ms=0.1,
        payload_bytes=size,
        answer_bytes=100.0,
        head_flops=1_000_000,
        tail_flops=1_000_000,
    )


DEVICE = replace(option("output", 0.0, 30.0, 0.0), how="device")
sizes = st.floats(1, 1e7)
times = st.floats(0.01, 1e4)
links = st.builds(Link, mbit_per_s=st.floats(0.01, 1e4), rtt_ms=st.floats(0, 1e3), loss=st.floats(0, 0.5))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5mbit,40ms", Link(mbit_per_s=5, rtt_ms=40)),
        ("800kbit,120ms,1%", Link(mbit_per_s=0.8, rtt_ms=120, loss=0.01)),
        ("1.5gbit,0.2ms", Link(mbit_per_s=1500, rtt_ms=0.2)),
    ],
)
def test_a_link_is_read_as_it_is_written(text: str, wanted: Link) -> None:
    assert parse_link(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "5", "5mbit", "5mbit,40", "0mbit,40ms", "5mbit,40ms,100%", "-5mbit,1ms", "5.5.5mbit,1ms"]
)
def test_a_link_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="link"):
        parse_link(text)


@given(links, sizes, sizes)
def test_more_bytes_never_arrive_sooner(link: Link, one: float, other: float) -> None:
    assert link.transfer_ms(min(one, other)) <= link.transfer_ms(max(one, other))


@given(st.floats(0.01, 1e4), st.floats(0.1, 1e3), st.floats(0, 0.5), st.floats(0, 0.5))
def test_loss_never_makes_a_link_faster(rate: float, rtt_ms: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert (
        Link(mbit_per_s=rate, rtt_ms=rtt_ms, loss=high).goodput_mbit_per_s
        <= Link(mbit_per_s=rate, rtt_ms=rtt_ms, loss=low).goodput_mbit_per_s
        <= rate
    )


def test_latency_is_head_link_and_tail() -> None:
    (way,) = ways([option()], Link(mbit_per_s=8, rtt_ms=20))
    assert way.uplink_ms == pytest.approx((1000 + FRAMING_BYTES) / 1000)
    assert way.latency_ms == pytest.approx(10 + 20 + (1000 + 100 + 2 * FRAMING_BYTES) / 1000 + OVERHEAD_MS + 5)


@given(links)
def test_all_on_the_device_is_the_same_under_every_link(link: Link) -> None:
    (way,) = ways([DEVICE], link)
    assert (way.latency_ms, way.link_ms) == (30.0, 0.0)


@given(links, st.floats(1, 100), st.floats(1, 100))
def test_a_slower_device_never_makes_an_early_cut_worse_against_a_late_one(
    link: Link, one: float, other: float
) -> None:
    """The early cut's lead grows with the slowdown, by as much as its head is shorter."""
    pair = [option("early", head_ms=1.0), option("late", head_ms=9.0, tail_ms=1.0)]

    def lead(slowdown: float) -> float:
        early, late = ways(pair, link, Machines(device_slowdown=slowdown))
        return late.latency_ms - early.latency_ms

    low, high = sorted((one, other))
    assert lead(high) >= lead(low) - 1e-6


def test_the_best_throughput_is_of_the_shortest_slowest_stage() -> None:
    even, uneven = option("even", head_ms=10, tail_ms=10), option("uneven", head_ms=1, tail_ms=15)
    link = Link(mbit_per_s=100, rtt_ms=200)
    assert ranked(ways([uneven, even], link), "throughput")[0].option is even
    assert ranked(ways([uneven, even], link), "latency")[0].option is uneven


def test_ways_that_miss_the_deadline_come_after_those_that_keep_it() -> None:
    link = Link(mbit_per_s=1, rtt_ms=50)
    thrifty = replace(option("thrifty"), head_j=0.0)  # little energy, and late
    order = ranked(ways([thrifty, replace(DEVICE, head_j=9.0)], link), "energy", deadline_ms=40)
    assert [way.option.cut for way in order] == ["output", "thrifty"]


def test_measured_energy_is_believed_before_the_model() -> None:
    link, machines = Link(mbit_per_s=1, rtt_ms=1), Machines()
    modelled, measured, timed = ways(
        [DEVICE, replace(DEVICE, head_j=7.0), replace(DEVICE, head_flops=None)], link, machines
    )
    assert modelled.energy_j == pytest.approx(1e6 * machines.joules_per_flop)
    assert measured.energy_j == 7.0
    assert timed.energy_j == pytest.approx(0.03 * machines.board_w)


def test_a_fast_link_sends_and_a_slow_one_stays() -> None:
    (row,) = winners([option(size=50_000.0), DEVICE], [0.1, 1000], [1])
    assert [one.cut for one in row] == ["output", "add"]


@pytest.mark.parametrize("given", [{"device_slowdown": 0}, {"server_load": -1}, {"joules_per_flop": 0}])
def test_machines_that_cannot_be_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        Machines(**given)
