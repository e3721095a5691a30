"""Shape letters: C Z channels, H W space, N outputs, K widths."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.bundle import Bundle
from splitrt.codec.payload import Codec, decode
from splitrt.errors import BundleError
from splitrt.golden import Golden, agree, comparable, load_golden

Array = npt.NDArray[Any]
relaxed = settings(deadline=None)


def golden() -> Golden:
    draw = np.random.default_rng(0)
    return Golden(
        frame_HWC=draw.integers(0, 256, (8, 8, 3), np.uint8),
        exits_EN=draw.normal(size=(2, 6)).astype(np.float32),
        z_KZHW=draw.normal(size=(2, 4, 2, 2)).astype(np.float32),
        symbols_KZHW=draw.integers(0, 256, (2, 4, 2, 2), np.uint8),
        payload=draw.integers(0, 256, 9, np.uint8),
        codec=np.array([5], np.uint8),
        tail_KN=draw.normal(size=(2, 6)).astype(np.float32),
        whole_N=draw.normal(size=6).astype(np.float32),
    )


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    some = golden()
    some.save(tmp_path / "golden.npz")
    loaded = load_golden(tmp_path / "golden.npz")
    for field in fields(Golden):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(some, field.name))
        assert getattr(loaded, field.name).dtype == getattr(some, field.name).dtype


def test_the_built_in_sample_fits_its_seam(photos: Bundle) -> None:
    seam, sample = photos.manifest.seam, load_golden(photos.path("golden.npz"))
    widths = len(seam.widths)
    assert sample.z_KZHW.shape == sample.symbols_KZHW.shape == (widths, seam.channels, seam.height, seam.width)
    assert len(sample.tail_KN) == widths
    for place, width in enumerate(seam.widths):
        assert (sample.symbols_KZHW[place, seam.channels_at(width) :] == 0).all()


def test_the_built_in_sample_s_payload_is_its_widest_symbols(photos: Bundle) -> None:
    sample, bits = load_golden(photos.path("golden.npz")), max(photos.manifest.seam.bits)
    symbols_ZHW, prior = sample.symbols_KZHW[-1], photos.tables.prior_at(bits)
    decoded = decode(Codec(int(sample.codec[0])), sample.payload.tobytes(), symbols_ZHW.shape, bits, prior)
    np.testing.assert_array_equal(decoded, symbols_ZHW)


def test_of_candidates_only_scores_are_compared() -> None:
    """Equal ones may change places on another machine."""
    candidates_K6 = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(comparable(candidates_K6, "boxes"), [4, 10])
    np.testing.assert_array_equal(comparable(candidates_K6, "classes"), candidates_K6)


@pytest.mark.parametrize("name", [field.name for field in fields(Golden)])
def test_a_missing_array_is_refused_by_name(tmp_path: Path, name: str) -> None:
    arrays = {field.name: getattr(golden(), field.name) for field in fields(Golden) if field.name != name}
    np.savez(tmp_path / "golden.npz", **arrays)
    with pytest.raises(BundleError, match=rf"golden\.npz must hold a golden sample: '{name}'"):
        load_golden(tmp_path / "golden.npz")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04N."], ids=["empty", "stub", "pickle"])
def test_what_is_no_sample_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "golden.npz").write_bytes(data)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        load_golden(tmp_path / "golden.npz")


@relaxed
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), place=st.integers(0, 7), off=st.floats(-1e6, 1e6))
def test_the_largest_difference_decides(values: list[float], place: int, off: float) -> None:
    wanted = np.array(values)
    given_N = wanted.copy()
    given_N[place % len(values)] += off
    difference = float(np.abs(given_N - wanted).max())
    assert agree("logits", given_N, wanted, difference) == difference
    if difference > 0:
        with pytest.raises(BundleError, match="logits on this machine differs by"):
            agree("logits", given_N, wanted, float(np.nextafter(difference, 0)))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_never_agrees(odd: float) -> None:
    with pytest.raises(BundleError, match="differs by"):
        agree("logits", np.array([0, odd]), np.zeros(2), 1e30)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (0,), ()])
def test_another_shape_never_agrees(shape: tuple[int, ...]) -> None:
    with pytest.raises(BundleError, match=r"must have shape \(2,\)"):
        agree("logits", np.zeros(shape), np.zeros(2), 1.0)


def test_symbols_are_compared_without_wrapping_around() -> None:
    low, high = np.array([0], np.uint8), np.array([255], np.uint8)
    for one, other in ((low, high), (high, low)):
        with pytest.raises(BundleError, match="differs by 255"):
            agree("symbols", one, other, 1)


def test_nothing_agrees_with_nothing() -> None:
    assert agree("exit", np.empty(0), np.empty(0), 0.0) == 0
