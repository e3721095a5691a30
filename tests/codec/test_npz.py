from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.npz import read_npz
from splitrt.errors import BundleError

MOST = 1 << 16
relaxed = settings(deadline=None)


def npy(array: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def header(text: bytes, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


def claiming(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    return header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()) + data


def archive(path: Path, member: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("one.npy", member)
    return path


def lying_about_its_size(path: Path) -> Path:
    """16 MiB of zeros whose directory entry says 128 bytes."""
    archive(path, npy(np.zeros(16 << 20, np.uint8)))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (128).to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_read_is_what_numpy_saved(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "empty": np.empty((0, 3), np.float32),
        "scalar": np.array(7, np.uint8),
    }
    save(tmp_path / "some.npz", **arrays)
    read = read_npz(tmp_path / "some.npz", MOST)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


@pytest.mark.parametrize(
    "make",
    [
        lambda path: archive(path, claiming((1 << 38,), bytes(16))),
        lambda path: archive(path, claiming((1 << 40, 1 << 40))),
        lambda path: archive(path, npy(np.zeros(16 << 20, np.uint8))),
        lying_about_its_size,
    ],
    ids=["array claims 1 TiB", "product overflows", "zip bomb", "zip bomb that lies about its size"],
)
def test_a_bomb_is_refused_and_allocates_nothing(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "bomb.npz")
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            read_npz(path, MOST)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"not an array",
        npy(np.zeros(4, np.float32))[:-1],
        npy(np.zeros(4, np.float32)) + b"\0",
        claiming((-4,), bytes(16)),
        header(b"(" * 5000),
        header(b"{'descr': 'O', 'fortran_order': False, 'shape': (1,)}\n") + b"cos\nsystem\n(S'true'\ntR.",
        header(b"{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}\n"),
        header(b"{}\n"),
        header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}\n", b"\x09\x09"),
    ],
    ids=[
        "empty",
        "junk",
        "one byte short",
        "trailing byte",
        "negative size",
        "deeply nested header",
        "pickle",
        "shape is text",
        "header without keys",
        "version from the future",
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path: Path, member: bytes) -> None:
    with pytest.raises(BundleError, match=r"one\.npz must be an npz file of plain arrays"):
        read_npz(archive(tmp_path / "one.npz", member), MOST)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04junk", npy(np.zeros(3))], ids=["empty", "stub", "bare npy"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "one.npz").write_bytes(data)
    with pytest.raises(BundleError):
        read_npz(tmp_path / "one.npz", MOST)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.npz"):
        read_npz(tmp_path / "absent.npz", MOST)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("npz") / "sound.npz"
    np.savez_compressed(path, low=np.linspace(-1, 0, 64, dtype=np.float32), high=np.ones(64, np.float32))
    return path.read_bytes()


@relaxed
@given(data=st.data())
def test_damage_gives_bundle_error_and_nothing_else(
    sound: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(damaged)
    try:
        arrays = read_npz(path, MOST)
    except BundleError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= MOST
