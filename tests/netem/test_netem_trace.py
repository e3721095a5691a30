from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.errors import InvalidInput
from splitrt.netem import Trace

RATES_MBIT = st.one_of(st.just(0.0), st.floats(0.01, 100))


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Uplink only, up to a dozen steps of uneven length, alive at least once."""
    rates = draw(st.lists(RATES_MBIT, min_size=1, max_size=12).filter(any))
    steps_s = draw(st.lists(st.floats(0.01, 5), min_size=len(rates), max_size=len(rates)))
    times_s = [math.fsum(steps_s[:count]) for count in range(len(rates) + 1)]
    return Trace(times_s=tuple(times_s[:-1]), up_mbps=tuple(rates), down_mbps=None, duration_s=times_s[-1])


def written(folder: Path, text: str) -> Path:
    path = folder / "link.csv"
    path.write_text("time_s,up_mbps,down_mbps\n" + text)
    return path


@given(trace=traces(), start_s=st.floats(0, 100), payload_bytes=st.integers(1, 10_000_000))
def test_bytes_between_a_start_and_its_delivery_are_the_bytes_sent(
    trace: Trace, start_s: float, payload_bytes: int
) -> None:
    delivered_s = trace.delivered_at("up", start_s, payload_bytes)
    assert delivered_s >= start_s
    assert trace.bytes_between("up", start_s, delivered_s) == pytest.approx(payload_bytes, rel=1e-6, abs=1)


@given(trace=traces(), start_s=st.floats(0, 100), sizes=st.lists(st.integers(1, 100_000), max_size=8))
def test_pieces_one_after_another_arrive_when_the_whole_does(trace: Trace, start_s: float, sizes: list[int]) -> None:
    at_s = start_s
    for size in sizes:
        at_s = trace.delivered_at("up", at_s, size)
    whole_s = trace.delivered_at("up", start_s, sum(sizes))
    # A last byte on either side of a zero stretch is a matter of rounding: compare bytes, not times.
    early_s, late_s = sorted((at_s, whole_s))
    assert trace.bytes_between("up", early_s, late_s) < 0.1


@given(trace=traces(), at_s=st.floats(0, 100), loops=st.integers(1, 5))
def test_a_trace_begins_again_when_it_ends(trace: Trace, at_s: float, loops: int) -> None:
    phase_s = at_s % trace.duration_s
    if min(abs(phase_s - edge_s) for edge_s in (*trace.times_s, trace.duration_s)) > 1e-6:
        later_s = at_s + loops * trace.duration_s
        assert trace.rate_bytes_per_s("up", later_s) == trace.rate_bytes_per_s("up", at_s)


def test_a_constant_rate_divides_bytes_by_rate() -> None:
    trace = Trace.constant(up_mbit=8, down_mbit=None)
    assert trace.delivered_at("up", 3.25, 4_000_000) == pytest.approx(3.25 + 4)
    assert not trace.measures("down")


def test_bytes_that_meet_an_outage_wait_for_its_end() -> None:
    trace = Trace(times_s=(0.0, 1.0, 4.0), up_mbps=(8.0, 0.0, 8.0), down_mbps=None, duration_s=5.0)
    assert trace.delivered_at("up", 0, 1_000_000) == pytest.approx(1)  # just in time
    assert trace.delivered_at("up", 0, 1_500_000) == pytest.approx(4.5)
    assert trace.delivered_at("up", 2, 1) == pytest.approx(4, abs=1e-5)
    assert trace.delivered_at("up", 0, 2_000_000 * 1000) == pytest.approx(5000)


def test_an_empty_direction_is_not_a_zero_one(tmp_path: Path) -> None:
    trace = Trace.read_csv(written(tmp_path, "0,1.5,\n0.5,0,\n"))
    assert (trace.up_mbps, trace.down_mbps, trace.duration_s) == ((1.5, 0), None, 1.0)
    with pytest.raises(InvalidInput, match="does not measure down"):
        trace.delivered_at("down", 0, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1,2\n1,,2\n", r"link\.csv:3: up_mbps must be a number here too"),
        ("0,1,2\n\n1,-1,2\n", r"link\.csv:4: up_mbps .* got '-1'"),
        ("0,1,nan\n", r"link\.csv:2: down_mbps .* got 'nan'"),
        ("0,1,inf\n", r"link\.csv:2: down_mbps .* got 'inf'"),
        ("0,1,fast\n", r"link\.csv:2: down_mbps .* got 'fast'"),
        ("0,1,2\n1,1,2\n1,1,2\n", r"link\.csv:4: time_s must rise, got 1 after 1"),
        ("1,1,2\n", r"link\.csv:2: time_s must start at 0"),
        ("0,1\n", r"link\.csv:2: 3 fields wanted, got 2"),
        ("0,0,2\n1,0,2\n", r"link\.csv: up_mbps is zero all the time"),
        ("0,,\n", r"link\.csv: must measure up or down"),
        ("", r"link\.csv:2: at least one row"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Trace.read_csv(written(tmp_path, rows))


def test_a_file_that_is_no_trace_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.csv"
    with pytest.raises(InvalidInput, match=r"photo\.csv: cannot be read"):
        Trace.read_csv(path)
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InvalidInput, match=r"photo\.csv: cannot be read"):
        Trace.read_csv(path)
    path.write_text("a,b\n")
    with pytest.raises(InvalidInput, match=r"photo\.csv:1: header must be"):
        Trace.read_csv(path)


def test_a_mahimahi_file_of_one_line_is_a_constant_link(tmp_path: Path) -> None:
    path = tmp_path / "12mbit"
    path.write_text("1\n")
    trace = Trace.read_mahimahi(path, None)
    assert trace.delivered_at("up", 0, 1504 * 1000) == pytest.approx(1)


def test_mahimahi_deliveries_happen_by_the_millisecond_they_name(tmp_path: Path) -> None:
    up, down = tmp_path / "up", tmp_path / "down"
    up.write_text("5\n5\n20\n100\n")
    down.write_text("50\n")
    trace = Trace.read_mahimahi(up, down)
    assert trace.duration_s == pytest.approx(0.1)
    for packets, at_s in ((2, 0.005), (3, 0.020), (4, 0.100), (6, 0.105)):
        assert trace.delivered_at("up", 0, packets * 1504) == pytest.approx(at_s)
    assert trace.delivered_at("down", 0, 4 * 1504) == pytest.approx(0.2)  # repeated inside the longer one


def test_mahimahi_times_that_fall_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "up"
    path.write_text("5\n4\n")
    with pytest.raises(InvalidInput, match=r"up:2: times must not fall, got 4 after 5"):
        Trace.read_mahimahi(path, None)


def test_the_shipped_commute_is_slow_then_out_then_fast() -> None:
    trace = Trace.shipped("commute")
    assert trace.duration_s == 30
    assert all(b - a == 0.5 for a, b in pairwise(trace.times_s))
    assert max(trace.rate_bytes_per_s("up", at_s) for at_s in (10, 12, 15.9)) <= 0.08 * 125_000
    assert trace.bytes_between("up", 20, 23) == trace.bytes_between("down", 20, 23) == 0
    assert trace.rate_bytes_per_s("up", 29.9) > 4 * 125_000
    down_per_up = trace.bytes_between("down", 0, 30) / trace.bytes_between("up", 0, 30)
    assert down_per_up == pytest.approx(3, rel=0.1)


def test_an_unknown_shipped_trace_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidInput, match="commute"):
        Trace.shipped("../trace")
