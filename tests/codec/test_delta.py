"""Temporal deltas: exact under every reference, small where little changed, and sound on any bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec import bitpack, delta, zstd
from splitrt.codec.entropy import TOTAL
from splitrt.errors import BadFrame, InvalidInput

UInt8 = npt.NDArray[np.uint8]
BITS = st.integers(1, 8)
relaxed = settings(deadline=None)


def noise(bits: int, seed: int, shape: tuple[int, int, int] = (4, 7, 5)) -> UInt8:
    return np.random.default_rng(seed).integers(0, 2**bits, shape, np.uint8)


def moved(reference_CHW: UInt8, bits: int, share: float) -> UInt8:
    """That share of the symbols a step up or down."""
    draw = np.random.default_rng(7)
    steps_CHW = draw.choice([-1, 1], reference_CHW.shape) * (draw.random(reference_CHW.shape) < share)
    symbols_CHW: UInt8 = ((reference_CHW + steps_CHW) % 2**bits).astype(np.uint8)
    return symbols_CHW


@relaxed
@given(BITS, st.integers(0, 99), st.integers(0, 99), st.floats(0, 1))
def test_a_delta_on_its_reference_is_the_frame(bits: int, seed: int, other: int, share: float) -> None:
    reference = noise(bits, seed)
    for symbols in (noise(bits, other), moved(reference, bits, share)):
        np.testing.assert_array_equal(delta.decode(delta.encode(symbols, reference, bits), reference, bits), symbols)


def test_a_frame_that_did_not_change_takes_next_to_nothing() -> None:
    reference = noise(4, 0, (8, 16, 16))
    assert len(delta.encode(reference, reference, 4)) <= 2


@pytest.mark.parametrize(("share", "most"), [(0.02, 0.75), (0.05, 0.75), (0.2, 0.75), (0.5, 0.9)])
def test_moves_by_a_step_take_well_below_what_zstd_makes_of_them(share: float, most: float) -> None:
    reference = noise(4, 0, (8, 8, 8))
    symbols = moved(reference, 4, share)
    packed = bitpack.pack((symbols - reference) & np.uint8(15), 4)
    assert len(delta.encode(symbols, reference, 4)) < most * min(len(zstd.compress(packed)), len(packed))


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_law_is_whole_says_all_changes_and_likes_small_ones(bits: int) -> None:
    laws = delta.rows(bits).astype(np.int64)
    assert (laws.sum(axis=1) == TOTAL).all()
    assert laws.min() >= 1
    half = laws[:, : 2 ** (bits - 1) + 1]
    assert (np.diff(half, axis=1) <= 0).all()
    np.testing.assert_array_equal(laws[:, 1:], laws[:, :0:-1])  # up as down


def test_a_reference_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match="reference must be"):
        delta.encode(np.zeros((2, 3, 3), np.uint8), np.zeros((1, 3, 3), np.uint8), 4)


@pytest.mark.parametrize("payload", [b"", bytes([len(delta.SPREADS_R)]), b"\xff\x00", bytes(200)])
def test_bytes_that_no_encoder_makes_are_refused(payload: bytes) -> None:
    with pytest.raises(BadFrame):
        delta.decode(payload, noise(4, 0, (2, 3, 3)), 4)


@relaxed
@given(payload=st.binary(max_size=60), bits=BITS)
def test_any_bytes_give_symbols_in_range_or_bad_frame(payload: bytes, bits: int) -> None:
    reference = np.full((2, 3, 3), 2**bits - 1, np.uint8)
    try:
        symbols = delta.decode(payload, reference, bits)
    except BadFrame:
        return
    assert int(symbols.max()) < 2**bits
