"""Tensors of any shapes to one payload and back: what crosses a captured network's cut.

Shape letters: C channels, P places.
Both sides know every tensor's dtype, shape and order in memory from the manifest, so nothing of it travels: the payload
is their bytes one after the other, under zstd where that is smaller. At 32 bits a tensor crosses exactly, byte planes
apart (exponents compress, mantissas do not). At fewer, floating-point tensors are quantised channel by channel; whole
numbers and truth values always cross exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec import bitpack, zstd
from splitrt.codec.payload import Codec
from splitrt.codec.quantise import Ranges, dequantise, quantise
from splitrt.errors import BadFrame, InvalidInput

Array = npt.NDArray[Any]

EXACT = 32  # bits
MOST_CHANNELS = 4096  # of one tensor with ranges of their own
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "float64": np.dtype("<f8"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("bool"),
    "py_int": np.dtype("<i8"),  # numbers that a network reads from its data
    "py_float": np.dtype("<f8"),
    "py_bool": np.dtype("bool"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tensor of a seam. `order`: its dimensions from the slowest in memory to the fastest."""

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def axis(self) -> int | None:
        """Which dimension has ranges of its own: a map's channels, a token's features; None: one range for all."""
        if len(self.shape) < 2:
            return None
        # Of maps the second, as torch has it, unless that is clearly the shorter side (B H W C).
        is_map = len(self.shape) == 4 and self.shape[1] * 2 > self.shape[-1]
        axis = 1 if is_map else len(self.shape) - 1
        return axis if self.shape[axis] <= MOST_CHANNELS else None

    @property
    def channels(self) -> int:
        """Ranges that it has where it is quantised; 0: it never is."""
        if self.dtype != "float32":
            return 0
        return 1 if self.axis is None else self.shape[self.axis]

    def bytes_at(self, bits: int) -> int:
        if bits != EXACT and self.channels:
            return bitpack.packed_bytes(self.count, bits)
        return self.count * DTYPES[self.dtype].itemsize


def channels(parts: Sequence[Part]) -> int:
    """Ranges of all parts; one where none is quantised, since tables have at least one."""
    return max(1, sum(part.channels for part in parts))


def encode(tensors: Sequence[Array], parts: Sequence[Part], bits: int, ranges: Ranges | None) -> tuple[Codec, bytes]:
    """ranges: of all parts' channels, None at 32 bits. Raises InvalidInput on another shape or dtype, and on NaN."""
    packed = bytearray()
    for tensor, part, own in zip(tensors, parts, _own(parts, ranges), strict=True):
        if tensor.shape != part.shape or tensor.dtype != DTYPES[part.dtype]:
            raise InvalidInput(
                f"a seam's tensor must be {part.dtype} {part.shape}, got {tensor.dtype.name} {tensor.shape}"
            )
        if bits != EXACT and own is not None:
            packed += bitpack.pack(quantise(by_channel(tensor, part), own, bits), bits)
        else:
            packed += _planes(np.ascontiguousarray(tensor.transpose(part.order)))
    squeezed = zstd.compress(bytes(packed))
    return (Codec.ZSTD, squeezed) if len(squeezed) < len(packed) else (Codec.PACKED, bytes(packed))


def decode(codec: Codec, payload: bytes, parts: Sequence[Part], bits: int, ranges: Ranges | None) -> list[Array]:
    """The tensors, laid out in memory as they were. Raises BadFrame on bytes that are not theirs."""
    wanted = sum(part.bytes_at(bits) for part in parts)
    if codec is Codec.ZSTD:
        payload = zstd.decompress(payload, wanted)
    elif codec is not Codec.PACKED:
        raise BadFrame(f"a seam's tensors come as packed or zstd, got {codec.name.lower()}", reason="codec")
    if len(payload) != wanted:
        raise BadFrame(f"a seam's tensors must take {wanted} bytes, got {len(payload)}", reason="length")
    found, start = [], 0
    for part, own in zip(parts, _own(parts, ranges), strict=True):
        data = payload[start : start + part.bytes_at(bits)]
        start += len(data)
        found.append(_exact(data, part) if bits == EXACT or own is None else _coarse(data, part, bits, own))
    return found


def by_channel(tensor: Array, part: Part) -> Array:
    """(C, P, 1) of what is quantised: each row has a range of its own."""
    axis = part.axis
    if axis is None:
        return np.ascontiguousarray(tensor).reshape(1, -1, 1)
    return np.ascontiguousarray(np.moveaxis(tensor, axis, 0)).reshape(part.shape[axis], -1, 1)


def _own(parts: Sequence[Part], ranges: Ranges | None) -> list[Ranges | None]:
    """Each part's share of the ranges; None for one that always crosses exactly."""
    if ranges is None:
        return [None] * len(parts)
    own: list[Ranges | None] = []
    start = 0
    for part in parts:
        stop = start + part.channels
        is_coarse = stop > start
        own.append(Ranges(low_C=ranges.low_C[start:stop], high_C=ranges.high_C[start:stop]) if is_coarse else None)
        start = stop
    return own


def _planes(array: Array) -> bytes:
    """First bytes of all elements, then second ones, ..."""
    data = array.reshape(-1).view(np.uint8)
    return np.ascontiguousarray(data.reshape(-1, array.dtype.itemsize).T).tobytes()


def _exact(data: bytes, part: Part) -> Array:
    dtype = DTYPES[part.dtype]
    if dtype.kind == "b" and len(data) and max(data) > 1:
        raise BadFrame(f"truth values must be 0 or 1, got {max(data)}", reason="malformed")
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    array = np.ascontiguousarray(planes.T).reshape(-1).view(dtype)
    return _laid_out(array.reshape([part.shape[dim] for dim in part.order]), part)


def _coarse(data: bytes, part: Part, bits: int, own: Ranges) -> Array:
    symbols = bitpack.unpack(data, part.count, bits).reshape(own.channels, -1, 1)
    values = dequantise(symbols, own, bits)
    if part.axis is None:
        tensor = values.reshape(part.shape)
    else:
        rest = [size for dim, size in enumerate(part.shape) if dim != part.axis]
        tensor = np.moveaxis(values.reshape(own.channels, *rest), 0, part.axis)
    return _laid_out(np.ascontiguousarray(tensor.transpose(part.order)), part)


def _laid_out(array: Array, part: Part) -> Array:
    """An array whose dimensions are in the order of memory, seen in its own order."""
    return array.transpose(np.argsort(part.order)) if part.order else array.reshape(part.shape)
