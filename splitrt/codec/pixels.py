"""Photographs to a stem's input, as the bundle's manifest declares it.

Shape letters: H W space, C channels.
Done on the device for the head, and on the server for frames that come as JPEG.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from splitrt.errors import BadFrame

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Fit = Literal["cover", "stretch"]

MAX_JPEG_PIXELS = 16 << 20


def fit(frame_HWC: UInt8, height: int, width: int, how: Fit = "cover") -> UInt8:
    """cover: the centre of the frame in the shape height x width, scaled to it; stretch: all of it, each side to its
    size. A frame of that size is untouched.
    """
    if frame_HWC.shape[:2] == (height, width):
        return frame_HWC
    image = Image.fromarray(frame_HWC)
    if how == "stretch":
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))
    # Cut before scaling: the whole of a 1 x 65,500 strip, scaled to cover, would be gigabytes.
    scale = max(height / image.height, width / image.width)
    wide, high = min(image.width, width / scale), min(image.height, height / scale)
    left, top = int(image.width - wide) // 2, int(image.height - high) // 2
    box = (left, top, left + wide, top + high)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box, reducing_gap=2.0))


def normalise(frame_HWC: UInt8, mean: Sequence[float], std: Sequence[float]) -> Float32:
    """uint8 (H, W, 3) -> float32 (3, H, W): scaled to 0..1, mean subtracted, divided by std."""
    gain_C = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)
    lift_C = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    # Turned as bytes, then scaled in place: a quarter of the time that scaling before turning takes.
    scaled_CHW = np.ascontiguousarray(frame_HWC.transpose(2, 0, 1)).astype(np.float32)
    scaled_CHW *= gain_C[:, None, None]
    scaled_CHW += lift_C[:, None, None]
    return scaled_CHW


def to_jpeg(frame_HWC: UInt8, quality: int) -> bytes:
    """Baseline JPEG with optimised tables, no metadata."""
    buffer = io.BytesIO()
    Image.fromarray(frame_HWC).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def from_jpeg(data: bytes) -> UInt8:
    """uint8 (H, W, 3). Raises BadFrame on anything but one JPEG file of a sensible size, before decoding it."""
    try:
        # Not Image.open: its own guard against bombs raises what is no error of ours.
        image = JpegImageFile(io.BytesIO(data))
        if image.width * image.height > MAX_JPEG_PIXELS:
            raise BadFrame(
                f"a photograph must have at most {MAX_JPEG_PIXELS} pixels, got {image.width}x{image.height}",
                reason="jpeg_size",
            )
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadFrame("payload must be one JPEG file", reason="jpeg") from error
