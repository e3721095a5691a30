"""Photographs to a stem's input, as the bundle's manifest declares it.

Shape letters: H W space, C channels.
Done on the device for the head, and on the server for frames that come as JPEG.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from splitrt.errors import BadFrame

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

MAX_JPEG_PIXELS = 16 << 20


def fit(frame_HWC: UInt8, height: int, width: int) -> UInt8:
    """Scale until the frame covers height x width, then cut out the centre. A frame of that size is untouched."""
    if frame_HWC.shape[:2] == (height, width):
        return frame_HWC
    image = Image.fromarray(frame_HWC)
    scale = max(height / image.height, width / image.width)
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))


def normalise(frame_HWC: UInt8, mean: Sequence[float], std: Sequence[float]) -> Float32:
    """uint8 (H, W, 3) -> float32 (3, H, W): scaled to 0..1, mean subtracted, divided by std."""
    gain_C = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)
    lift_C = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    scaled_HWC = frame_HWC * gain_C + lift_C
    return np.ascontiguousarray(scaled_HWC.transpose(2, 0, 1))


def to_jpeg(frame_HWC: UInt8, quality: int) -> bytes:
    """Baseline JPEG with optimised tables, no metadata."""
    buffer = io.BytesIO()
    Image.fromarray(frame_HWC).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def from_jpeg(data: bytes) -> UInt8:
    """uint8 (H, W, 3). Raises BadFrame on anything but one JPEG file of a sensible size, before decoding it."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        if image.width * image.height > MAX_JPEG_PIXELS:
            raise BadFrame(
                f"a photograph must have at most {MAX_JPEG_PIXELS} pixels, got {image.width}x{image.height}",
                reason="jpeg_size",
            )
        return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise BadFrame("payload must be one JPEG file", reason="jpeg") from error
