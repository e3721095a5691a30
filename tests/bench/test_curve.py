"""The front of made rows, and what one front saves over another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.bench.curve import front, saved

ROWS = st.lists(
    st.builds(
        lambda cost, score: {"link_bytes": float(cost), "score": score / 10}, st.integers(1, 9), st.integers(0, 9)
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS)
def test_the_front_rises_and_no_row_beats_it(rows: list[dict[str, Any]]) -> None:
    best = front(rows)
    for cheap, dear in zip(best, best[1:], strict=False):
        assert cheap["link_bytes"] < dear["link_bytes"]
        assert cheap["score"] < dear["score"]
    for row in rows:
        assert any(one["link_bytes"] <= row["link_bytes"] and one["score"] >= row["score"] for one in best)


THEIRS = [{"score": score, "link_bytes": size} for score, size in ((0.6, 800.0), (0.7, 1600.0), (0.8, 4000.0))]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0, 2.0])
def test_that_share_of_the_bytes_at_every_score_saves_the_rest(share: float) -> None:
    ours = [row | {"link_bytes": share * row["link_bytes"]} for row in THEIRS]
    assert saved(ours, THEIRS) == pytest.approx(1 - share)


def test_only_scores_that_both_reach_count() -> None:
    ours = [{"score": 0.1, "link_bytes": 1.0}, *(row | {"link_bytes": row["link_bytes"] / 2} for row in THEIRS)]
    assert saved(ours, THEIRS) == pytest.approx(0.5)


def test_curves_that_share_no_score_save_nothing_that_can_be_said() -> None:
    assert saved([{"score": 0.5, "link_bytes": 1.0}], [{"score": 0.9, "link_bytes": 9.0}]) is None
