"""Plain tensors as bytes: a dtype from a closed list, a shape, and exactly the bytes those two imply."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.errors import InvalidInput

MAX_RANK = 8
MAX_TENSOR_BYTES = 64 << 20


class DType(IntEnum):
    """Element types, little-endian; the numbers are those on the wire."""

    FLOAT32 = 1
    FLOAT16 = 2
    INT64 = 3
    INT32 = 4
    UINT8 = 5


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.INT64: np.dtype("<i8"),
    DType.INT32: np.dtype("<i4"),
    DType.UINT8: np.dtype("u1"),
}
_OURS = {dtype: ours for ours, dtype in _NUMPY.items()}


def to_bytes(array: npt.NDArray[Any]) -> tuple[DType, tuple[int, ...], bytes]:
    """dtype, shape and little-endian C-order bytes. Raises InvalidInput on a dtype that is not on the list."""
    ours = _OURS.get(array.dtype.newbyteorder("<"))
    if ours is None:
        wanted = ", ".join(str(dtype) for dtype in _OURS)
        raise InvalidInput(f"dtype must be one of {wanted}, got {array.dtype}")
    if array.ndim > MAX_RANK or 0 in array.shape:
        raise InvalidInput(f"shape must have 1 to {MAX_RANK} sizes above 0, got {array.shape}")
    return ours, array.shape, np.ascontiguousarray(array, _NUMPY[ours]).tobytes()


def from_bytes(dtype: int, shape: Sequence[int], data: bytes) -> npt.NDArray[Any]:
    """The array that was sent, read-only over `data`. Raises InvalidInput before anything is allocated."""
    try:
        numpy_dtype = _NUMPY[DType(dtype)]
    except ValueError:
        raise InvalidInput(f"dtype must be one of {[d.value for d in DType]}, got {dtype}") from None
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"shape must have at most {MAX_RANK} sizes, got {len(shape)}")
    count = 1
    for size in shape:  # Python integers: the product cannot overflow
        if not 1 <= size <= MAX_TENSOR_BYTES:
            raise InvalidInput(f"sizes must be 1 to {MAX_TENSOR_BYTES}, got {size} in {tuple(shape)}")
        count *= size
    wanted = count * numpy_dtype.itemsize
    if wanted > MAX_TENSOR_BYTES:
        raise InvalidInput(f"a tensor must be at most {MAX_TENSOR_BYTES} bytes, {tuple(shape)} is {wanted}")
    if len(data) != wanted:
        raise InvalidInput(f"{numpy_dtype} {tuple(shape)} must be {wanted} bytes, got {len(data)}")
    return np.frombuffer(data, numpy_dtype).reshape(shape)
