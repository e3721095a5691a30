"""A link in a few lines is the truth; the estimate sees only what a device sees: sizes, times, server's claims."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.link import FIRST_RATE, FIRST_ROUND_TRIP_S, RECENT_S, LinkEstimate

MBIT = 125_000.0
ROUND_TRIP_S = 0.03
SERVER_S = 0.005
# Now and then a small frame shows the round trip by itself.
SIZES = ([40] + [2000] * 9) * 10
ODD = st.floats(allow_nan=True, allow_infinity=True)
REPLIES = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.floats(0, 5), st.floats(0, 5), ODD | st.floats(0, 1)), max_size=40
)
relaxed = settings(deadline=None)


def send(
    estimate: LinkEstimate,
    sizes: Sequence[int],
    *,
    from_s: float = 0.0,
    rate: float = MBIT,
    server_s: float = SERVER_S,
    together: int = 1,
    jitter_s: float = 0.0,
) -> float:
    """Ten times a second `together` frames over one serial link; when the last reply came."""
    free_s, replies, draw = from_s, [], random.Random(0)
    for n, size in enumerate(sizes):
        sent_s = from_s + n // together / 10
        free_s = max(free_s, sent_s) + size / rate
        replied_s = free_s + ROUND_TRIP_S + server_s + draw.uniform(0, jitter_s)
        replies.append((replied_s, size, sent_s))
    for replied_s, size, sent_s in sorted(replies):
        estimate.replied(size, sent_s, replied_s, server_s)
    return max(replies)[0]


def is_sane(estimate: LinkEstimate) -> bool:
    values = (estimate.rate, estimate.round_trip_s, estimate.server_s)
    return all(math.isfinite(value) and value >= 0 for value in values) and estimate.rate > 0


@relaxed
@given(REPLIES)
def test_no_claim_of_a_server_makes_the_estimate_insane(replies: list[tuple[int, float, float, float]]) -> None:
    estimate, now = LinkEstimate(), 0.0
    for size, gap_s, took_s, server_s in replies:
        now += gap_s
        estimate.replied(max(1, size), now, now + took_s, server_s)
        assert is_sane(estimate)
        assert math.isfinite(estimate.rate_given_silence(size, took_s))


@relaxed
@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=20))
def test_a_clock_that_goes_backwards_makes_no_negative_time(times: list[tuple[float, float]]) -> None:
    estimate = LinkEstimate()
    for sent_s, replied_s in times:
        estimate.replied(100, sent_s, replied_s, 0.0)
        assert is_sane(estimate)


@pytest.mark.parametrize("claim", [1e9, math.inf])
def test_a_server_cannot_have_taken_longer_than_we_waited(claim: float) -> None:
    estimate = LinkEstimate()
    for n in range(50):
        estimate.replied(1000, n, n + 0.1, claim)
    assert estimate.server_s <= 0.1 + 1e-9


@pytest.mark.parametrize("claim", [-1.0, -math.inf, math.nan])
def test_a_claim_that_cannot_be_counts_as_no_time(claim: float) -> None:
    estimate, honest = LinkEstimate(), LinkEstimate()
    for n in range(20):
        estimate.replied(1000, n, n + 0.1, claim)
        honest.replied(1000, n, n + 0.1, 0.0)
    assert (estimate.rate, estimate.server_s) == (honest.rate, honest.server_s)


@pytest.mark.parametrize("mbit", [0.25, 0.5, 1, 2])
def test_the_rate_is_found_from_either_side(mbit: float) -> None:
    for first in (0.1, 10.0):
        estimate = LinkEstimate()
        at_s = send(estimate, SIZES, rate=first * mbit * MBIT)
        send(estimate, SIZES * 2, from_s=at_s + 30, rate=mbit * MBIT)
        assert estimate.rate == pytest.approx(mbit * MBIT, rel=0.5)


def test_the_round_trip_is_that_of_the_smallest_frame() -> None:
    estimate = LinkEstimate()
    send(estimate, SIZES)
    assert estimate.round_trip_s == pytest.approx(ROUND_TRIP_S, abs=0.002)
    assert estimate.server_s == pytest.approx(SERVER_S, rel=0.05)


def test_a_slower_server_is_not_taken_for_a_slower_link() -> None:
    estimate = LinkEstimate()
    at_s = send(estimate, SIZES)
    before, trip_s = estimate.rate, estimate.round_trip_s
    send(estimate, SIZES, from_s=at_s + 0.1, server_s=SERVER_S + 0.04)
    assert estimate.rate == pytest.approx(before, rel=0.1)
    assert estimate.round_trip_s == pytest.approx(trip_s, rel=0.1)
    assert estimate.server_s == pytest.approx(SERVER_S + 0.04, rel=0.1)


def test_a_slower_link_is_not_taken_for_a_slower_server() -> None:
    estimate = LinkEstimate()
    at_s = send(estimate, SIZES)
    before = estimate.rate
    send(estimate, SIZES, from_s=at_s + 0.1, rate=MBIT / 4)
    assert estimate.rate < before / 2
    assert estimate.server_s == pytest.approx(SERVER_S, rel=0.1)


@pytest.mark.parametrize("together", [2, 4, 6])
def test_waiting_behind_our_own_frames_does_not_lower_the_rate(together: int) -> None:
    estimate = LinkEstimate()
    at_s = send(estimate, SIZES)
    before = estimate.rate
    send(estimate, [1500] * 60, from_s=at_s + 0.1, together=together)
    assert estimate.rate >= 0.9 * before


def test_jitter_alone_does_not_make_a_fast_link_slow() -> None:
    estimate = LinkEstimate()
    send(estimate, [200] * 100, rate=100 * MBIT, jitter_s=0.02)
    assert estimate.rate * 0.05 > 2000  # of a 100 ms deadline half is left for the way: the widest still fits


@relaxed
@given(replies=REPLIES, size=st.integers(0, 1 << 20), silences=st.tuples(st.floats(0, 60), st.floats(0, 60)))
def test_longer_silence_never_raises_the_rate(
    replies: list[tuple[int, float, float, float]], size: int, silences: tuple[float, float]
) -> None:
    estimate, now = LinkEstimate(), 0.0
    for sent, gap_s, took_s, server_s in replies:
        now += gap_s
        estimate.replied(sent, now, now + took_s, server_s)
    short, long = (estimate.rate_given_silence(size, silent_s) for silent_s in sorted(silences))
    assert 0 <= long <= short <= estimate.rate


def test_silence_bounds_the_rate_by_what_was_not_answered() -> None:
    estimate = LinkEstimate()
    send(estimate, SIZES)
    wanted_s = estimate.round_trip_s + estimate.server_s
    assert estimate.rate_given_silence(1000, wanted_s) == estimate.rate
    assert estimate.rate_given_silence(1000, wanted_s + 2.0) == pytest.approx(500, rel=0.01)


def test_a_new_connection_is_measured_anew() -> None:
    estimate = LinkEstimate()
    assert (estimate.rate, estimate.round_trip_s) == (FIRST_RATE, FIRST_ROUND_TRIP_S)
    at_s = send(estimate, SIZES)
    rate = estimate.rate
    estimate.lost()
    assert estimate.round_trip_s == FIRST_ROUND_TRIP_S
    assert estimate.rate == rate  # the best guess there is
    estimate.replied(40, at_s + 1, at_s + 1.2, 0.0)
    assert estimate.round_trip_s == pytest.approx(0.2)


def test_an_old_round_trip_is_forgotten() -> None:
    estimate = LinkEstimate()
    estimate.replied(40, 0.0, 0.01, 0.0)
    for n in range(1, 5):
        estimate.replied(40, n * RECENT_S / 3, n * RECENT_S / 3 + 0.2, 0.0)
    assert estimate.round_trip_s == pytest.approx(0.2)


def test_asking_changes_nothing() -> None:
    estimate = LinkEstimate()
    send(estimate, SIZES)
    before = (estimate.rate, estimate.round_trip_s, estimate.server_s)
    for silent_s in (0.0, 1.0, 100.0):
        estimate.rate_given_silence(500, silent_s)
    assert (estimate.rate, estimate.round_trip_s, estimate.server_s) == before
