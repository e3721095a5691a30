from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.errors import ConfigError
from splitrt.policy.decision import PROBE_S, Choice, Decided, WholeFrames
from splitrt.policy.link import LinkEstimate, Outlook
from splitrt.policy.noise import ServiceNoise
from splitrt.policy.price import Prices
from splitrt.policy.queue import InFlight, Unanswered

relaxed = settings(deadline=None)
LOCAL = 0.55
ON_WAY = Unanswered(link_bytes=100, sent_at=0.0)


@st.composite
def ladders(draw: st.DrawFn) -> list[Choice]:
    """Cheapest first, accuracy rising, as a calibration's front is."""
    sizes = sorted(draw(st.sets(st.integers(1, 50_000), min_size=1, max_size=8)))
    return [
        Choice(width=n + 1, bits=8, link_bytes=size, accuracy=0.6 + 0.4 * n / len(sizes))
        for n, size in enumerate(sizes)
    ]


def sharp(
    rate: float, *, now: float = 0.0, free_at: float = -1.0, outage: float = 0.0, is_idle: bool = True
) -> Outlook:
    """One who knows the rate, on a link that is a pipe."""
    noise = ServiceNoise()
    noise.burst, noise.jitter_s = 0.02, 0.0005
    return Outlook(
        at=now,
        mass_N=np.array([outage, 1 - outage]),
        byte_s_R=np.array([1 / rate]),
        free_R=np.array([free_at]),
        fixed_s=0.03,
        variance_s2=0.0,
        noise=noise,
        is_idle=is_idle,
    )


@relaxed
@given(choices=ladders(), rate=st.floats(1e4, 1e7), left_s=st.floats(0.05, 1), is_hedged=st.booleans())
def test_the_best_that_fits_is_chosen_when_the_rate_is_known(
    choices: list[Choice], rate: float, left_s: float, is_hedged: bool
) -> None:
    times = [0.03 + choice.link_bytes / rate for choice in choices]
    if any(0.6 * left_s < time < 1.5 * left_s for time in times):
        return  # on the edge chance decides
    decided = WholeFrames(choices, LOCAL, is_hedged=is_hedged).choose(sharp(rate, is_idle=False), left_s)
    fitting = [place for place, time in enumerate(times) if time < left_s]
    best = [place for place in fitting if choices[place].accuracy >= choices[fitting[-1]].accuracy - 0.002]
    assert (decided.index if decided else None) in (best if best else (None,))


@relaxed
@given(
    choices=ladders(),
    rates=st.tuples(st.floats(1e3, 1e7), st.floats(1e3, 1e7)),
    left_s=st.floats(0.01, 1),
)
def test_a_faster_link_never_makes_less_of_a_frame(
    choices: list[Choice], rates: tuple[float, float], left_s: float
) -> None:
    values = []
    for rate in sorted(rates):
        decided = WholeFrames(choices, LOCAL).choose(sharp(rate, is_idle=False), left_s)
        gain = 0.0 if decided is None else (decided.choice.accuracy - LOCAL) * decided.probability
        values.append(gain)
    assert values[0] <= values[1] + 0.003


def test_a_hedge_is_bold_where_a_miss_costs_nothing() -> None:
    ladder = [
        Choice(width=1, bits=4, link_bytes=1_000, accuracy=0.57),
        Choice(width=2, bits=4, link_bytes=9_000, accuracy=0.9),
    ]
    outlook, busy = (sharp(125e3, outage=0.3, is_idle=is_idle) for is_idle in (True, False))
    hedged = WholeFrames(ladder, LOCAL).choose(outlook, 0.2)
    unhedged = WholeFrames(ladder, 0.65, is_hedged=False).choose(busy, 0.2)
    assert isinstance(hedged, Decided)
    assert (hedged.index, hedged.is_probe) == (1, False)
    assert unhedged is None


@relaxed
@given(
    choices=ladders(),
    rate=st.floats(1e4, 1e7),
    prices=st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)),
    joule=st.floats(0, 5),
)
def test_dearer_bytes_never_make_a_frame_wider(
    choices: list[Choice], rate: float, prices: tuple[float, float], joule: float
) -> None:
    sent = []
    for kilobyte in sorted(prices):
        frames = WholeFrames(choices, LOCAL, prices=Prices(kilobyte=kilobyte, joule=joule))
        decided = frames.choose(sharp(rate, is_idle=False), 1.0)
        sent.append(-1 if decided is None else decided.index)
    assert sent[1] <= sent[0]


def test_a_byte_that_costs_more_than_any_answer_gains_is_not_sent_not_even_as_a_probe() -> None:
    choice = Choice(width=1, bits=4, link_bytes=1_024, accuracy=0.6)
    for prices, is_sent in (
        (Prices(kilobyte=0.04), True),
        (Prices(kilobyte=0.06), False),
        (Prices(joule=4.0, radio_w=1.0), True),
        (Prices(joule=6.0, radio_w=1.0), False),
    ):
        frames = WholeFrames([choice], LOCAL, prices=prices)
        assert (frames.choose(sharp(102_400.0, now=10.0), 11.0) is not None) is is_sent


@pytest.mark.parametrize("is_hedged", [True, False])
def test_where_nothing_is_worth_it_one_probe_goes_and_then_rest(is_hedged: bool) -> None:
    frames = WholeFrames([Choice(width=1, bits=4, link_bytes=1_000, accuracy=0.6)], LOCAL, is_hedged=is_hedged)
    first = frames.choose(sharp(100.0, now=10.0), 10.1)
    assert isinstance(first, Decided)
    assert first.is_probe
    assert frames.choose(sharp(100.0, now=10.1), 10.2) is None
    assert frames.choose(sharp(100.0, now=10.1 + PROBE_S, is_idle=False), 10.2 + PROBE_S) is None
    assert frames.choose(sharp(100.0, now=10.1 + PROBE_S), 10.2 + PROBE_S) is not None


