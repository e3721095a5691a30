"""Frames to stream: crops panned over sample photographs, or a user's folder with or without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitrt.device.source import photographs, read_photograph
from splitrt.errors import ConfigError

UInt8 = npt.NDArray[np.uint8]

SAMPLES = ("rocket", "coffee", "chelsea", "astronaut", "grass", "gravel", "brick")  # come inside scikit-image
PAN_STEPS = 20  # frames on one photograph


@dataclass(frozen=True, slots=True)
class Labelled:
    frame_HWC: UInt8
    label: str | None


def sample_frames(count: int, height: int, width: int) -> list[Labelled]:
    """`count` frames of height x width, panned over the sample photographs; no labels."""
    try:
        from skimage import data
    except ImportError:
        raise ConfigError(
            "sample photographs need the demo extra (pip install 'splitrt[demo]'), or give --images"
        ) from None
    images = [_as_rgb(getattr(data, name)()) for name in SAMPLES]
    views = (frame for image in cycle(images) for frame in pan(image, height, width, PAN_STEPS))
    return [Labelled(frame, None) for frame in islice(views, count)]


def folder_frames(folder: Path, count: int, labels: Sequence[str]) -> list[Labelled]:
    """Photographs of a folder, again from the start when they run out; a subfolder named like a label gives it."""
    paths = photographs(folder)
    chosen = islice(cycle(paths), count)
    known = {path: read_photograph(path) for path in paths[:count]}
    return [Labelled(known[path], path.parent.name if path.parent.name in labels else None) for path in chosen]


def pan(image_HWC: UInt8, height: int, width: int, steps: int) -> Iterator[UInt8]:
    """A window of two thirds of the photograph's shorter side moving across it, scaled to height x width."""
    from PIL import Image

    tall, wide = image_HWC.shape[:2]
    side = min(tall, wide) * 2 // 3
    for step in range(steps):
        share = step / max(1, steps - 1)
        top, left = round(share * (tall - side)), round((1 - share) * (wide - side))
        window = Image.fromarray(image_HWC[top : top + side, left : left + side])
        yield np.asarray(window.resize((width, height), Image.Resampling.BILINEAR))


def _as_rgb(image: UInt8) -> UInt8:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]
