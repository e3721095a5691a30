"""Labelled photographs in splits that cannot be mixed up.

Shape letters: B batch, H W space.
Training reads `train`, choices while building read `tune`, thresholds and rates come from `calibrate`.
There is no way to name a test split here: benchmarks read it, recipes cannot.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from splitrt.errors import ConfigError

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

# First and one-past-last image of each split in train.npz.
SPLITS: dict[str, dict[str, tuple[int, int]]] = {
    "scenes": {"train": (0, 8_500), "tune": (8_500, 9_000), "calibrate": (9_000, 10_000)},
    "cifar10": {"train": (0, 27_000), "tune": (27_000, 28_000), "calibrate": (28_000, 30_000)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Frames as HWC bytes with their labels."""

    frames_BHWC: UInt8
    labels_B: Int64

    def __len__(self) -> int:
        return len(self.labels_B)


def read_split(folder: Path, name: str, split: str) -> Images:
    """Decode one split of a data set. Raises ConfigError where name, split or file is not there."""
    if name not in SPLITS:
        raise ConfigError(f"data must be one of {', '.join(SPLITS)}, got {name!r}")
    if split not in SPLITS[name]:
        raise ConfigError(f"split must be one of {', '.join(SPLITS[name])}, got {split!r}")
    path = folder / name / "train.npz"
    if not path.is_file():
        raise ConfigError(f"training data must be at {path}; give its folder with --data or SPLITRT_DATA")
    first, stop = SPLITS[name][split]
    return decode_archive(path, first, stop)


def decode_archive(path: Path, first: int, stop: int | None = None) -> Images:
    """Images `first` to `stop` of an archive of concatenated JPEG files."""
    with np.load(path, allow_pickle=False) as archive:
        jpeg, offset, label = archive["jpeg"], archive["offset"], archive["label"]
    stop = len(label) if stop is None else stop
    frames = [
        np.asarray(Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes())).convert("RGB"))
        for i in range(first, stop)
    ]
    return Images(frames_BHWC=np.stack(frames), labels_B=label[first:stop].astype(np.int64))


def class_names(folder: Path, name: str) -> list[str]:
    path = folder / name / "classes.txt"
    return path.read_text().split() if path.is_file() else []


def to_tensor(frames_BHWC: UInt8, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bytes to what a stem reads: (B, H, W, 3) in 0..255 -> (B, 3, H, W), normalised."""
    x_BCHW = torch.from_numpy(frames_BHWC).permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    x_BCHW = (x_BCHW - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def shuffled(images: Images, batch: int, generator: torch.Generator) -> Iterator[tuple[UInt8, Int64]]:
    """One epoch in random order; a last batch that is not full is left out."""
    order = torch.randperm(len(images), generator=generator).numpy()
    for start in range(0, len(order) - batch + 1, batch):
        chosen = order[start : start + batch]
        yield images.frames_BHWC[chosen], images.labels_B[chosen]


def augment(x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, shift by up to a sixteenth of the side and change contrast and brightness, a draw a frame."""
    batch, side = x_BCHW.shape[0], x_BCHW.shape[2]
    pad = max(1, side // 16)
    padded = F.pad(x_BCHW, (pad, pad, pad, pad), mode="reflect")
    rows, columns = torch.randint(0, 2 * pad + 1, (2, batch), generator=generator).tolist()
    flips = (torch.rand(batch, generator=generator) < 0.5).tolist()
    frames = []
    for i, (row, column, flip) in enumerate(zip(rows, columns, flips, strict=True)):
        frame = padded[i, :, row : row + side, column : column + side]
        frames.append(frame.flip(-1) if flip else frame)
    gain_B111 = 1 + 0.2 * (2 * torch.rand(batch, 1, 1, 1, generator=generator) - 1)
    lift_B111 = 0.2 * (2 * torch.rand(batch, 1, 1, 1, generator=generator) - 1)
    return (torch.stack(frames) * gain_B111 + lift_B111).contiguous(memory_format=torch.channels_last)
