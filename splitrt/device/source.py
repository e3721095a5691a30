"""Frames from what a user names: a photograph, a folder of them, a video file, a camera's number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from splitrt.errors import ConfigError, InvalidInput

UInt8 = npt.NDArray[np.uint8]

PHOTOGRAPHS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def read_photograph(path: Path) -> UInt8:
    """uint8 (H, W, 3), turned as its metadata says. Raises InvalidInput where it is none."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise InvalidInput(f"a photograph is wanted, {path} does not exist") from None
    except Exception as error:  # of a broken file, of its metadata, of a bomb: Pillow's have no common root
        raise InvalidInput(f"a photograph is wanted, {path} cannot be read as one") from error


def photographs(folder: Path) -> list[Path]:
    """Every photograph below a folder, sorted, but for hidden folders. Raises InvalidInput where there is none."""
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PHOTOGRAPHS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise InvalidInput(f"a folder with photographs ({', '.join(sorted(PHOTOGRAPHS))}) is wanted, {folder} has none")
    return found


def frames_of(source: str) -> tuple[Iterator[UInt8], bool]:
    """Frames of a folder, a video file or a camera (its number), and whether the source is live.

    Video and cameras need OpenCV, which is not installed with splitrt: raises ConfigError where it is missing.
    """
    path = Path(source)
    if path.is_dir():
        return (read_photograph(photograph) for photograph in photographs(path)), False
    if path.suffix.lower() in PHOTOGRAPHS:
        return iter([read_photograph(path)]), False
    if not path.is_file() and not source.isdigit():
        raise InvalidInput(f"a folder, a video file or a camera's number is wanted, got {source!r}")
    return _captured(int(source) if source.isdigit() else source), source.isdigit()


def again(source: str) -> Iterator[UInt8]:
    """Frames of a folder or a video file, from the start again at each end. Raises InvalidInput where there is none."""
    while True:
        frame = None
        for frame in frames_of(source)[0]:
            yield frame
        if frame is None:
            raise InvalidInput(f"a source with frames is wanted, {source} gives none")


def _captured(source: int | str) -> Iterator[UInt8]:
    try:
        import cv2
    except ImportError:
        raise ConfigError("video and cameras need OpenCV: pip install 'splitrt[video]'") from None
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise InvalidInput(f"a video file or camera that OpenCV can open is wanted, got {source!r}")
    return _read(capture, cv2.COLOR_BGR2RGB, cv2.cvtColor)


def _read(capture: Any, code: int, convert: Any) -> Iterator[UInt8]:
    try:
        while True:
            is_frame, frame_BGR = capture.read()
            if not is_frame:
                return
            yield convert(frame_BGR, code)
    finally:
        capture.release()
