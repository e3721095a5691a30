"""Shape letters: C channels, P places of one map."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.interlace import PASSES, passes

SIDES = st.integers(1, 23)
relaxed = settings(deadline=None)


@relaxed
@given(height=SIDES, width=SIDES)
def test_every_place_is_coded_once(height: int, width: int) -> None:
    order = [one.places_N for one in passes(height, width)]
    assert len(order) == PASSES
    assert sorted(np.concatenate(order)) == list(range(height * width))


@relaxed
@given(height=SIDES, width=SIDES)
def test_neighbours_are_coded_in_earlier_passes(height: int, width: int) -> None:
    first, *others = passes(height, width)
    assert first.neighbours_4N is None
    known = set(first.places_N.tolist())
    for one in others:
        assert one.neighbours_4N is not None
        assert set(one.neighbours_4N.reshape(-1).tolist()) <= known
        known |= set(one.places_N.tolist())


def test_neighbours_lie_on_all_four_sides() -> None:
    """Place 6 x 6 + 6 of a 13 x 13 map comes amid its diagonals at step 2, 5 x 5 at step 1, 5 x 6 directly."""
    for index, (row, column), offsets in (
        (1, (6, 6), [-28, -24, 24, 28]),
        (3, (5, 5), [-14, -12, 12, 14]),
        (4, (5, 6), [-13, -1, 1, 13]),
    ):
        one, place = passes(13, 13)[index], row * 13 + column
        (at,) = np.flatnonzero(one.places_N == place)
        assert one.neighbours_4N is not None
        assert sorted(one.neighbours_4N[:, at] - place) == offsets


def test_only_a_sixteenth_is_coded_without_neighbours() -> None:
    assert len(passes(16, 32)[0].places_N) * 16 == 16 * 32
