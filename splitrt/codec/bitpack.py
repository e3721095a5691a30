"""Symbols of 1 to 8 bits, packed without gaps, first symbol in the lowest bits of the first byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitrt.errors import BadFrame

UInt8 = npt.NDArray[np.uint8]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` symbols take."""
    return (count * bits + 7) // 8


def pack(symbols: UInt8, bits: int) -> bytes:
    """Any shape, values below 2**bits -> bytes in C order; unused bits of the last byte are zero."""
    flat = np.ascontiguousarray(symbols).reshape(-1)
    if bits == 8:
        return flat.tobytes()
    if 8 % bits:
        each = np.unpackbits(flat[:, None], axis=1, count=bits, bitorder="little")
        return np.packbits(each, bitorder="little").tobytes()
    # Whole symbols a byte: several times faster than one bit at a time.
    per_byte = 8 // bits
    rest = -len(flat) % per_byte
    if rest:
        flat = np.concatenate([flat, np.zeros(rest, np.uint8)])
    lanes = flat.reshape(-1, per_byte)
    packed = lanes[:, 0].copy()
    for lane in range(1, per_byte):
        packed |= lanes[:, lane] << np.uint8(lane * bits)
    return packed.tobytes()


def unpack(packed: bytes, count: int, bits: int) -> UInt8:
    """`count` symbols as a flat array. Raises BadFrame on another length or on bits set past the end."""
    wanted = packed_bytes(count, bits)
    if len(packed) != wanted:
        raise BadFrame(f"{count} symbols of {bits} bits must take {wanted} bytes, got {len(packed)}", reason="length")
    data = np.frombuffer(packed, np.uint8)
    if bits == 8:
        return data
    flat, rest = _across_bytes(data, count, bits) if 8 % bits else _within_bytes(data, count, bits)
    if rest.any():
        raise BadFrame("bits past the last symbol must be zero", reason="trailing")
    return flat


def _within_bytes(data: UInt8, count: int, bits: int) -> tuple[UInt8, UInt8]:
    per_byte, mask = 8 // bits, np.uint8(2**bits - 1)
    lanes = np.empty((len(data), per_byte), np.uint8)
    for lane in range(per_byte):
        np.bitwise_and(data >> np.uint8(lane * bits), mask, out=lanes[:, lane])
    flat = lanes.reshape(-1)
    return flat[:count], flat[count:]


def _across_bytes(data: UInt8, count: int, bits: int) -> tuple[UInt8, UInt8]:
    each = np.unpackbits(data, bitorder="little")
    symbols = np.packbits(each[: count * bits].reshape(count, bits), axis=1, bitorder="little")
    return symbols.reshape(-1), each[count * bits :]
