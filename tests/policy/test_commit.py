"""What a piece is worth against what it may cost the next frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.commit import Commits, Piece
from splitrt.policy.link import LinkEstimate, Outlook
from splitrt.policy.price import Prices
from splitrt.policy.queue import InFlight, Unanswered

BYTES = (1_000.0, 2_000.0, 4_000.0, 8_000.0)
ACCURACY = (0.60, 0.64, 0.68, 0.70)
LOCAL = 0.55
NEXT_AT, SPAN_S = 10.05, 0.05


def commits() -> Commits:
    return Commits(BYTES, ACCURACY, LOCAL)


def outlook(rate: float, in_flight_bytes: int = 0) -> Outlook:
    """A link of that many bytes a second, known for sure, at 10 s; with so much handed over just now."""
    frames = (Unanswered(link_bytes=in_flight_bytes, sent_at=10.0),) if in_flight_bytes else ()
    believed = LinkEstimate().outlook(InFlight(at=10.0, frames=frames, is_acked=True))
    return replace(
        believed,
        mass_N=np.array([0.0, 1.0]),
        byte_s_R=np.array([1 / rate]),
        free_R=np.array([10.0 + in_flight_bytes / rate]),
    )


def piece(gain: float = 0.05, size: float = 1_000.0, left_s: float = 0.2) -> Piece:
    return Piece(link_bytes=size, rest_bytes=size, gain=gain, deadline_at=10.0 + left_s)


@pytest.mark.parametrize("rate", [2_000.0, 1e5, 1e7])
def test_with_nothing_on_its_way_a_base_always_goes(rate: float) -> None:
    base = replace(piece(left_s=0.06), is_base=True)
    assert commits().choose(outlook(rate), [base], NEXT_AT, SPAN_S) == 0


@pytest.mark.parametrize("in_flight_bytes", [0, 10_000])
def test_a_piece_that_gains_nothing_never_goes(in_flight_bytes: int) -> None:
    assert commits().choose(outlook(1e6, in_flight_bytes), [piece(gain=0.0)], NEXT_AT, SPAN_S) is None


def test_a_piece_that_costs_more_than_it_gains_never_goes() -> None:
    base, enhancement = replace(piece(), is_base=True), piece(gain=0.02)
    for kilobyte, chosen in ((0.01, 0), (0.2, None)):
        priced = Commits(BYTES, ACCURACY, LOCAL, Prices(kilobyte=kilobyte))
        assert priced.choose(outlook(1e6), [base], NEXT_AT, SPAN_S) == chosen
        assert priced.choose(outlook(1e6), [enhancement], NEXT_AT, SPAN_S) == chosen


def test_without_pieces_none_goes() -> None:
    assert commits().choose(outlook(1e6), [], NEXT_AT, SPAN_S) is None


def test_a_base_overtakes_an_enhancement() -> None:
    enhancement, base = piece(gain=0.02, size=4_000.0), piece(gain=0.05)
    assert commits().choose(outlook(1e6), [enhancement, base], NEXT_AT, SPAN_S) == 1


def test_what_would_come_too_late_lets_what_comes_in_time_go_first() -> None:
    late, early = piece(gain=0.05, size=50_000.0, left_s=0.06), piece(gain=0.01)
    assert commits().choose(outlook(1e5), [late, early], NEXT_AT, SPAN_S) == 1


def test_a_queue_that_lasts_past_the_next_frame_takes_nothing_more() -> None:
    assert commits().choose(outlook(1e5, 20_000), [piece(gain=0.02)], NEXT_AT, SPAN_S) is None


def test_a_short_queue_on_a_fast_link_does() -> None:
    assert commits().choose(outlook(4e6, 2_000), [piece(gain=0.02)], NEXT_AT, SPAN_S) == 0


@settings(deadline=None)
@given(st.floats(2e3, 1e7), st.integers(1, 50_000), st.floats(0.001, 0.05), st.floats(1.0, 4.0))
def test_a_longer_queue_lets_nothing_go_that_a_shorter_one_held_back(
    rate: float, in_flight_bytes: int, gain: float, factor: float
) -> None:
    one = piece(gain=gain)
    short = commits().choose(outlook(rate, in_flight_bytes), [one], NEXT_AT, SPAN_S)
    long = commits().choose(outlook(rate, round(in_flight_bytes * factor)), [one], NEXT_AT, SPAN_S)
    assert short is not None or long is None


def test_the_price_is_that_of_the_ladder_from_above() -> None:
    steps = Commits((1_000.0, 2_000.0, 4_000.0), (0.56, 0.64, 0.66), LOCAL)
    assert steps.gains == pytest.approx([0.01, 0.08, 0.02])
    assert steps.slopes == pytest.approx([0.09 / 2_000, 0.02 / 2_000])
