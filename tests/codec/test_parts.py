"""Tensors of a seam to one payload and back: exact, or half a step away, and nothing else off the wire.

Shape letters: C channels, P places.
"""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitrt.codec import parts, zstd
from splitrt.codec.bitpack import packed_bytes
from splitrt.codec.parts import DTYPES, EXACT, MOST_CHANNELS, Part
from splitrt.codec.payload import Codec
from splitrt.codec.quantise import BITS, Ranges
from splitrt.errors import BadFrame, InvalidInput

Array = npt.NDArray[Any]
relaxed = settings(deadline=None)


@st.composite
def a_part(draw: st.DrawFn, dtype: str | None = None) -> Part:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, max_side=4))
    name = dtype or draw(st.sampled_from(sorted(DTYPES)))
    return Part(dtype=name, shape=shape, order=tuple(draw(st.permutations(range(len(shape))))))


def laid_out(array: Array, order: tuple[int, ...]) -> Array:
    """The same values, their dimensions in memory from the slowest to the fastest as `order` says."""
    return np.array(array.transpose(order), order="C").transpose([order.index(dim) for dim in range(len(order))])


def any_values(draw: st.DrawFn, part: Part) -> Array:
    """Whatever its bytes may say: NaN with its very bits, infinities, denormals."""
    dtype = DTYPES[part.dtype]
    size = part.count * dtype.itemsize
    data = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    flat = (data & 1).view(bool) if dtype.kind == "b" else data.view(dtype)
    return laid_out(flat.reshape(part.shape), part.order)


@st.composite
def a_seam(draw: st.DrawFn) -> tuple[list[Array], list[Part]]:
    seam = draw(st.lists(a_part(), min_size=1, max_size=4))
    return [any_values(draw, part) for part in seam], seam


@st.composite
def a_numeric_seam(draw: st.DrawFn) -> tuple[list[Array], list[Part]]:
    """With floats that a range can hold."""
    seam = draw(st.lists(a_part(), min_size=1, max_size=4))
    floats = st.floats(-1e6, 1e6, width=32)
    tensors = [
        laid_out(draw(hnp.arrays(np.float32, part.shape, elements=floats)), part.order)
        if part.dtype == "float32"
        else any_values(draw, part)
        for part in seam
    ]
    return tensors, seam


def ranges_of(tensors: list[Array], seam: list[Part]) -> Ranges:
    """Lowest and highest of each channel; a range that nothing uses where no part is quantised."""
    low, high = [], []
    for tensor, part in zip(tensors, seam, strict=True):
        if part.channels:
            rows_CP = parts.by_channel(tensor, part).reshape(part.channels, -1)
            low.append(rows_CP.min(1))
            high.append(rows_CP.max(1))
    empty = [np.zeros(1, np.float32)]
    return Ranges(low_C=np.concatenate(low or empty), high_C=np.concatenate(high or empty))


def assert_laid_out(array: Array, order: tuple[int, ...]) -> None:
    """Dense in memory in that order of dimensions."""
    assert array.transpose(order).flags.c_contiguous


# ── round trips ─────────────────────────────────────────────────────────────────────────────────────


