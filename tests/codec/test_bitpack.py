from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitrt.codec.bitpack import UInt8, pack, packed_bytes, unpack
from splitrt.errors import BadFrame

BITS = st.integers(1, 8)
relaxed = settings(deadline=None)


@st.composite
def symbols_and_bits(draw: st.DrawFn) -> tuple[UInt8, int]:
    bits = draw(BITS)
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=7))
    return draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1))), bits


@relaxed
@given(symbols_and_bits())
def test_what_is_unpacked_is_what_was_packed(one: tuple[UInt8, int]) -> None:
    symbols, bits = one
    packed = pack(symbols, bits)
    assert len(packed) == packed_bytes(symbols.size, bits)
    np.testing.assert_array_equal(unpack(packed, symbols.size, bits).reshape(symbols.shape), symbols)


@relaxed
@given(symbols_and_bits())
def test_a_transposed_view_is_packed_in_its_own_order(one: tuple[UInt8, int]) -> None:
    symbols, bits = one
    assert pack(symbols.T, bits) == pack(np.ascontiguousarray(symbols.T), bits)


@relaxed
@given(data=st.binary(max_size=20), count=st.integers(0, 100), bits=BITS)
def test_any_bytes_unpack_to_what_packs_to_the_same_bytes_or_are_refused(data: bytes, count: int, bits: int) -> None:
    try:
        symbols = unpack(data, count, bits)
    except BadFrame:
        return
    assert symbols.shape == (count,)
    assert pack(symbols, bits) == data


@pytest.mark.parametrize(
    ("bits", "wire"),
    [
        (2, bytes([0b11_10_01_00, 0b01])),
        (3, bytes([0b10_001_000, 0b0_001_011_0])),
        (4, bytes([0x10, 0x32, 0x01])),
        (7, bytes([0b1_0000000, 0b10_000000, 0b011_00000, 0b0001_0000, 0b00000_000])),
        (8, bytes([0, 1, 2, 3, 1])),
    ],
)
def test_the_first_symbol_lies_in_the_lowest_bits(bits: int, wire: bytes) -> None:
    assert pack(np.array([0, 1, 2, 3, 1], np.uint8), bits) == wire


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("difference", [-1, 1])
def test_one_byte_too_few_or_too_many_is_refused(bits: int, difference: int) -> None:
    wanted = packed_bytes(9, bits)
    with pytest.raises(BadFrame, match=f"must take {wanted} bytes, got {wanted + difference}") as refusal:
        unpack(bytes(wanted + difference), 9, bits)
    assert refusal.value.reason == "length"


@pytest.mark.parametrize(("bits", "last"), [(1, 2), (2, 0b0100), (2, 0b1000_0000), (3, 2), (4, 0x10), (7, 0x40)])
def test_a_bit_set_past_the_last_symbol_is_refused(bits: int, last: int) -> None:
    with pytest.raises(BadFrame) as refusal:
        unpack(bytes([0, last]), 8 // bits + 1, bits)
    assert refusal.value.reason == "trailing"
