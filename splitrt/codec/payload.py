"""Symbols to a frame's payload and back, and the checksum that guards both.

Shape letters: C channels, H W space.
`packed` is the bit-packed symbols as they are, `zstd` the same bytes compressed; the encoder takes the
smaller. `jpeg` marks a payload that is a photograph for the whole model (no bottleneck at all): its
pixels are decoded beside the model, not here. Both sides know shape and bits, so neither travels.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import google_crc32c
import numpy as np
import numpy.typing as npt

from splitrt.codec import bitpack, zstd
from splitrt.errors import BadFrame, IntegrityError

UInt8 = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]


class Codec(IntEnum):
    """How a payload's bytes are made; the numbers are those on the wire."""

    PACKED = 1
    ZSTD = 2
    JPEG = 3


def encode(symbols_CHW: UInt8, bits: int) -> tuple[Codec, bytes]:
    """The smaller of packed and zstd over packed."""
    packed = bitpack.pack(symbols_CHW, bits)
    squeezed = zstd.compress(packed)
    return (Codec.ZSTD, squeezed) if len(squeezed) < len(packed) else (Codec.PACKED, packed)


def decode(codec: Codec, payload: bytes, shape_CHW: Shape, bits: int) -> UInt8:
    """Exactly the symbols that were encoded. Raises BadFrame on any other bytes."""
    count = shape_CHW[0] * shape_CHW[1] * shape_CHW[2]
    if codec is Codec.ZSTD:
        payload = zstd.decompress(payload, bitpack.packed_bytes(count, bits))
    elif codec is not Codec.PACKED:
        raise BadFrame(f"symbols come as packed or zstd, got {codec.name.lower()}", reason="codec")
    return bitpack.unpack(payload, count, bits).reshape(shape_CHW)


_HEADER = struct.Struct("<IHBBB")


def checksum(seq: int, width: int, bits: int, codec: Codec, index: int, payload: bytes) -> int:
    """CRC-32C of a chunk and of the header it belongs to, so that bytes under another frame's number fail too."""
    header = _HEADER.pack(seq & 0xFFFFFFFF, width, bits, codec, index)
    crc: int = google_crc32c.extend(google_crc32c.value(header), payload)
    return crc


def check(expected: int, actual: int) -> None:
    """Raises IntegrityError where two checksums differ."""
    if expected != actual:
        raise IntegrityError(f"checksum must be {actual:08x} for these bytes, got {expected:08x}")