@relaxed
@given(a_seam())
def test_at_32_bits_every_value_and_its_place_in_memory_arrive(made: tuple[list[Array], list[Part]]) -> None:
    tensors, seam = made
    back = parts.decode(*parts.encode(tensors, seam, EXACT, None), seam, EXACT, None)
    for one, other, part in zip(back, tensors, seam, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert one.tobytes() == other.tobytes()  # NaN's bits and the sign of zero as well
        assert_laid_out(one, part.order)


@relaxed
@given(a_seam(), st.sampled_from(BITS))
def test_ranges_change_nothing_at_32_bits(made: tuple[list[Array], list[Part]], bits: int) -> None:
    tensors, seam = made
    ranges = Ranges(low_C=np.zeros(parts.channels(seam), np.float32), high_C=np.ones(parts.channels(seam), np.float32))
    assert parts.encode(tensors, seam, EXACT, ranges) == parts.encode(tensors, seam, EXACT, None)


@relaxed
@given(a_numeric_seam(), st.sampled_from(BITS))
def test_a_quantised_float_is_at_most_half_a_step_of_its_channel_off(
    made: tuple[list[Array], list[Part]], bits: int
) -> None:
    tensors, seam = made
    ranges = ranges_of(tensors, seam)
    back = parts.decode(*parts.encode(tensors, seam, bits, ranges), seam, bits, ranges)
    start = 0
    for one, other, part in zip(back, tensors, seam, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert_laid_out(one, part.order)
        if not part.channels:
            assert one.tobytes() == other.tobytes()
            continue
        low_C, high_C = (side[start : start + part.channels, None] for side in (ranges.low_C, ranges.high_C))
        start += part.channels
        off_CP = np.abs(parts.by_channel(one, part)[..., 0] - parts.by_channel(other, part)[..., 0])
        rounding = 4 * np.finfo(np.float32).eps * np.maximum(np.abs(low_C), np.abs(high_C))
        half_step = (high_C.astype(np.float64) - low_C) / (2**bits - 1) / 2
        # Below the smallest normal number a channel is constant.
        assert (off_CP <= half_step * (1 + 1e-5) + rounding + 256 * np.finfo(np.float32).tiny).all()


@relaxed
@given(a_numeric_seam(), st.sampled_from((*BITS, EXACT)))
def test_the_size_before_zstd_is_known_beforehand_and_never_exceeded(
    made: tuple[list[Array], list[Part]], bits: int
) -> None:
    tensors, seam = made
    codec, payload = parts.encode(tensors, seam, bits, None if bits == EXACT else ranges_of(tensors, seam))
    wanted = sum(part.bytes_at(bits) for part in seam)
    data = zstd.decompress(payload, wanted) if codec is Codec.ZSTD else payload
    assert len(data) == wanted
    assert len(payload) <= wanted


@pytest.mark.parametrize("bits", BITS)
def test_bytes_at_fewer_bits_are_packed_symbols_for_floats_and_the_values_for_the_rest(bits: int) -> None:
    shape, order = (1, 3, 5, 7), (0, 1, 2, 3)
    assert Part(dtype="float32", shape=shape, order=order).bytes_at(bits) == packed_bytes(105, bits)
    for name, dtype in DTYPES.items():
        part = Part(dtype=name, shape=shape, order=order)
        assert part.bytes_at(EXACT) == 105 * dtype.itemsize
        if name != "float32":
            assert (part.bytes_at(bits), part.channels) == (105 * dtype.itemsize, 0)


def test_a_mask_of_minus_infinity_crosses_exactly_between_quantised_tensors() -> None:
    mask = np.triu(np.full((4, 4), -np.inf, np.float16), 1)
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 4, 6)
    seam = [Part(dtype="float16", shape=(4, 4), order=(0, 1)), Part(dtype="float32", shape=(1, 4, 6), order=(0, 1, 2))]
    ranges = ranges_of([mask, x], seam)
    back = parts.decode(*parts.encode([mask, x], seam, 8, ranges), seam, 8, ranges)
    assert back[0].tobytes() == mask.tobytes()
    exact = [Part(dtype="float32", shape=(4, 4), order=(1, 0))]
    wide = laid_out(mask.astype(np.float32), (1, 0))
    (again,) = parts.decode(*parts.encode([wide], exact, EXACT, None), exact, EXACT, None)
    np.testing.assert_array_equal(again, wide)


@relaxed
@given(a_part())
def test_every_part_has_a_range_for_each_channel_or_one_or_none(part: Part) -> None:
    if part.dtype != "float32":
        assert part.channels == 0
    elif len(part.shape) < 2:
        assert part.channels == 1
    else:
        assert part.channels in part.shape


def test_a_tensor_of_too_many_channels_has_one_range() -> None:
    part = Part(dtype="float32", shape=(1, MOST_CHANNELS + 1), order=(0, 1))
    assert (part.axis, part.channels) == (None, 1)
    x = np.linspace(-3, 3, MOST_CHANNELS + 1, dtype=np.float32)[None]
    ranges = ranges_of([x], [part])
    (back,) = parts.decode(*parts.encode([x], [part], 8, ranges), [part], 8, ranges)
    assert np.abs(back - x).max() <= 6 / 255 / 2 * (1 + 1e-5)


@pytest.mark.parametrize(
    ("shape", "axis"), [((1, 64, 7, 7), 1), ((1, 7, 7, 64), 3), ((1, 197, 48), 2), ((1, 10), 1), ((9,), None)]
)
def test_a_maps_channels_and_a_tokens_features_have_ranges_of_their_own(
    shape: tuple[int, ...], axis: int | None
) -> None:
    assert Part(dtype="float32", shape=shape, order=tuple(range(len(shape)))).axis == axis


# ── what the sender refuses ─────────────────────────────────────────────────────────────────────────


X = Part(dtype="float32", shape=(1, 2, 3), order=(0, 1, 2))
UNIT = Ranges(low_C=np.zeros(3, np.float32), high_C=np.ones(3, np.float32))


@pytest.mark.parametrize("bits", BITS)
def test_nan_has_no_symbol(bits: int) -> None:
    x = np.zeros((1, 2, 3), np.float32)
    x[0, 1, 2] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        parts.encode([x], [X], bits, UNIT)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 3, 2), np.float32),
        np.zeros(6, np.float32),
        np.zeros((2, 2, 3), np.float32),
        np.zeros((1, 2, 3), np.float64),
        np.zeros((1, 2, 3), np.int32),
        np.zeros((1, 2, 3), ">f4"),
    ],
)
@pytest.mark.parametrize("bits", [4, EXACT])
def test_another_shape_or_dtype_is_not_encoded(wrong: Array, bits: int) -> None:
    with pytest.raises(InvalidInput, match=r"must be float32 \(1, 2, 3\), got"):
        parts.encode([wrong], [X], bits, None if bits == EXACT else UNIT)


