"""The audit: silent while the promise is kept, heard when it is not, the same for the same frames."""

from __future__ import annotations

import numpy as np
import pytest

from splitrt.errors import ConfigError
from splitrt.policy.audit import Audit

BOUND, DELTA = 0.03, 0.1


def served(audit: Audit, risk: float, frames: int, seed: int, exit_share: float = 0.8) -> int | None:
    """Frames of which `risk` exit and are answered otherwise; returns the frame of the first alarm."""
    draws = np.random.default_rng(seed)
    for place, (exits, other) in enumerate(draws.random((frames, 2))):
        is_exit = exits < exit_share
        if audit.draw(is_exit) and audit.observe(other < risk / exit_share):
            return place
    return None


def test_alarms_while_the_bound_holds_are_rarer_than_delta() -> None:
    alarms = [served(Audit(BOUND, DELTA, 0.2, seed), BOUND, 4_000, seed) for seed in range(60)]
    assert sum(alarm is not None for alarm in alarms) <= DELTA * 60


@pytest.mark.parametrize("share", [0.05, 0.2, 1.0])
def test_a_risk_of_three_times_the_bound_is_found(share: float) -> None:
    found = [served(Audit(BOUND, DELTA, share, seed), 3 * BOUND, round(900 / share), seed) for seed in range(10)]
    assert sum(place is not None for place in found) >= 9


def test_the_estimate_is_of_all_frames_whatever_share_is_audited() -> None:
    audit = Audit(1.0, DELTA, 0.3, 5)
    served(audit, 0.05, 20_000, 5)
    assert audit.risk == pytest.approx(0.05, abs=0.01)
    assert audit.audited == pytest.approx(0.3 * audit.exits, rel=0.05)
    assert audit.exits / audit.frames == pytest.approx(0.8, abs=0.02)
    assert 0.03 < audit.risk_low < 0.05


def test_the_lower_bound_holds_at_every_moment() -> None:
    broken = 0
    for seed in range(30):
        audit, draws = Audit(1.0, DELTA, 0.5, seed), np.random.default_rng(seed)
        for _ in range(20):
            served(audit, 0.04, 50, int(draws.integers(1 << 30)))
            if audit.risk_low > 0.04:
                broken += 1
                break
    assert broken <= DELTA * 30


def test_every_alarm_asks_for_more_confidence_and_begins_anew() -> None:
    audit = Audit(BOUND, DELTA, 1.0)
    thresholds = [audit.tightened(0.7)]
    while audit.alarms < 3:
        if audit.draw(True):
            audit.observe(True)
        if audit.alarms == len(thresholds):
            thresholds.append(audit.tightened(0.7))
            assert audit.risk_low == 0
    assert thresholds[0] == 0.7
    assert thresholds[1] == pytest.approx(0.875)  # three times the odds
    assert sorted(thresholds) == thresholds
    assert audit.tightened(1.01) == 1.01
    assert 0 < audit.tightened(0.0) < 1


def test_the_same_seed_audits_the_same_frames_and_another_does_not() -> None:
    def draws(seed: int) -> list[bool]:
        audit = Audit(BOUND, DELTA, 0.3, seed)
        return [audit.draw(True) for _ in range(100)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)


def test_a_frame_that_cannot_be_sent_is_not_audited_and_changes_no_later_draw() -> None:
    one, other = Audit(BOUND, DELTA, 0.5, 3), Audit(BOUND, DELTA, 0.5, 3)
    assert not any(one.draw(True, can_send=False) for _ in range(50))
    for _ in range(50):
        other.draw(True)
    assert [one.draw(True) for _ in range(20)] == [other.draw(True) for _ in range(20)]
    assert one.audited < other.audited


def test_a_stream_without_exits_or_without_audit_has_no_risk_and_no_alarm() -> None:
    for audit, is_exit in ((Audit(BOUND, DELTA, 0.5), False), (Audit(BOUND, DELTA, 0.0), True)):
        assert not any(audit.draw(is_exit) for _ in range(500))
        assert (audit.risk, audit.risk_low, audit.alarms) == (0, 0, 0)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="audit_share must be from 0 to 1"):
        Audit(BOUND, DELTA, share)
