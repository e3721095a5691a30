"""Symbols to a frame's payload and back, and the checksum that guards both.

Shape letters: C channels, H W space.

    symbols ── bit-packed ─┬─ packed
                           └─ zstd            the encoder takes the smallest; all are
            ── a prior's ──┬─ factorised      decodable without any other frame (else: delta.py)
                           └─ context

`jpeg` marks a payload that is a photograph for the whole model (no bottleneck at all): its pixels are
decoded beside the model, not here. Both sides know shape, bits and prior, so none of them travels.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum

import google_crc32c
import numpy as np
import numpy.typing as npt

from splitrt.codec import bitpack, context, entropy, zstd
from splitrt.codec.prior import Prior
from splitrt.errors import BadFrame, IntegrityError, InvalidInput

UInt8 = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]


class Codec(IntEnum):
    """How a payload's bytes are made; the numbers are those on the wire."""

    PACKED = 1
    ZSTD = 2
    JPEG = 3
    FACTORISED = 4
    CONTEXT = 5
    DELTA = 6


_BATCHES = {
    Codec.FACTORISED: context.factorised,
    Codec.CONTEXT: context.contextual,
}


def encode(
    symbols_CHW: UInt8, bits: int, prior: Prior | None = None, before_CHW: UInt8 | None = None
) -> tuple[Codec, bytes]:
    """The smallest of packed, zstd over packed and, under a prior, factorised and context.

    before_CHW are the channels before these, where the decoder has them: all from the bottleneck's first.
    """
    packed = bitpack.pack(symbols_CHW, bits)
    codec, payload = min((Codec.PACKED, packed), (Codec.ZSTD, zstd.compress(packed)), key=_size)
    if prior is None:
        return codec, payload
    channels, height, width = symbols_CHW.shape
    _check_prior(prior, bits, before_CHW, (channels, height, width))
    models = prior.models
    ways = {way: batches(symbols_CHW, prior, before_CHW) for way, batches in _BATCHES.items()}
    costs = {way: models.ideal_bits(batches) for way, batches in ways.items()}
    cheapest = min(costs, key=lambda way: costs[way])
    if costs[cheapest] >= 8 * len(payload):
        return codec, payload
    return min((codec, payload), (cheapest, entropy.encode(models, ways[cheapest])), key=_size)


def encode_groups(
    symbols_CHW: UInt8, sizes: Sequence[int], bits: int, prior: Prior | None = None
) -> tuple[Codec, tuple[bytes, ...]]:
    """A payload for each group of that many channels, in order of priority, each decodable with those before it.

    A frame has one codec: that by which all of it together is smallest.
    """
    codec, _ = encode(symbols_CHW, bits, prior)
    payloads, start = [], 0
    for size in sizes:
        group_CHW, before_CHW = symbols_CHW[start : start + size], symbols_CHW[:start]
        packed = bitpack.pack(group_CHW, bits)
        if prior is not None and codec in _BATCHES:
            payloads.append(entropy.encode(prior.models, _BATCHES[codec](group_CHW, prior, before_CHW)))
        else:
            payloads.append(zstd.compress(packed) if codec is Codec.ZSTD else packed)
        start += size
    return codec, tuple(payloads)


def decode(
    codec: Codec,
    payload: bytes,
    shape_CHW: Shape,
    bits: int,
    prior: Prior | None = None,
    before_CHW: UInt8 | None = None,
) -> UInt8:
    """The symbols that were encoded, under the same `before_CHW`. Raises BadFrame without the prior they need.

    Bytes of another sender are BadFrame or other symbols in range: which they are is for the checksum to say.
    """
    count = shape_CHW[0] * shape_CHW[1] * shape_CHW[2]
    if codec is Codec.ZSTD:
        payload = zstd.decompress(payload, bitpack.packed_bytes(count, bits))
    elif codec in _BATCHES:
        checked = _check_prior(prior, bits, before_CHW, shape_CHW)
        read = context.decode_contextual if codec is Codec.CONTEXT else context.decode_factorised
        return read(payload, shape_CHW, checked, before_CHW)
    elif codec is not Codec.PACKED:
        raise BadFrame(
            f"symbols by themselves come as packed, zstd, factorised or context, got {codec.name.lower()}",
            reason="codec",
        )
    return bitpack.unpack(payload, count, bits).reshape(shape_CHW)


def ideal_bits(symbols_CHW: UInt8, prior: Prior, codec: Codec, before_CHW: UInt8 | None = None) -> float:
    """What no coder under this prior can beat, by FACTORISED or CONTEXT."""
    return prior.models.ideal_bits(_BATCHES[codec](symbols_CHW, prior, before_CHW))


def _size(way: tuple[Codec, bytes]) -> int:
    return len(way[1])


def _check_prior(prior: Prior | None, bits: int, before_CHW: UInt8 | None, shape_CHW: Shape) -> Prior:
    first = 0 if before_CHW is None else len(before_CHW)
    last = first + shape_CHW[0] - 1
    if prior is None or prior.bits != bits or last >= prior.channels:
        had = "none" if prior is None else f"{prior.bits} bits, {prior.channels} channels"
        raise BadFrame(
            f"prior must be of {bits} bits and have channels {first} to {last}, got {had}",
            reason="tables",
        )
    if before_CHW is not None and before_CHW.shape[1:] != shape_CHW[1:]:
        raise InvalidInput(f"channels before must be of {shape_CHW[1:]} places, got {before_CHW.shape[1:]}")
    return prior


_HEADER = struct.Struct("<IHBBBB")


def checksum(seq: int, width: int, bits: int, codec: Codec, index: int, payload: bytes, back: int = 0) -> int:
    """CRC-32C of the frame's message `index` and of its header, so that bytes under another's number fail too."""
    header = _HEADER.pack(seq & 0xFFFFFFFF, width, bits, codec, index & 0xFF, back & 0xFF)
    crc: int = google_crc32c.extend(google_crc32c.value(header), payload)
    return crc


def check(expected: int, actual: int) -> None:
    """Raises IntegrityError where two checksums differ."""
    if expected != actual:
        raise IntegrityError(f"checksum must be {actual:08x} for these bytes, got {expected:08x}")