def test_what_lies_beyond_its_range_saturates() -> None:
    x = np.array([[[-5, 0.5, np.inf], [-np.inf, 1, 2]]], np.float32)
    (back,) = parts.decode(*parts.encode([x], [X], 8, UNIT), [X], 8, UNIT)
    np.testing.assert_allclose(back, np.array([[[0, 0.5, 1], [0, 1, 1]]]), atol=1 / 510)


# ── what the receiver refuses ───────────────────────────────────────────────────────────────────────


HUGE = Part(dtype="float32", shape=(1, 1024, 1024, 8), order=(0, 1, 2, 3))
HUGE_RANGES = Ranges(low_C=np.zeros(HUGE.channels, np.float32), high_C=np.ones(HUGE.channels, np.float32))


def bomb(size: int) -> bytes:
    squeeze = zstandard.ZstdCompressor(write_checksum=False).compressobj(size=size)
    pieces = [squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join(pieces) + squeeze.flush()


@pytest.mark.parametrize(
    ("codec", "payload", "reason"),
    [
        (Codec.PACKED, b"", "length"),
        (Codec.PACKED, bytes(1 << 10), "length"),
        (Codec.ZSTD, bomb(64 << 20), "zstd_size"),
        (Codec.ZSTD, bomb(3 << 20), "zstd_size"),
        (Codec.ZSTD, b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00", "zstd_size"),
        (Codec.ZSTD, b"no such thing", "zstd"),
        (Codec.JPEG, b"\xff\xd8", "codec"),
        (Codec.FACTORISED, b"x", "codec"),
        (Codec.CONTEXT, b"x", "codec"),
        (Codec.DELTA, b"x", "codec"),
    ],
)
@pytest.mark.parametrize("bits", [1, 8, EXACT])
def test_bytes_that_are_not_theirs_are_refused_before_anything_is_allocated(
    codec: Codec, payload: bytes, reason: str, bits: int
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadFrame) as caught:
            parts.decode(codec, payload, [HUGE], bits, None if bits == EXACT else HUGE_RANGES)
        assert tracemalloc.get_traced_memory()[1] < 256 << 10
    finally:
        tracemalloc.stop()
    assert caught.value.reason == reason


@pytest.mark.parametrize("value", [2, 3, 128, 255])
def test_a_truth_value_is_0_or_1(value: int) -> None:
    seam = [Part(dtype="bool", shape=(3,), order=(0,))]
    with pytest.raises(BadFrame, match=f"0 or 1, got {value}"):
        parts.decode(Codec.PACKED, bytes([0, value, 1]), seam, EXACT, None)
    with pytest.raises(BadFrame, match="0 or 1"):
        parts.decode(Codec.PACKED, bytes([value]), [Part(dtype="py_bool", shape=(), order=())], EXACT, None)


@pytest.mark.parametrize("bits", [bits for bits in BITS if 5 * bits % 8])
def test_bits_past_the_last_symbol_are_refused(bits: int) -> None:
    part = Part(dtype="float32", shape=(5,), order=(0,))
    one = Ranges(low_C=np.zeros(1, np.float32), high_C=np.ones(1, np.float32))
    sound = bytearray(part.bytes_at(bits))
    parts.decode(Codec.PACKED, bytes(sound), [part], bits, one)
    sound[-1] |= 0x80
    with pytest.raises(BadFrame, match="zero"):
        parts.decode(Codec.PACKED, bytes(sound), [part], bits, one)


@relaxed
@given(a_seam(), st.data())
def test_a_truncated_or_longer_payload_is_refused(made: tuple[list[Array], list[Part]], data: st.DataObject) -> None:
    tensors, seam = made
    codec, payload = parts.encode(tensors, seam, EXACT, None)
    cut = data.draw(st.integers(0, len(payload) - 1))
    for other in (payload[:cut], payload + b"\0"):
        with pytest.raises(BadFrame):
            parts.decode(codec, other, seam, EXACT, None)


@relaxed
@given(
    seam=st.lists(a_part(), min_size=1, max_size=3),
    bits=st.sampled_from((*BITS, EXACT)),
    codec=st.sampled_from(list(Codec)),
    data=st.data(),
)
def test_anything_off_the_wire_is_the_seams_tensors_or_a_bad_frame(
    seam: list[Part], bits: int, codec: Codec, data: st.DataObject
) -> None:
    count = parts.channels(seam)
    ranges = Ranges(low_C=np.zeros(count, np.float32), high_C=np.ones(count, np.float32))
    size = sum(part.bytes_at(bits) for part in seam)
    payload = data.draw(st.binary(max_size=64) | st.binary(min_size=size, max_size=size))
    try:
        found = parts.decode(codec, payload, seam, bits, None if bits == EXACT else ranges)
    except BadFrame:
        return
    for tensor, part in zip(found, seam, strict=True):
        assert (tensor.shape, tensor.dtype) == (part.shape, DTYPES[part.dtype])
        assert math.prod(tensor.shape) == part.count
