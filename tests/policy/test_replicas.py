"""How many replicas a tail should have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.policy.replicas import BUSY_SHARE, STREAMS, WAIT_S, replicas_wanted

busy = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(busy)
def test_work_that_is_spread_over_the_wanted_number_keeps_each_at_most_as_busy_as_it_should_be(
    busy_shares: list[float],
) -> None:
    wanted = replicas_wanted(busy_shares, [0.0] * len(busy_shares), [0.0] * len(busy_shares))
    assert wanted >= 1
    assert sum(busy_shares) / wanted <= BUSY_SHARE + 1e-6 or wanted == 1
    assert wanted == 1 or sum(busy_shares) / (wanted - 1) > BUSY_SHARE - 1e-6, "one fewer would not do"


@given(busy, st.data())
def test_more_work_never_wants_fewer(busy_shares: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(busy_shares) - 1))
    more = [*busy_shares]
    more[place] = data.draw(st.floats(more[place], 1))
    idle = [0.0] * len(more)
    assert replicas_wanted(more, idle, idle) >= replicas_wanted(busy_shares, idle, idle)


def test_nobody_reporting_wants_one() -> None:
    assert replicas_wanted([], [], []) == 1


@pytest.mark.parametrize(
    ("waits_s", "streams", "wanted"),
    [
        ([WAIT_S / 2, WAIT_S / 2], [0, 0], 1),
        ([0.0, 2 * WAIT_S], [0, 0], 3),
        ([0.0, 0.0], [STREAMS, STREAMS], 2),
        ([0.0, 0.0], [STREAMS, STREAMS + 1], 3),
    ],
)
def test_waiting_and_open_texts_want_more(waits_s: list[float], streams: list[float], wanted: int) -> None:
    assert replicas_wanted([0.1, 0.1], waits_s, streams) == wanted