def test_in_an_outage_a_probe_is_always_on_its_way() -> None:
    frames = WholeFrames([Choice(width=1, bits=4, link_bytes=1_000, accuracy=0.6)], LOCAL)
    for now in (10.0, 10.03):
        assert frames.choose(sharp(1e6, now=now, outage=1.0), now + 0.1) is not None
        assert frames.choose(sharp(1e6, now=now, outage=1.0, is_idle=False), now + 0.1) is None


def test_time_in_the_head_and_our_own_queue_is_time_that_is_not_left() -> None:
    slow = [Choice(width=1, bits=4, link_bytes=1_000, accuracy=0.9, head_s=0.09)]
    fast = [Choice(width=1, bits=4, link_bytes=1_000, accuracy=0.9)]

    def likely(choices: list[Choice], outlook: Outlook, before_s: float = 0.0) -> float:
        decided = WholeFrames(choices, LOCAL).choose(outlook, 0.1, before_s)
        return 0.0 if decided is None else decided.probability

    assert likely(fast, sharp(1e6)) > 0.9
    assert likely(slow, sharp(1e6)) < 0.05
    assert likely(fast, sharp(1e6), before_s=0.09) < 0.05
    assert likely(fast, sharp(1e6, free_at=0.09)) < 0.05


def test_without_choices_the_frame_stays() -> None:
    assert WholeFrames([], LOCAL).choose(sharp(1e6), 1.0) is None


def test_choices_out_of_order_are_refused() -> None:
    ladder = [Choice(width=n, bits=4, link_bytes=10 - n, accuracy=0.9) for n in range(2)]
    with pytest.raises(ConfigError, match="must rise in link_bytes"):
        WholeFrames(ladder, LOCAL)


@relaxed
@given(
    choices=ladders(),
    replies=st.lists(st.tuples(st.integers(1, 50_000), st.floats(0, 2), st.floats(0, 2), st.booleans()), max_size=20),
    left_s=st.floats(-1, 5),
    most_misses=st.none() | st.floats(0.01, 0.99),
)
def test_no_history_breaks_a_decision(
    choices: list[Choice],
    replies: list[tuple[int, float, float, bool]],
    left_s: float,
    most_misses: float | None,
) -> None:
    estimator, now = LinkEstimate(), 0.0
    frames = WholeFrames(choices, None, most_misses=most_misses)
    on_way: tuple[Unanswered, ...] = ()
    for size, gap_s, took_s, is_hit in replies:
        now += gap_s
        estimator.replied(size, now, now + took_s, 0.0)
        decided = frames.choose(estimator.outlook(InFlight(at=now, frames=on_way)), now + left_s)
        on_way = () if on_way else (ON_WAY,)
        if decided is not None:
            assert decided.choice is choices[decided.index]
            assert 0 <= decided.probability <= 1
            frames.ended(decided.raw, decided.is_probe, is_hit)


def test_a_dial_that_misses_too_often_sends_less() -> None:
    choices = [Choice(width=1, bits=4, link_bytes=1_000, accuracy=0.9)]
    frames = WholeFrames(choices, LOCAL, most_misses=0.05)
    for _ in range(30):
        decided = frames.choose(sharp(1e6), 1.0)
        if decided is not None and not decided.is_probe:
            frames.ended(decided.raw, decided.is_probe, False)
    assert frames.dial is not None
    assert frames.dial.margin > 0.8


@relaxed
@given(choices=ladders(), rate=st.floats(1e4, 1e7), left_s=st.floats(0.01, 1), place=st.integers(0, 7))
def test_looking_again_never_makes_a_frame_dearer_and_takes_what_fits(
    choices: list[Choice], rate: float, left_s: float, place: int
) -> None:
    index = min(place, len(choices) - 1)
    frames = WholeFrames(choices, LOCAL, is_hedged=False)
    again = frames.recheck(sharp(rate, is_idle=False), left_s, index)
    if again is not None:
        assert again.index <= index
    if 0.03 + choices[0].link_bytes / rate > 2 * left_s:
        assert again is None
    if 0.03 + choices[index].link_bytes / rate < 0.5 * left_s:
        assert again is not None
        assert again.choice.accuracy >= choices[index].accuracy - 0.002


def test_silence_since_the_decision_makes_a_frame_narrower() -> None:
    choices = [Choice(width=n, bits=4, link_bytes=2_000 * 4**n, accuracy=0.6 + 0.1 * n) for n in range(3)]
    estimator, frames = LinkEstimate(), WholeFrames(choices, LOCAL)
    for n in range(40):
        estimator.replied(20_000, 0.1 * n, 0.1 * n + 0.03 + 20_000 / 1e6, 0.0)
    on_way = (Unanswered(link_bytes=20_000, sent_at=4.0),)
    before, after = (
        frames.recheck(estimator.outlook(InFlight(at=at, frames=on_way)), 4.15, 2) for at in (4.001, 4.098)
    )
    assert before is not None
    assert after is not None
    assert after.index < before.index


def test_what_is_worth_little_beside_an_exit_is_sent_where_that_is_all_there_is() -> None:
    choices = [Choice(width=1, bits=4, link_bytes=100, accuracy=LOCAL + 0.001)]
    assert WholeFrames(choices, LOCAL).choose(sharp(1e6, is_idle=False), 1.0) is not None
