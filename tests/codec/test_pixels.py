"""Shape letters: H W space, C channels."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from splitrt.codec.pixels import MAX_JPEG_PIXELS, fit, from_jpeg, normalise, to_jpeg
from splitrt.errors import BadFrame

UInt8 = npt.NDArray[np.uint8]
SIDES = st.integers(1, 300)
relaxed = settings(deadline=None)


def photo(height: int, width: int) -> UInt8:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows % 256, columns % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)


def claiming(height: int, width: int) -> bytes:
    """A small JPEG whose header says another size."""
    data = bytearray(to_jpeg(photo(16, 16), 80))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@relaxed
@given(height=SIDES, width=SIDES, wanted=st.tuples(st.integers(8, 160), st.integers(8, 160)))
def test_a_fitted_frame_has_the_wanted_size(height: int, width: int, wanted: tuple[int, int]) -> None:
    fitted = fit(photo(height, width), *wanted)
    assert fitted.shape == (*wanted, 3)
    assert fitted.dtype == np.uint8


def test_a_frame_of_the_wanted_size_is_untouched(frame_HWC: UInt8) -> None:
    assert fit(frame_HWC, 128, 128) is frame_HWC


@pytest.mark.parametrize(("height", "width"), [(128, 200), (200, 128), (128, 129)])
def test_a_frame_that_is_only_too_long_is_cut_in_the_middle_and_not_scaled(height: int, width: int) -> None:
    frame_HWC = photo(height, width)
    top, left = (height - 128) // 2, (width - 128) // 2
    np.testing.assert_array_equal(fit(frame_HWC, 128, 128), frame_HWC[top : top + 128, left : left + 128])


def test_what_lies_outside_the_centre_does_not_show() -> None:
    frame_HWC = np.zeros((100, 300, 3), np.uint8)
    frame_HWC[:, :98] = frame_HWC[:, 202:] = 255
    assert fit(frame_HWC, 50, 50).max() == 0


def test_scaling_keeps_left_left_and_top_on_top() -> None:
    fitted = fit(photo(256, 256), 64, 64).astype(int)
    assert (np.diff(fitted[:, :, 0], axis=0) > 0).all()
    assert (np.diff(fitted[:, :, 1], axis=1) > 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 65_000), (65_000, 1)])
def test_a_strip_is_cut_before_it_is_scaled(height: int, width: int) -> None:
    """Scaled first, it would take 4 GB. The pixels lie outside Python's heap: the process is asked."""
    child = f"""
import resource, numpy as np
from splitrt.codec.pixels import fit
fit(np.zeros((300, 200, 3), np.uint8), 128, 128)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert fit(np.zeros(({height}, {width}, 3), np.uint8), 128, 128).shape == (128, 128, 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 << 10  # KiB


@relaxed
@given(
    value=st.integers(0, 255),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.05, 1)] * 3),
)
def test_normalising_scales_subtracts_and_divides(value: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    x_CHW = normalise(np.full((2, 4, 3), value, np.uint8), mean, std)
    assert x_CHW.shape == (3, 2, 4)
    assert x_CHW.dtype == np.float32
    assert x_CHW.flags.c_contiguous
    wanted = (value / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(x_CHW[:, 0, 0], wanted, rtol=0, atol=1e-4)


def test_each_colour_keeps_its_plane(frame_HWC: UInt8) -> None:
    x_CHW = normalise(frame_HWC, (0, 0, 0), (1, 1, 1))
    np.testing.assert_allclose(x_CHW, frame_HWC.transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_photograph_survives_jpeg_nearly(frame_HWC: UInt8) -> None:
    back_HWC = from_jpeg(to_jpeg(frame_HWC, 95))
    assert back_HWC.shape == frame_HWC.shape
    assert np.abs(back_HWC.astype(int) - frame_HWC).mean() < 3


def test_lower_quality_is_fewer_bytes(frame_HWC: UInt8) -> None:
    sizes = [len(to_jpeg(frame_HWC, quality)) for quality in (10, 50, 90)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_of_other_colours_comes_back_in_three(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (20, 10)).save(buffer, "JPEG")
    assert from_jpeg(buffer.getvalue()).shape == (10, 20, 3)


@pytest.mark.parametrize(("height", "width"), [(4097, 4096), (9_500, 9_500), (65_500, 2_800)])
def test_a_jpeg_that_claims_too_many_pixels_is_refused_before_it_is_decoded(height: int, width: int) -> None:
    assert height * width > MAX_JPEG_PIXELS
    with pytest.raises(BadFrame, match=f"at most {MAX_JPEG_PIXELS} pixels, got {width}x{height}") as refusal:
        from_jpeg(claiming(height, width))
    assert refusal.value.reason == "jpeg_size"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_another_format_is_refused(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    with pytest.raises(BadFrame) as refusal:
        from_jpeg(buffer.getvalue())
    assert refusal.value.reason == "jpeg"


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"JFIF" * 9, claiming(0, 16), claiming(16, 0)])
def test_what_is_no_photograph_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        from_jpeg(data)


def test_a_truncated_photograph_is_refused_and_not_filled_with_grey(frame_HWC: UInt8) -> None:
    data = to_jpeg(frame_HWC, 80)
    for kept in (len(data) // 4, len(data) // 2, len(data) - 40):
        with pytest.raises(BadFrame):
            from_jpeg(data[:kept])


@relaxed
@given(data=st.data())
def test_a_damaged_photograph_gives_pixels_or_bad_frame(data: st.DataObject) -> None:
    damaged = bytearray(to_jpeg(photo(24, 24), 50))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    segment = data.draw(st.sampled_from([b"", b"Exif\0\0", b"MPF\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"Adobe"]))
    if segment:
        body = segment + data.draw(st.binary(max_size=20))
        damaged[2:2] = b"\xff" + data.draw(st.sampled_from([b"\xe1", b"\xe2", b"\xed", b"\xee"]))
        damaged[4:4] = (len(body) + 2).to_bytes(2, "big") + body
    try:
        frame_HWC = from_jpeg(bytes(damaged))
    except BadFrame:
        return
    assert frame_HWC.shape[2] == 3
    assert frame_HWC.dtype == np.uint8
