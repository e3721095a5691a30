from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.errors import ConfigError
from splitrt.netem import Shape, Trace
from splitrt.netem.shape import Pipe, parse_outage

COMMUTE = Trace.shipped("commute")
UP_ONLY = Trace.constant(up_mbit=1, down_mbit=None)

# Gaps between arrivals at the link, and sizes.
PIECES = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 4096)), min_size=1, max_size=30)
SHAPES = st.builds(
    Shape,
    trace=st.sampled_from([None, COMMUTE]),
    rtt_ms=st.floats(0, 300),
    jitter_ms=st.floats(0, 100),
    outages=st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 5)), max_size=3).map(tuple),
    seed=st.integers(0, 3),
)


def arrivals(shape: Shape, pieces: list[tuple[float, int]]) -> list[float]:
    pipe, now_s, seen_s = Pipe(shape, "up"), 0.0, []
    for gap_s, size in pieces:
        now_s += gap_s
        seen_s.append(pipe.schedule(now_s, size))
    return seen_s


@given(shape=SHAPES, pieces=PIECES)
def test_no_piece_overtakes_and_none_beats_the_propagation_delay(shape: Shape, pieces: list[tuple[float, int]]) -> None:
    seen_s = arrivals(shape, pieces)
    assert seen_s == sorted(seen_s)
    sent_s = 0.0
    for (gap_s, _), arrival_s in zip(pieces, seen_s, strict=True):
        sent_s += gap_s
        assert arrival_s >= sent_s + shape.rtt_ms / 2000 - 1e-9


@given(shape=SHAPES, pieces=PIECES)
def test_a_seed_gives_the_same_link_again(shape: Shape, pieces: list[tuple[float, int]]) -> None:
    assert arrivals(shape, pieces) == arrivals(shape, pieces)


def test_another_seed_or_direction_jitters_otherwise() -> None:
    pieces = [(1.0, 100)] * 5
    first = arrivals(Shape(jitter_ms=100, seed=1), pieces)
    assert first != arrivals(Shape(jitter_ms=100, seed=2), pieces)
    down = Pipe(Shape(jitter_ms=100, seed=1), "down")
    assert first != [down.schedule(at_s, 100) for at_s in (1.0, 2.0, 3.0, 4.0, 5.0)]


@given(jitter_ms=st.floats(1, 200), pieces=PIECES)
def test_jitter_only_delays_and_by_no_more_than_its_bound(jitter_ms: float, pieces: list[tuple[float, int]]) -> None:
    steady = arrivals(Shape(up_mbit=1, rtt_ms=20), pieces)
    jittered = arrivals(Shape(up_mbit=1, rtt_ms=20, jitter_ms=jitter_ms), pieces)
    for on_time_s, late_s in zip(steady, jittered, strict=True):
        assert on_time_s <= late_s <= on_time_s + jitter_ms / 1000 + 1e-9


@given(
    pieces=PIECES,
    outages=st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 5)), min_size=1, max_size=3).map(tuple),
    up_mbit=st.one_of(st.none(), st.floats(0.05, 10)),
)
def test_nothing_arrives_during_an_outage(
    pieces: list[tuple[float, int]], outages: tuple[tuple[float, float], ...], up_mbit: float | None
) -> None:
    for arrival_s in arrivals(Shape(up_mbit=up_mbit, outages=outages), pieces):
        for at_s, for_s in outages:
            assert not at_s + 1e-6 < arrival_s < at_s + for_s - 1e-6


def test_an_outage_costs_its_length_and_no_more() -> None:
    whole = [(0.0, 125_000)]  # a second's worth
    assert arrivals(Shape(up_mbit=1, outages=((0.5, 3.0),)), whole) == [pytest.approx(4)]
    assert arrivals(Shape(up_mbit=1, outages=((0.5, 3.0), (2.0, 2.0))), whole) == [pytest.approx(4.5)]
    assert arrivals(Shape(up_mbit=1, outages=((1.0, 3.0),)), whole) == [pytest.approx(1)]


@given(pieces=PIECES)
def test_the_backlog_is_what_was_sent_less_what_is_through(pieces: list[tuple[float, int]]) -> None:
    pipe, now_s, through = Pipe(Shape(up_mbit=0.1), "up"), 0.0, []
    for gap_s, size in pieces:
        now_s += gap_s
        through.append((pipe.schedule(now_s, size), size))
        assert pipe.backlog_bytes(now_s) == sum(size for at_s, size in through if at_s > now_s)


def test_there_is_room_again_when_enough_is_through() -> None:
    pipe = Pipe(Shape(up_mbit=1, buffer_bytes=10_000), "up")
    assert pipe.room_at(0) == 0
    for _ in range(10):
        pipe.schedule(0, 1250)
    assert pipe.backlog_bytes(0) == 12_500
    room_s = pipe.room_at(0)
    assert room_s == pytest.approx(0.03)  # three of ten, 10 ms each: 8750 are left
    assert pipe.backlog_bytes(room_s) < 10_000 <= pipe.backlog_bytes(0) + 1250


def test_two_senders_share_one_link() -> None:
    pipe = Pipe(Shape(up_mbit=1), "up")
    seen_s = [pipe.schedule(0, 12_500) for _ in range(4)]
    assert [b - a for a, b in pairwise(seen_s)] == pytest.approx([0.1] * 3)


def test_a_rebased_pipe_keeps_what_is_queued_in_its_place() -> None:
    pipe = Pipe(Shape(up_mbit=1), "up")
    pipe.schedule(5, 125_000)
    pipe.rebase(5.5)
    assert pipe.backlog_bytes(0) == 125_000
    assert pipe.schedule(0, 125_000) == pytest.approx(1.5)


def test_a_direction_that_the_trace_lacks_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"shape\.down_mbit must be given.*constant does not measure down"):
        Shape(trace=UP_ONLY)
    assert Pipe(Shape(trace=UP_ONLY, down_mbit=8), "down").schedule(0, 1_000_000) == pytest.approx(1)


def test_a_direction_that_the_trace_has_cannot_be_given_twice() -> None:
    with pytest.raises(ConfigError, match=r"shape\.up_mbit must not be given"):
        Shape(trace=UP_ONLY, up_mbit=3, down_mbit=3)


def test_a_shape_of_nothing_is_no_obstacle() -> None:
    assert Pipe(Shape(), "up").schedule(7, 10**9) == 7


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("up_mbit", 0),
        ("down_mbit", float("nan")),
        ("rtt_ms", -1),
        ("jitter_ms", float("inf")),
        ("outages", ((-1, 2),)),
        ("outages", ((1, 0),)),
        ("outages", ((1, float("inf")),)),
        ("buffer_bytes", 0),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"shape\.{setting}"):
        Shape(**{setting: value})


def test_an_outage_is_written_at_comma_for() -> None:
    assert parse_outage("20,3.5") == (20, 3.5)
    for text in ("20", "20,3,1", "soon,3", ""):
        with pytest.raises(ConfigError, match="AT,FOR"):
            parse_outage(text)
