from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec_maps import CHANNELS, PRIORS
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.entropy import TOTAL
from splitrt.codec.prior import from_arrays
from splitrt.codec.quantise import Ranges
from splitrt.codec.tables import Tables, load_tables
from splitrt.errors import BundleError, ConfigError, WidthUnsupported

relaxed = settings(deadline=None)


def ranges(low: list[float], high: list[float]) -> Ranges:
    return Ranges(low_C=np.array(low, np.float32), high_C=np.array(high, np.float32))


def tables() -> Tables:
    """Ranges at 2 and 4 bits, a prior at 2 only."""
    return Tables(
        ranges={2: ranges([-1, 0, 0] * 3, [1, 0.1, 3] * 3), 4: ranges([-2, 0, 0] * 3, [2, 0.1, 3] * 3)},
        priors={2: PRIORS[2]},
    )


def from_file(arrays: dict[str, Any], folder: Path) -> Tables:
    np.savez(folder / "tables.npz", **arrays)
    return load_tables(folder / "tables.npz")


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    some = tables()
    some.save(tmp_path / "tables.npz")
    loaded = load_tables(tmp_path / "tables.npz")
    for name, array in some.to_arrays().items():
        np.testing.assert_array_equal(loaded.to_arrays()[name], array)
    assert loaded.digest() == some.digest()
    assert loaded.channels == CHANNELS


def test_zipping_the_file_again_does_not_change_the_digest(tmp_path: Path) -> None:
    assert from_file(tables().to_arrays(), tmp_path).digest() == tables().digest()


def test_every_bit_depth_has_its_own_ranges_and_perhaps_a_prior() -> None:
    some = tables()
    assert some.ranges_at(4).high_C[0] == 2 * some.ranges_at(2).high_C[0]
    assert some.prior_at(2) is PRIORS[2]
    assert some.prior_at(4) is None


@pytest.mark.parametrize("ask", [Tables.ranges_at, Tables.prior_at])
def test_unknown_bits_are_refused_with_the_known_ones(ask: Callable[[Tables, int], object]) -> None:
    with pytest.raises(WidthUnsupported, match=r"one of \[2, 4\], got 3"):
        ask(tables(), 3)


@relaxed
@given(data=st.data())
def test_another_value_anywhere_is_another_digest(data: st.DataObject) -> None:
    """Also of arrays that no sound tables can hold: only the digest is asked."""
    some = tables()
    name = data.draw(st.sampled_from(sorted(some.to_arrays())))
    before, array = some.digest(), some.to_arrays()[name]
    array = array.copy()
    place = data.draw(st.integers(0, array.size - 1))
    array.reshape(-1)[place : place + 1] += 1  # may wrap round
    bits, field = int(name[4]), name.rpartition("range_")[2] if "range_" in name else name.partition("prior_")[2]
    owner = some.ranges[bits] if "range_" in name else from_arrays(some.to_arrays(), f"bits{bits}_prior_")
    object.__setattr__(owner, field, array)
    changed = Tables(ranges=some.ranges, priors=some.priors if "range_" in name else {bits: owner})  # type: ignore[dict-item]
    assert changed.digest() != before


def test_other_bits_one_channel_more_or_no_prior_is_another_digest() -> None:
    one = ranges([0], [1])
    several = [
        Tables(ranges={2: one}, priors={}),
        Tables(ranges={3: one}, priors={}),
        Tables(ranges={2: one, 3: one}, priors={}),
        Tables(ranges={2: ranges([0, 0], [1, 1])}, priors={}),
        tables(),
        Tables(ranges=tables().ranges, priors={}),
    ]
    assert len({some.digest() for some in several}) == len(several)


def test_the_digest_is_the_same_on_every_machine() -> None:
    """It goes over the wire: a change of this value is a change of the protocol."""
    wanted = "894e5ef8a81dbf2b317667b66568336583cf43e25a55cfda294fca7116b87916"
    assert Tables(ranges={4: ranges([-1, -1], [1, 1])}, priors={}).digest().hex() == wanted


@pytest.mark.parametrize(
    ("some", "priors"),
    [
        ({}, {}),
        ({9: ranges([0], [1])}, {}),
        ({2: ranges([0], [1]), 3: ranges([0, 0], [1, 1])}, {}),
        ({4: ranges([0] * 3, [1] * 3)}, {2: PRIORS[2]}),
        ({4: ranges([0] * 3, [1] * 3)}, {4: PRIORS[2]}),
        ({2: ranges([0], [1])}, {2: PRIORS[2]}),
    ],
    ids=["none", "9 bits", "channels differ", "prior without ranges", "prior of other bits", "prior of other channels"],
)
def test_parts_that_do_not_fit_together_are_refused(some: dict[int, Ranges], priors: dict[int, Any]) -> None:
    with pytest.raises(ConfigError):
        Tables(ranges=some, priors=priors)


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
    with pytest.raises(BundleError, match=r"tables\.npz"):
        from_file({"bits2_range_low_C": low, "bits2_range_high_C": high}, tmp_path)


@pytest.mark.parametrize("name", sorted(tables().to_arrays()))
def test_a_missing_array_is_refused(tmp_path: Path, name: str) -> None:
    arrays = tables().to_arrays()
    del arrays[name]
    with pytest.raises(BundleError, match=r"tables\.npz"):
        from_file(arrays, tmp_path)


def test_an_array_that_the_digest_would_not_cover_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="got range_low"):
        from_file(tables().to_arrays() | {"range_low": np.zeros(3, np.float32)}, tmp_path)


@relaxed
@given(data=st.data())
def test_damage_to_a_prior_is_refused_or_is_another_sound_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    arrays = tables().to_arrays()
    name = data.draw(st.sampled_from([name for name in sorted(arrays) if "prior" in name]))
    arrays[name] = array = arrays[name].copy()
    array.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = data.draw(st.integers(0, np.iinfo(array.dtype).max))
    try:
        loaded = from_file(arrays, tmp_path_factory.getbasetemp())
    except BundleError:
        return
    prior = loaded.prior_at(2)
    assert prior is not None
    assert (prior.rows_RA.sum(axis=1, dtype=np.int64) == TOTAL).all()
