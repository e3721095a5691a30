from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.errors import ConfigError
from splitrt.policy.dial import GAIN, MissDial

relaxed = settings(deadline=None)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="most_misses must be in"):
        MissDial(share)


@relaxed
@given(st.lists(st.booleans(), max_size=300))
def test_the_margin_stays_in_bounds(hits: list[bool]) -> None:
    dial = MissDial(0.1)
    for is_hit in hits:
        dial.learn(is_hit)
        assert -1 <= dial.margin <= 1


@pytest.mark.parametrize("wanted", [0.05, 0.2, 0.5])
def test_the_miss_rate_is_held_whatever_the_link_makes_of_a_margin(wanted: float) -> None:
    """A frame misses more often at a small margin; how much more is unknown to the dial."""
    dial, draw, misses = MissDial(wanted), np.random.default_rng(0), list[bool]()
    for n in range(4_000):
        slack = dial.margin + (0.3 if n > 2_000 else 0.0)
        is_hit = bool(draw.random() < min(1.0, max(0.0, 0.5 + slack)))
        misses.append(not is_hit)
        dial.learn(is_hit)
    assert np.mean(misses) == pytest.approx(wanted, abs=2 / (GAIN * 4_000) + 0.01)


def test_a_margin_that_keeps_everything_here_fades() -> None:
    dial = MissDial(0.1)
    for _ in range(50):
        dial.learn(is_hit=False)
    assert dial.margin == 1
    dial.rest()
    assert dial.margin < 1
