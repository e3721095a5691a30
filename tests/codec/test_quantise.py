"""Shape letters: C channels, H W space."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.quantise import BITS, MAX_RANGE, Ranges, dequantise, quantise
from splitrt.errors import ConfigError, InvalidInput

Float32 = npt.NDArray[np.float32]
FLOATS = st.floats(-MAX_RANGE / 2, MAX_RANGE / 2, width=32, allow_subnormal=True)
relaxed = settings(deadline=None)


def ranges(*pairs: tuple[float, float]) -> Ranges:
    low, high = zip(*pairs, strict=True)
    return Ranges(low_C=np.array(low, np.float32), high_C=np.array(high, np.float32))


def values(*rows: list[float]) -> Float32:
    """Each row a channel of height 1."""
    return np.array(rows, np.float32)[:, None, :]


@st.composite
def wide_ranges(draw: st.DrawFn) -> Ranges:
    ends = draw(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=4))
    return ranges(*((min(pair), max(pair)) for pair in ends))


@relaxed
@given(some=wide_ranges(), bits=st.sampled_from(BITS), data=st.data())
def test_a_value_inside_the_range_comes_back_within_half_a_step(some: Ranges, bits: int, data: st.DataObject) -> None:
    shares = data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=6))
    low, high = some.low_C.astype(np.float64)[:, None], some.high_C.astype(np.float64)[:, None]
    z_CHW = np.clip(low + np.array(shares) * (high - low), low, high).astype(np.float32)[:, None, :]
    back_CHW = dequantise(quantise(z_CHW, some, bits), some, bits)
    half_step = (high - low) / (2**bits - 1) / 2
    rounding = 4 * np.spacing(np.maximum(np.abs(some.low_C), np.abs(some.high_C)))[:, None]
    constant = 2**bits * float(np.finfo(np.float32).tiny)  # narrower than this is a constant channel
    error = np.abs(back_CHW.astype(np.float64) - z_CHW)[:, 0, :]
    assert (error <= half_step * (1 + 1e-5) + rounding + constant).all()


@relaxed
@given(some=wide_ranges(), bits=st.sampled_from(BITS), beyond=FLOATS)
def test_a_value_beyond_the_range_saturates(some: Ranges, bits: int, beyond: float) -> None:
    z_CHW = np.full((some.channels, 1, 1), beyond, np.float32)
    inside_CHW = np.clip(z_CHW, some.low_C[:, None, None], some.high_C[:, None, None])
    np.testing.assert_array_equal(quantise(z_CHW, some, bits), quantise(inside_CHW, some, bits))


@relaxed
@given(some=wide_ranges(), bits=st.sampled_from(BITS), pair=st.tuples(FLOATS, FLOATS))
def test_a_larger_value_never_gets_a_smaller_symbol(some: Ranges, bits: int, pair: tuple[float, float]) -> None:
    z_CHW = np.tile(np.array(sorted(pair), np.float32), (some.channels, 1, 1))
    symbols = quantise(z_CHW, some, bits)
    assert (symbols[..., 0] <= symbols[..., 1]).all()


@pytest.mark.parametrize("bits", BITS)
def test_every_symbol_comes_back_as_itself(bits: int) -> None:
    some = ranges((-1, 1), (1000, 1001), (0, 1e-30), (-5, -4.5))
    symbols = np.tile(np.arange(2**bits, dtype=np.uint8), (4, 1, 1))
    np.testing.assert_array_equal(quantise(dequantise(symbols, some, bits), some, bits), symbols)


@pytest.mark.parametrize("bits", BITS)
def test_infinities_saturate(bits: int) -> None:
    symbols = quantise(values([-math.inf, math.inf], [math.inf, -math.inf]), ranges((-1, 1), (2, 3)), bits)
    assert symbols.tolist() == [[[0, 2**bits - 1]], [[2**bits - 1, 0]]]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("far", [1.0, 1000.0, -3e7])
def test_the_top_of_a_narrow_range_far_from_zero_is_the_last_symbol(far: float, bits: int) -> None:
    top = float(np.nextafter(np.float32(far), np.float32(math.inf)))
    some = ranges((far, top))
    symbols = quantise(values([far, top]), some, bits)
    assert symbols.tolist() == [[[0, 2**bits - 1]]]
    assert dequantise(symbols, some, bits)[0, 0, 1] == pytest.approx(top, rel=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_a_constant_channel_is_symbol_zero_and_comes_back_as_its_value(bits: int) -> None:
    some = ranges((0.25, 0.25), (-1, 1))
    symbols = quantise(values([-math.inf, 0.25, 9], [1, 1, 1]), some, bits)
    assert symbols[0].tolist() == [[0, 0, 0]]
    assert (dequantise(symbols, some, bits)[0] == 0.25).all()


def test_a_range_too_narrow_to_count_in_is_constant() -> None:
    some = ranges((0, 3e-43))
    assert quantise(values([0, 3e-43, 1]), some, 8).tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize("bits", BITS)
def test_the_widest_range_does_not_overflow(bits: int) -> None:
    widest = float(np.float32(MAX_RANGE / 2))
    some = ranges((-widest, widest))
    symbols = quantise(values([-math.inf, -widest, widest, math.inf]), some, bits)
    assert symbols.tolist() == [[[0, 0, 2**bits - 1, 2**bits - 1]]]
    assert np.isfinite(dequantise(symbols, some, bits)).all()


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 3), (2, 3, 4)])
@pytest.mark.parametrize("others", [0.5, math.inf, -math.inf])
def test_one_nan_anywhere_is_refused(place: tuple[int, int, int], others: float) -> None:
    z_CHW = np.full((3, 4, 5), others, np.float32)
    z_CHW[place] = math.nan
    with pytest.raises(InvalidInput, match="NaN"):
        quantise(z_CHW, ranges((-1, 1), (0, 0), (-1, 1)), 8)


@pytest.mark.parametrize("shape", [(1, 0, 4), (2, 4, 0), (1, 0, 0)])
def test_an_empty_map_gives_no_symbols(shape: tuple[int, int, int]) -> None:
    some = ranges((-1, 1), (-1, 1))
    symbols = quantise(np.empty(shape, np.float32), some, 4)
    assert symbols.shape == shape
    assert dequantise(symbols, some, 4).shape == shape


@pytest.mark.parametrize(
    "z_CHW",
    [
        np.zeros((1, 2, 2), np.float64),
        np.zeros((1, 2, 2), ">f4"),
        np.zeros((1, 2, 2), np.int32),
        np.zeros((1, 2, 2), object),
        np.zeros((2, 2), np.float32),
        np.zeros((1, 1, 2, 2), np.float32),
        np.zeros((0, 2, 2), np.float32),
        np.zeros((3, 2, 2), np.float32),
    ],
    ids=["float64", "big-endian", "int32", "object", "rank-2", "rank-4", "no-channel", "too-many-channels"],
)
def test_what_is_no_bottleneck_is_refused_before_anything_is_computed(z_CHW: Float32) -> None:
    with pytest.raises(InvalidInput, match=r"bottleneck must be float32 \(1\.\.2, H, W\)"):
        quantise(z_CHW, ranges((-1, 1), (-1, 1)), 8)


@pytest.mark.parametrize("bits", [-1, 0, 9, 16])
def test_other_bits_are_refused_both_ways(bits: int) -> None:
    with pytest.raises(InvalidInput, match=f"bits must be one of .* got {bits}"):
        quantise(values([0]), ranges((-1, 1)), bits)
    with pytest.raises(InvalidInput, match="bits"):
        dequantise(np.zeros((1, 1, 1), np.uint8), ranges((-1, 1)), bits)


def test_channels_not_given_do_not_change_those_given() -> None:
    some = ranges((-1, 1), (0, 2), (5, 6))
    z_CHW = np.random.default_rng(0).uniform(-2, 7, (3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(quantise(z_CHW[:2], some, 8), quantise(z_CHW, some, 8)[:2])


def test_a_view_that_is_not_contiguous_gives_the_same_symbols() -> None:
    z_CHW = np.random.default_rng(0).uniform(-1, 1, (4, 6, 2)).astype(np.float32).transpose(2, 1, 0)
    some = ranges((-1, 1), (-1, 1))
    np.testing.assert_array_equal(quantise(z_CHW, some, 8), quantise(np.ascontiguousarray(z_CHW), some, 8))


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        ([0.0], [-1.0], "low <= high"),
        ([math.nan], [1.0], "finite"),
        ([0.0], [math.inf], "finite"),
        ([-3e38], [3e38], "wide"),
        ([0.0], [1.0, 2.0], "one length"),
        ([[0.0]], [[1.0]], "vectors"),
    ],
)
def test_ranges_that_cannot_be_are_refused(low: list[float], high: list[float], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Ranges(low_C=np.array(low, np.float32), high_C=np.array(high, np.float32))


def test_ranges_of_another_dtype_are_refused() -> None:
    with pytest.raises(ConfigError, match="float64"):
        Ranges(low_C=np.zeros(2), high_C=np.ones(2))  # type: ignore[arg-type]
