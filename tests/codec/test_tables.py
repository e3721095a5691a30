from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.quantise import Ranges
from splitrt.codec.tables import Tables, load_tables
from splitrt.errors import BundleError

relaxed = settings(deadline=None)


def tables(low: list[float], high: list[float]) -> Tables:
    return Tables(ranges=Ranges(low_C=np.array(low, np.float32), high_C=np.array(high, np.float32)))


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    some = tables([-1, 0], [1, 0.1])
    some.save(tmp_path / "tables.npz")
    loaded = load_tables(tmp_path / "tables.npz")
    np.testing.assert_array_equal(loaded.ranges.low_C, some.ranges.low_C)
    np.testing.assert_array_equal(loaded.ranges.high_C, some.ranges.high_C)
    assert loaded.digest() == some.digest()


def test_compressing_the_file_again_does_not_change_the_digest(tmp_path: Path) -> None:
    some = tables([-1, 0], [1, 0.1])
    np.savez_compressed(tmp_path / "tables.npz", range_high=some.ranges.high_C, range_low=some.ranges.low_C)
    assert load_tables(tmp_path / "tables.npz").digest() == some.digest()


@relaxed
@given(
    ends=st.lists(st.tuples(st.floats(-9, 0, width=32), st.floats(0, 9, width=32)), min_size=1, max_size=5),
    data=st.data(),
)
def test_another_value_anywhere_is_another_digest(ends: list[tuple[float, float]], data: st.DataObject) -> None:
    low, high = [list(side) for side in zip(*ends, strict=True)]
    first = tables(low, high).digest()
    place, side = data.draw(st.integers(0, len(ends) - 1)), data.draw(st.sampled_from([low, high]))
    side[place] += -16 if side is low else 16
    assert tables(low, high).digest() != first


def test_one_channel_more_is_another_digest() -> None:
    assert tables([0, 0], [0, 0]).digest() != tables([0], [0]).digest()


def test_the_digest_is_the_same_on_every_machine() -> None:
    """It goes over the wire: a change of this value is a change of the protocol."""
    wanted = "2ad432073da67325f86d15d8f98b6655e21b16c3946b3d48ae25ef6448f84b06"
    assert tables([-1, -1], [1, 1]).digest().hex() == wanted


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (np.ones(2, np.float32), np.zeros(2, np.float32)),
        (np.zeros(2), np.ones(2)),
        (np.zeros(2, np.float32), np.ones(3, np.float32)),
        (np.full(2, np.nan, np.float32), np.ones(2, np.float32)),
        (np.array([None]), np.array([None])),
    ],
    ids=["inverted", "float64", "lengths differ", "NaN", "pickled objects"],
)
def test_ranges_that_cannot_be_are_refused(tmp_path: Path, low: object, high: object) -> None:
    np.savez(tmp_path / "tables.npz", range_low=low, range_high=high)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=r"tables\.npz"):
        load_tables(tmp_path / "tables.npz")


def test_a_missing_array_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "tables.npz", range_low=np.zeros(2, np.float32))
    with pytest.raises(BundleError, match="range_high"):
        load_tables(tmp_path / "tables.npz")
