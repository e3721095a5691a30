"""A caller's photograph becomes bytes, or is refused with what was given: nothing else may come of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from splitrt.device.image import MAX_SIDE, to_frame
from splitrt.errors import InvalidInput

UInt8 = npt.NDArray[np.uint8]


def test_a_buffer_that_the_camera_writes_into_again_changes_no_frame(frame_HWC: UInt8) -> None:
    before = frame_HWC.copy()
    frame = to_frame(frame_HWC)
    frame_HWC[:] = 0
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::2], np.s_[:, :, ::-1], np.s_[3:77, 5:6]])
def test_any_view_of_a_frame_is_taken_as_it_looks(frame_HWC: UInt8, view: Any) -> None:
    taken = to_frame(frame_HWC[view])
    np.testing.assert_array_equal(taken, frame_HWC[view])
    assert taken.flags.c_contiguous


def test_a_frame_in_fortran_order_is_taken_as_it_looks(frame_HWC: UInt8) -> None:
    taken = to_frame(np.asfortranarray(frame_HWC))
    np.testing.assert_array_equal(taken, frame_HWC)
    assert taken.flags.c_contiguous


def test_a_read_only_frame_is_taken(frame_HWC: UInt8) -> None:
    frame_HWC.flags.writeable = False
    np.testing.assert_array_equal(to_frame(frame_HWC), frame_HWC)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((8, 8, 3), np.float32), "<f4"),
        (np.zeros((8, 8, 3), np.int64), "<i8"),
        (np.zeros((8, 8, 3), ">u2"), ">u2"),
        (np.zeros((8, 8, 3), bool), "b1"),
        (np.full((8, 8, 3), None), "|O"),
        (np.zeros((8, 8, 3), "S3"), "S3"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"\(1, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros((8, 0, 3), np.uint8), r"\(8, 0, 3\)"),
        (np.zeros((MAX_SIDE + 1, 1, 3), np.uint8), str(MAX_SIDE + 1)),
        (np.zeros((), np.uint8), r"\(\)"),
    ],
)
def test_an_array_of_another_form_is_refused_with_what_it_is(array: npt.NDArray[Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        to_frame(array)
    assert "numpy uint8 (H, W, 3)" in str(caught.value)


@pytest.mark.parametrize("thing", [None, b"bytes", "photo.jpg", [[1, 2, 3]], 7, object()])
def test_what_is_no_picture_at_all_is_refused_by_its_type(thing: Any) -> None:
    with pytest.raises(InvalidInput, match=type(thing).__qualname__):
        to_frame(thing)


# ── PIL ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1", "I;16"])
def test_an_image_of_any_mode_becomes_rgb(mode: str) -> None:
    assert to_frame(Image.new(mode, (5, 4))).shape == (4, 5, 3)


def test_an_image_keeps_its_pixels(frame_HWC: UInt8) -> None:
    np.testing.assert_array_equal(to_frame(Image.fromarray(frame_HWC)), frame_HWC)


def test_an_image_file_that_is_cut_short_is_refused(frame_HWC: UInt8) -> None:
    file = io.BytesIO()
    Image.fromarray(frame_HWC).save(file, "PNG")
    cut = Image.open(io.BytesIO(file.getvalue()[:400]))
    with pytest.raises(InvalidInput, match="image"):
        to_frame(cut)


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(InvalidInput):
        to_frame(Image.new("RGB", (0, 4)))


def test_what_only_comes_from_pil_is_refused() -> None:
    from PIL import ImageDraw

    with pytest.raises(InvalidInput):
        to_frame(ImageDraw.Draw(Image.new("RGB", (4, 4))))


# ── torch ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs the torch extra")


@pytest.mark.torch
def test_a_tensor_of_bytes_is_taken_channels_first(torch: Any, frame_HWC: UInt8) -> None:
    tensor = torch.from_numpy(frame_HWC).permute(2, 0, 1)
    np.testing.assert_array_equal(to_frame(tensor), frame_HWC)
    np.testing.assert_array_equal(to_frame(tensor.contiguous()), frame_HWC)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bfloat16"])
def test_a_tensor_of_floats_is_scaled_to_bytes(torch: Any, kind: str) -> None:
    tensor = torch.tensor([0.0, 0.5, 1.0], dtype=getattr(torch, kind)).reshape(3, 1, 1).expand(3, 2, 2)
    np.testing.assert_array_equal(to_frame(tensor)[0, 0], [0, 128, 255])


BAD: dict[str, Callable[[Any], Any]] = {
    "NaN": lambda torch: torch.full((3, 4, 4), float("nan")),
    "infinity": lambda torch: torch.full((3, 4, 4), float("inf")),
    "negative": lambda torch: torch.full((3, 4, 4), -0.01),
    "above one": lambda torch: torch.full((3, 4, 4), 1.01),
    "grad": lambda torch: torch.zeros(3, 4, 4, requires_grad=True),
    "parameter": lambda torch: torch.nn.Parameter(torch.zeros(3, 4, 4)),
    "channels last": lambda torch: torch.zeros(4, 4, 3),
    "batch": lambda torch: torch.zeros(1, 3, 4, 4),
    "integers": lambda torch: torch.zeros(3, 4, 4, dtype=torch.int64),
    "complex": lambda torch: torch.zeros(3, 4, 4, dtype=torch.complex64),
    "empty": lambda torch: torch.zeros(3, 0, 4),
    "meta": lambda torch: torch.zeros(3, 4, 4, device="meta"),
    "sparse": lambda torch: torch.zeros(3, 4, 4).to_sparse(),
    "module": lambda torch: torch.nn.Linear(1, 1),
    "dtype": lambda torch: torch.float32,
}


@pytest.mark.torch
@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_a_tensor_that_is_no_photograph_is_refused(torch: Any, make: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidInput):
        to_frame(make(torch))
