from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitrt.codec.tensor import MAX_RANK, MAX_TENSOR_BYTES, DType, from_bytes, to_bytes
from splitrt.errors import InvalidInput

DTYPES = ["<f4", ">f4", "<f2", "<i8", ">i8", "<i4", "u1"]
ARRAYS = hnp.arrays(st.sampled_from(DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=8, max_side=3))
relaxed = settings(deadline=None)


@relaxed
@given(ARRAYS)
def test_what_arrives_is_what_was_sent(array: npt.NDArray[Any]) -> None:
    back = from_bytes(*to_bytes(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(back, array)  # NaN, infinities and denormals included


@relaxed
@given(ARRAYS)
def test_a_view_arrives_as_its_copy_would(array: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(from_bytes(*to_bytes(array.T)), array.T)


def test_nan_keeps_its_very_bits() -> None:
    odd = np.array([0x7FC00001, 0xFFFFFFFF, 0x00000001], "<u4").view("<f4")
    assert from_bytes(*to_bytes(odd)).tobytes() == odd.tobytes()


def test_the_wire_is_little_endian_and_in_c_order() -> None:
    dtype, shape, data = to_bytes(np.array([[1, 2], [3, 4]], ">i4").T)
    assert (dtype, shape) == (DType.INT32, (2, 2))
    assert data == bytes.fromhex("01000000 03000000 02000000 04000000")


@pytest.mark.parametrize("dtype", ["f8", "O", "U3", "M8[s]", "c8", "?", "u4", "V2", "f4,i4"])
def test_a_dtype_that_is_not_on_the_list_is_refused_by_the_sender(dtype: str) -> None:
    with pytest.raises(InvalidInput, match="dtype must be one of float32"):
        to_bytes(np.zeros(2, dtype))


@pytest.mark.parametrize("dtype", [0, -1, 6, 1 << 31])
def test_a_dtype_from_the_future_is_refused_by_the_receiver(dtype: int) -> None:
    with pytest.raises(InvalidInput, match=f"dtype must be one of .* got {dtype}"):
        from_bytes(dtype, (1,), b"\0\0\0\0")


@pytest.mark.parametrize(
    "shape",
    [
        (0,),
        (3, 0, 2),
        (-1,),
        (-2, -2),
        (1,) * (MAX_RANK + 1),
        (1 << 32, 1 << 32),
        (1 << 62, 4),
        (1 << 63,),
        (MAX_TENSOR_BYTES + 1,),
    ],
)
def test_a_shape_that_cannot_be_is_refused_before_anything_is_allocated(shape: tuple[int, ...]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            from_bytes(DType.FLOAT32, shape, b"\0" * 16)
        assert tracemalloc.get_traced_memory()[1] < 64 << 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(MAX_TENSOR_BYTES // 4 + 1,), (MAX_TENSOR_BYTES // 4, 2), (1 << 25,) * 8])
def test_a_tensor_over_the_cap_is_refused_as_such(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=f"must be at most {MAX_TENSOR_BYTES} bytes"):
        from_bytes(DType.FLOAT32, shape, b"\0" * 16)


@pytest.mark.parametrize("length", [0, 1, 23, 25, 48])
def test_bytes_that_are_not_dtype_times_shape_are_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match=rf"float32 \(2, 3\) must be 24 bytes, got {length}"):
        from_bytes(DType.FLOAT32, (2, 3), bytes(length))


@relaxed
@given(
    dtype=st.integers(-2, 8),
    shape=st.lists(st.integers(-(2**63), 2**63), max_size=10),
    data=st.binary(max_size=64),
)
def test_anything_off_the_wire_is_an_array_or_invalid_input(dtype: int, shape: list[int], data: bytes) -> None:
    try:
        array = from_bytes(dtype, shape, data)
    except InvalidInput:
        return
    assert array.tobytes() == data


def test_what_arrives_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        from_bytes(DType.UINT8, (2,), b"ab")[0] = 1
