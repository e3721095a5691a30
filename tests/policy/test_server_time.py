from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.server_time import ServerTime

relaxed = settings(deadline=None)


@relaxed
@given(st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 10)), max_size=40))
def test_what_is_believed_could_be_true(claims: list[tuple[float, float]]) -> None:
    server = ServerTime()
    for claim_s, waited_s in claims:
        assert 0 <= server.add(claim_s, waited_s) <= waited_s
        assert math.isfinite(server.mean_s)
        assert server.mean_s >= 0
        assert server.variance_s2 >= 0


@pytest.mark.parametrize("claim_s", [-1.0, -math.inf, math.nan, 1e9, math.inf])
def test_a_lie_is_counted(claim_s: float) -> None:
    server = ServerTime()
    server.add(claim_s, 0.1)
    assert server.lies == 1


def test_the_truth_is_not_counted() -> None:
    server = ServerTime()
    for _ in range(50):
        assert server.add(0.02, 0.1) == 0.02
    assert server.lies == 0
    assert server.mean_s == pytest.approx(0.02)
