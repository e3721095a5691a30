"""A link in a few lines is the truth; the estimator sees what a device sees: sizes, times, the server's claims."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight, Unanswered

MBIT = 125_000.0
ROUND_TRIP_S = 0.03
SERVER_S = 0.005
SIZES = [1_000, 2_000, 4_000, 8_000] * 30
BYTES = np.array([500.0, 5_000.0, 50_000.0])
ODD = st.floats(allow_nan=True, allow_infinity=True)
MOMENTS = ODD | st.floats(-1e3, 1e6)
REPLIES = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.floats(0, 5), st.floats(0, 5), ODD | st.floats(0, 1)), max_size=30
)
relaxed = settings(deadline=None)


def send(
    estimator: LinkEstimate,
    sizes: Sequence[int] = SIZES,
    *,
    from_s: float = 0.0,
    rate: float = MBIT,
    server_s: float = SERVER_S,
    together: int = 1,
    jitter_s: float = 0.0,
    gap_s: float = 0.1,
) -> float:
    """Every `gap_s` so many frames together over one serial link; when the last reply came."""
    free_s, replies, draw = from_s, [], random.Random(0)
    for n, size in enumerate(sizes):
        sent_s = from_s + n // together * gap_s
        free_s = max(free_s, sent_s) + size / rate
        replies.append((free_s + ROUND_TRIP_S + server_s + draw.uniform(0, jitter_s), size, sent_s))
    for replied_s, size, sent_s in sorted(replies):
        estimator.replied(size, sent_s, replied_s, server_s)
    return max(replies)[0]


def is_sane(estimator: LinkEstimate) -> bool:
    values = (estimator.rate, estimator.round_trip_s, estimator.server_s)
    return all(math.isfinite(value) and value >= 0 for value in values) and estimator.rate > 0


def chances(
    estimator: LinkEstimate, now: float, frames: tuple[Unanswered, ...], left_s: float = 0.2
) -> npt.NDArray[np.float64]:
    return estimator.outlook(InFlight(at=now, frames=frames)).in_time(BYTES, np.full(3, now), now + left_s)


@relaxed
@given(REPLIES, st.lists(st.tuples(st.integers(0, 1 << 30), st.floats(0, 10)), max_size=4), st.floats(-1, 100))
def test_no_sequence_of_events_makes_it_insane(
    replies: list[tuple[int, float, float, float]], on_way: list[tuple[int, float]], left_s: float
) -> None:
    estimator, now = LinkEstimate(), 0.0
    for place, (size, gap_s, took_s, server_s) in enumerate(replies):
        now += gap_s
        estimator.replied(size, now, now + took_s, server_s)
        if place % 7 == 6:
            estimator.lost()
        assert is_sane(estimator)
        assert estimator.belief.mass_N.sum() == pytest.approx(1)
    in_flight = tuple(Unanswered(link_bytes=size, sent_at=now - ago_s) for size, ago_s in on_way)
    found_W = chances(estimator, now, in_flight, left_s)
    assert np.all((found_W >= -1e-9) & (found_W <= 1 + 1e-9))
    assert np.all(np.diff(found_W) <= 1e-3)  # more bytes are not sooner there


@relaxed
@example([(1e153, 1e153), (0.0, 0.0)])
@given(st.lists(st.tuples(MOMENTS, MOMENTS), min_size=1, max_size=20))
def test_a_clock_that_jumps_makes_no_nonsense(times: list[tuple[float, float]]) -> None:
    estimator = LinkEstimate()
    for sent_s, replied_s in times:
        estimator.replied(100, sent_s, replied_s, 0.0)
        assert is_sane(estimator)


@pytest.mark.parametrize("claim", [-1.0, 1e9, math.inf, -math.inf, math.nan])
def test_a_hostile_server_time_is_clamped_and_counted(claim: float) -> None:
    estimator = LinkEstimate()
    for n in range(20):
        estimator.replied(1_000, n, n + 0.1, claim)
    estimator.weigh()
    assert estimator.server.lies == 20
    assert 0 <= estimator.server_s <= 0.1 + 1e-9


@pytest.mark.parametrize("mbit", [1, 4, 16])
@pytest.mark.parametrize("together", [1, 3])
def test_the_rate_and_the_round_trip_are_found(mbit: float, together: int) -> None:
    estimator = LinkEstimate()
    send(estimator, rate=mbit * MBIT, gap_s=0.2 * together / min(1.0, mbit), together=together)
    assert estimator.rate == pytest.approx(mbit * MBIT, rel=0.25)
    assert estimator.round_trip_s == pytest.approx(ROUND_TRIP_S, abs=0.003 + 0.5 * 1_000 / (mbit * MBIT))


def test_a_slower_server_is_not_taken_for_a_slower_link() -> None:
    estimator = LinkEstimate()
    at_s = send(estimator)
    before, trip_s = estimator.rate, estimator.round_trip_s
    send(estimator, from_s=at_s + 0.1, server_s=SERVER_S + 0.04)
    assert estimator.rate == pytest.approx(before, rel=0.1)
    assert estimator.round_trip_s == pytest.approx(trip_s, abs=0.005)
    assert estimator.server_s == pytest.approx(SERVER_S + 0.04, rel=0.1)


def test_a_slower_link_is_not_taken_for_a_slower_server() -> None:
    estimator = LinkEstimate()
    at_s = send(estimator)
    before = estimator.rate
    send(estimator, from_s=at_s + 0.1, rate=MBIT / 4)
    assert estimator.rate < before / 2
    assert estimator.server_s == pytest.approx(SERVER_S, rel=0.1)


def test_waiting_behind_our_own_frames_does_not_lower_the_rate() -> None:
    estimator = LinkEstimate()
    at_s = send(estimator)
    before = estimator.rate
    send(estimator, [3_000] * 60, from_s=at_s + 0.1, together=4)
    assert estimator.rate >= 0.75 * before


def test_a_link_that_turned_slow_is_noticed_within_three_replies() -> None:
    estimator = LinkEstimate()
    at_s = send(estimator, rate=8 * MBIT)
    send(estimator, [8_000] * 3, from_s=at_s + 0.1, rate=0.8 * MBIT)
    assert estimator.rate < 1.6 * MBIT


@relaxed
@given(
    replies=REPLIES, size=st.integers(1, 1 << 20), silences=st.tuples(st.floats(0, 30), st.floats(0, 30))
)  # fmt: skip
def test_silence_never_raises_the_rate(
    replies: list[tuple[int, float, float, float]], size: int, silences: tuple[float, float]
) -> None:
    """At one moment: the longer a frame has been out, the less is believed of the link."""
    estimator, now = LinkEstimate(), 0.0
    for sent, gap_s, took_s, server_s in replies:
        now += gap_s
        estimator.replied(sent, now, now + took_s, server_s)
    now += 31.0
    outages = []
    for silent_s in (*sorted(silences), None):
        on_way = () if silent_s is None else (Unanswered(link_bytes=size, sent_at=now - silent_s),)
        mass_N = estimator.outlook(InFlight(at=now, frames=on_way)).mass_N
        assert mass_N.sum() == pytest.approx(1)
        outages.append(float(mass_N[0]))
    short, long, none = outages
    assert none <= short + 1e-9
    assert short <= long + 1e-9


def test_silence_empties_every_hope_and_says_outage() -> None:
    estimator = LinkEstimate()
    at_s = send(estimator)
    on_way = (Unanswered(link_bytes=1_000, sent_at=at_s),)
    early, late = (estimator.outlook(InFlight(at=at_s + silent_s, frames=on_way)).mass_N[0] for silent_s in (0.02, 0.5))
    assert early < 0.05
    assert late > 0.5
    assert np.all(chances(estimator, at_s + 0.5, on_way) < 0.5)


def test_asking_changes_nothing() -> None:
    estimator = LinkEstimate()
    at_s = send(estimator)
    before = (estimator.rate, estimator.round_trip_s, estimator.belief.mass_N.copy())
    for silent_s in (0.0, 1.0, 100.0):
        estimator.outlook(InFlight(at=at_s + silent_s, frames=(Unanswered(link_bytes=500, sent_at=at_s),)))
    assert (estimator.rate, estimator.round_trip_s) == before[:2]
    assert np.array_equal(estimator.belief.mass_N, before[2])


def test_a_new_connection_is_measured_anew_and_believed_a_little() -> None:
    estimator = LinkEstimate()
    at_s = send(estimator)
    rate = estimator.rate
    estimator.lost()
    assert not estimator.trip.is_known
    assert estimator.rate == pytest.approx(rate, rel=1.0)
    estimator.replied(40, at_s + 1, at_s + 1.2, 0.0)
    assert estimator.round_trip_s == pytest.approx(0.2, rel=0.3)
