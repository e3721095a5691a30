from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.link import LinkEstimate
from splitrt.policy.width import Choice, InFlight, choose

relaxed = settings(deadline=None)
NOTHING = InFlight()


@st.composite
def ladders(draw: st.DrawFn) -> list[Choice]:
    """Cheapest first, accuracy rising, as a calibration's front is."""
    sizes = sorted(draw(st.sets(st.integers(1, 50_000), max_size=8)))
    return [
        Choice(width=n + 1, bits=8, link_bytes=size, accuracy=(n + 1) / (len(sizes) + 1))
        for n, size in enumerate(sizes)
    ]


@st.composite
def links(draw: st.DrawFn) -> LinkEstimate:
    """Whatever a few replies, some of a hostile server, make of an estimate."""
    link, now = LinkEstimate(), 0.0
    odd = st.floats(allow_nan=True, allow_infinity=True)
    for size, gap_s, took_s, server_s in draw(
        st.lists(st.tuples(st.integers(1, 50_000), st.floats(0, 2), st.floats(0, 2), odd), max_size=12)
    ):
        now += gap_s
        link.replied(size, now, now + took_s, server_s)
    return link


IN_FLIGHT = st.builds(
    InFlight, bytes=st.integers(0, 100_000), oldest_bytes=st.integers(0, 50_000), silent_s=st.floats(0, 10)
)


def rank(choices: list[Choice], choice: Choice | None) -> int:
    return -1 if choice is None else choices.index(choice)


def link(mbit: float) -> LinkEstimate:
    estimate = LinkEstimate(mbit * 125_000)
    estimate.replied(1, 0.0, 0.02, 0.0)  # a round trip of 20 ms; one byte says nothing of the rate
    return estimate


@relaxed
@given(choices=ladders(), link=links(), left=st.tuples(st.floats(-1, 5), st.floats(-1, 5)), in_flight=IN_FLIGHT)
def test_more_time_left_never_chooses_a_cheaper_point(
    choices: list[Choice], link: LinkEstimate, left: tuple[float, float], in_flight: InFlight
) -> None:
    short, long = (choose(choices, link, left_s, in_flight) for left_s in sorted(left))
    assert rank(choices, short) <= rank(choices, long)


@relaxed
@given(choices=ladders(), link=links(), left_s=st.floats(-1, 5), in_flight=IN_FLIGHT, more=st.integers(1, 100_000))
def test_more_on_its_way_never_chooses_a_dearer_point(
    choices: list[Choice], link: LinkEstimate, left_s: float, in_flight: InFlight, more: int
) -> None:
    loaded = InFlight(bytes=in_flight.bytes + more, oldest_bytes=in_flight.oldest_bytes, silent_s=in_flight.silent_s)
    assert rank(choices, choose(choices, link, left_s, loaded)) <= rank(
        choices, choose(choices, link, left_s, in_flight)
    )


@relaxed
@given(choices=ladders(), link=links(), left_s=st.floats(-1, 5), size=st.integers(1, 50_000), silent_s=st.floats(0, 10))
def test_silence_never_chooses_a_dearer_point(
    choices: list[Choice], link: LinkEstimate, left_s: float, size: int, silent_s: float
) -> None:
    quiet = InFlight(bytes=size, oldest_bytes=size, silent_s=silent_s)
    fresh = InFlight(bytes=size, oldest_bytes=size)
    assert rank(choices, choose(choices, link, left_s, quiet)) <= rank(choices, choose(choices, link, left_s, fresh))


@relaxed
@given(choices=ladders(), link=links(), left_s=st.floats(-1e9, 1e9), in_flight=IN_FLIGHT)
def test_the_choice_is_one_of_those_given_or_none(
    choices: list[Choice], link: LinkEstimate, left_s: float, in_flight: InFlight
) -> None:
    assert choose(choices, link, left_s, in_flight) in [None, *choices]


LADDER = [
    Choice(width=1, bits=2, link_bytes=100, accuracy=0.5),
    Choice(width=4, bits=4, link_bytes=600, accuracy=0.6),
    Choice(width=8, bits=8, link_bytes=2000, accuracy=0.7),
]


@pytest.mark.parametrize(("mbit", "width"), [(10, 8), (1, 8), (0.15, 4), (0.05, 1)])
def test_the_choice_follows_the_link(mbit: float, width: int) -> None:
    choice = choose(LADDER, link(mbit), 0.1, NOTHING)
    assert choice is not None
    assert choice.width == width


@pytest.mark.parametrize("left_s", [-1.0, 0.0, 0.019, 0.02])
def test_where_nothing_will_be_in_time_the_cheapest_goes_as_a_probe(left_s: float) -> None:
    assert choose(LADDER, link(10), left_s, NOTHING) is LADDER[0]


@pytest.mark.parametrize("left_s", [-1.0, 0.0, 0.02])
def test_where_a_probe_is_on_its_way_already_nothing_goes(left_s: float) -> None:
    assert choose(LADDER, link(10), left_s, InFlight(bytes=100, oldest_bytes=100)) is None


def test_a_choice_that_just_fits_is_taken() -> None:
    estimate = link(1)
    budget = 0.8 * estimate.rate * (0.1 - estimate.round_trip_s - estimate.server_s)
    for size, wanted in ((budget * 0.999, 2), (budget * 1.001, 1)):
        ladder = [*LADDER[:2], Choice(width=8, bits=8, link_bytes=size, accuracy=0.7)]
        assert choose(ladder, estimate, 0.1, NOTHING) is ladder[wanted]


def test_bytes_on_their_way_take_their_share() -> None:
    assert choose(LADDER, link(1), 0.1, InFlight(bytes=6500, oldest_bytes=1)) is LADDER[1]


def test_time_at_the_server_is_time_that_is_not_left() -> None:
    busy = link(1)
    busy.server_s = 0.07
    assert choose(LADDER, busy, 0.1, NOTHING) is LADDER[1]


@pytest.mark.parametrize("left_s", [0.0, 1.0, math.inf])
def test_without_choices_the_frame_stays(left_s: float) -> None:
    assert choose([], LinkEstimate(), left_s, NOTHING) is None
