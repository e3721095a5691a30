"""Shape letters: C channels, H W space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitrt.codec import bitpack
from splitrt.codec.payload import Codec, Shape, UInt8, check, checksum, decode, encode
from splitrt.errors import BadFrame, IntegrityError

BITS = st.sampled_from([2, 4, 8])
SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9))
relaxed = settings(deadline=None)


@st.composite
def symbols_and_bits(draw: st.DrawFn) -> tuple[UInt8, int]:
    bits = draw(BITS)
    most = draw(st.integers(0, 2**bits - 1))  # few symbols squeeze, many do not: both codecs are met
    return draw(hnp.arrays(np.uint8, draw(SHAPES), elements=st.integers(0, most))), bits


@relaxed
@given(symbols_and_bits())
def test_what_is_decoded_is_what_was_encoded(one: tuple[UInt8, int]) -> None:
    symbols, bits = one
    codec, payload = encode(symbols, bits)
    c, h, w = symbols.shape
    np.testing.assert_array_equal(decode(codec, payload, (c, h, w), bits), symbols)


@relaxed
@given(symbols_and_bits())
def test_zstd_is_chosen_only_where_it_is_smaller(one: tuple[UInt8, int]) -> None:
    symbols, bits = one
    codec, payload = encode(symbols, bits)
    packed = bitpack.packed_bytes(symbols.size, bits)
    assert (len(payload) < packed) if codec is Codec.ZSTD else (len(payload) == packed)


def test_both_codecs_are_met() -> None:
    plain = np.zeros((8, 16, 16), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 16), np.uint8)
    assert encode(plain, 8)[0] is Codec.ZSTD
    assert encode(noise, 8)[0] is Codec.PACKED


@relaxed
@given(codec=st.sampled_from(Codec), payload=st.binary(max_size=80), shape=SHAPES, bits=BITS)
def test_any_bytes_decode_to_symbols_in_range_or_give_bad_frame(
    codec: Codec, payload: bytes, shape: Shape, bits: int
) -> None:
    try:
        symbols = decode(codec, payload, shape, bits)
    except BadFrame:
        return
    assert symbols.shape == shape
    assert int(symbols.max()) < 2**bits


@relaxed
@given(symbols_and_bits(), st.data())
def test_a_truncated_payload_is_refused(one: tuple[UInt8, int], data: st.DataObject) -> None:
    symbols, bits = one
    codec, payload = encode(symbols, bits)
    kept = data.draw(st.integers(0, len(payload) - 1))
    c, h, w = symbols.shape
    with pytest.raises(BadFrame):
        decode(codec, payload[:kept], (c, h, w), bits)


@pytest.mark.parametrize("codec", [Codec.PACKED, Codec.ZSTD])
def test_bytes_read_as_the_other_codec_are_refused(codec: Codec) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 4, 4), np.uint8)
    payload = noise.tobytes() if codec is Codec.ZSTD else encode(np.zeros_like(noise), 8)[1]
    with pytest.raises(BadFrame):
        decode(codec, payload, (2, 4, 4), 8)


def test_a_photograph_holds_no_symbols() -> None:
    with pytest.raises(BadFrame, match="got jpeg") as refusal:
        decode(Codec.JPEG, b"", (1, 1, 1), 8)
    assert refusal.value.reason == "codec"


@relaxed
@given(
    seq=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**16 - 1),
    bits=st.integers(0, 255),
    codec=st.sampled_from(Codec),
    index=st.integers(0, 255),
    payload=st.binary(max_size=64),
    flip=st.integers(0, 9 * 8 - 1),
)
def test_any_flipped_bit_of_the_header_changes_the_checksum(
    seq: int, width: int, bits: int, codec: Codec, index: int, payload: bytes, flip: int
) -> None:
    fields = {"seq": (seq, 32), "width": (width, 16), "bits": (bits, 8), "index": (index, 8)}
    crc = checksum(seq, width, bits, codec, index, payload)
    for name, (value, size) in fields.items():
        other = {key: given for key, (given, _) in fields.items()} | {name: value ^ 1 << flip % size}
        assert checksum(other["seq"], other["width"], other["bits"], codec, other["index"], payload) != crc
    for another in set(Codec) - {codec}:
        assert checksum(seq, width, bits, another, index, payload) != crc


@relaxed
@given(payload=st.binary(min_size=1, max_size=2048), data=st.data())
def test_any_flipped_bit_of_the_payload_changes_the_checksum(payload: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(payload) * 8 - 1))
    damaged = bytearray(payload)
    damaged[place // 8] ^= 1 << place % 8
    assert checksum(1, 8, 4, Codec.PACKED, 0, bytes(damaged)) != checksum(1, 8, 4, Codec.PACKED, 0, payload)


def test_the_checksum_is_crc_32c_of_header_and_payload() -> None:
    assert checksum(0x64636261, 0x6665, 0x67, Codec.PACKED, 0x69, b"j") == _crc32c(b"abcdefg\x01ij")


def _crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 appendix B.4 has it: what the other side may be written in."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_a_wrong_checksum_is_an_integrity_error_and_a_right_one_is_none() -> None:
    check(7, 7)
    with pytest.raises(IntegrityError, match="must be 00000007 for these bytes, got 00000006") as refusal:
        check(6, 7)
    assert refusal.value.retryable
    assert refusal.value.reason == "checksum"
