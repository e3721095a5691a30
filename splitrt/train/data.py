"""Photographs in splits that cannot be mixed up.

Shape letters: B batch, H W space.
Training reads `train`, choices while building read `tune`, thresholds, tables and rates come from `calibrate`.
There is no way to name a test split here: benchmarks read it, recipes cannot.

`photographs` is for distillation without labels: training photographs of ImageNet and scenes, label -1. `unlabelled`
has more of the latter and each once, for a detector's verdicts: enough of them to certify a gate on.

Any other name is that of a folder of photographs: NAME/CLASS/photograph.jpg, with the classes in NAME/classes.txt, or
without that file photographs at any depth, unlabelled.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from splitrt.codec import pixels as codec_pixels
from splitrt.errors import ConfigError
from splitrt.manifest import Pixels

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Ranges = dict[str, tuple[int, int]]  # of a split: first and one-past-last image

ARCHIVES: dict[str, Ranges] = {
    "scenes": {"train": (0, 8_500), "tune": (8_500, 9_000), "calibrate": (9_000, 10_000)},
    "cifar10": {"train": (0, 27_000), "tune": (27_000, 28_000), "calibrate": (28_000, 30_000)},
}
IMAGENET: Ranges = {"train": (0, 300), "tune": (300, 340), "calibrate": (340, 400)}
IMAGENET_REPEATS = 6  # of its few photographs, beside as many thousands of smaller ones
SCENES_SHARE: Ranges = {"train": (0, 2_000), "tune": (8_500, 8_540), "calibrate": (9_000, 9_040)}
MORE_SCENES: Ranges = {"train": (0, 3_000), "tune": (8_500, 8_700), "calibrate": (9_000, 10_000)}
FOLDER = {"train": (0.0, 0.7), "tune": (0.7, 0.8), "calibrate": (0.8, 1.0)}  # shares of a folder's photographs
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
NAME = re.compile(r"[\w-]+")
SETS = (*ARCHIVES, "photographs", "unlabelled")
SPLITS = ("train", "tune", "calibrate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Frames as HWC bytes with their labels; `split` says what they may be used for."""

    frames_BHWC: UInt8
    labels_B: Int64
    split: str

    def __len__(self) -> int:
        return len(self.labels_B)

    def some(self, most: int) -> Images:
        """The first `most`."""
        return Images(frames_BHWC=self.frames_BHWC[:most], labels_B=self.labels_B[:most], split=self.split)

    def digests(self) -> list[bytes]:
        """SHA-256 of each frame's bytes: the same photograph is the same, whatever split it is named in."""
        return [hashlib.sha256(frame_HWC.tobytes()).digest() for frame_HWC in self.frames_BHWC]

    @property
    def has_labels(self) -> bool:
        return bool((self.labels_B >= 0).all())


def read_split(folder: Path, name: str, split: str, pixels: Pixels) -> Images:
    """One split of a data set at the size of `pixels`. Raises ConfigError where name, split or file is not there."""
    if name not in SETS and not (NAME.fullmatch(name) and (folder / name).is_dir()):
        wanted = f"one of {', '.join(SETS)} or a folder of photographs in {folder}"
        raise ConfigError(f"data must be {wanted}, got {name!r}")
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if name in ARCHIVES:
        first, stop = ARCHIVES[name][split]
        frames, labels = read_archive(_there(folder / name / "train.npz"), first, stop)
        return Images(frames_BHWC=_fitted(frames, pixels), labels_B=labels, split=split)
    if name not in SETS:
        frames, labels = read_folder(folder / name, split)
        return Images(frames_BHWC=_fitted(frames, pixels), labels_B=labels, split=split)
    frames = _imagenet(folder / "imagenet_tinydarknet", split)
    frames *= IMAGENET_REPEATS if (name, split) == ("photographs", "train") else 1
    first, stop = (SCENES_SHARE if name == "photographs" else MORE_SCENES)[split]
    frames += read_archive(_there(folder / "scenes/train.npz"), first, stop)[0]
    stacked = _fitted(frames, pixels)
    return Images(frames_BHWC=stacked, labels_B=np.full(len(stacked), -1, np.int64), split=split)


def read_archive(path: Path, first: int, stop: int) -> tuple[list[UInt8], Int64]:
    """Images `first` to `stop` of an archive of concatenated JPEG files."""
    with np.load(path, allow_pickle=False) as archive:
        jpeg, offset, label = archive["jpeg"], archive["offset"], archive["label"]
    frames = [_decoded(jpeg[offset[i] : offset[i + 1]].tobytes()) for i in range(first, stop)]
    return frames, label[first:stop].astype(np.int64)


def read_folder(folder: Path, split: str) -> tuple[list[UInt8], Int64]:
    """A split's share of a folder's photographs and their labels, -1 where no classes.txt names the sub-folders.

    Shuffled once and for all, so that the splits are alike. Raises ConfigError where a split is empty.
    """
    names = class_names(folder / "classes.txt")
    found: list[tuple[Path, int]] = []
    for label, below in enumerate([folder / name for name in names]) if names else [(-1, folder)]:
        paths = sorted(path for path in below.rglob("*") if path.suffix.lower() in SUFFIXES)
        found += [(path, label) for path in paths]
    order = np.random.default_rng(0).permutation(len(found))
    first, stop = (round(share * len(found)) for share in FOLDER[split])
    if first == stop:
        raise ConfigError(f"{folder} must hold photographs for train, tune and calibrate, got {len(found)} in all")
    chosen = [found[i] for i in order[first:stop]]
    frames = [_decoded(path.read_bytes()) for path, _ in chosen]
    return frames, np.array([label for _, label in chosen], np.int64)


def class_names(file: Path) -> list[str]:
    """A name a line; none where there is no such file. Raises ConfigError on one that is no text."""
    try:
        return file.read_text().splitlines() if file.is_file() else []
    except UnicodeDecodeError as error:
        raise ConfigError(f"class names must be text, a name a line, {file} is none: {error}") from error


def to_tensor(frames_BHWC: UInt8, pixels: Pixels) -> Tensor:
    """Bytes to what a stem reads: (B, H, W, 3) in 0..255 -> (B, 3, H, W), normalised."""
    x_BCHW = torch.from_numpy(frames_BHWC).permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    x_BCHW = (x_BCHW - torch.tensor(pixels.mean).view(shape)) / torch.tensor(pixels.std).view(shape)
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def shuffled(images: Images, batch: int) -> Iterator[tuple[UInt8, Int64]]:
    """One epoch in random order; a last batch that is not full is left out."""
    order = torch.randperm(len(images)).numpy()
    for start in range(0, len(order) - batch + 1, batch):
        chosen = order[start : start + batch]
        yield images.frames_BHWC[chosen], images.labels_B[chosen]


def augment(x_BCHW: Tensor) -> Tensor:
    """Flip, shift by up to a sixteenth of the side and change contrast and brightness, a draw a frame."""
    batch, _, height, width = x_BCHW.shape
    pad = max(1, min(height, width) // 16)
    padded = F.pad(x_BCHW, (pad, pad, pad, pad), mode="reflect")
    rows, columns = torch.randint(0, 2 * pad + 1, (2, batch)).tolist()
    flips = (torch.rand(batch) < 0.5).tolist()
    frames = []
    for i, (row, column, flip) in enumerate(zip(rows, columns, flips, strict=True)):
        frame = padded[i, :, row : row + height, column : column + width]
        frames.append(frame.flip(-1) if flip else frame)
    gain_B111 = 1 + 0.2 * (2 * torch.rand(batch, 1, 1, 1) - 1)
    lift_B111 = 0.2 * (2 * torch.rand(batch, 1, 1, 1) - 1)
    return (torch.stack(frames) * gain_B111 + lift_B111).contiguous(memory_format=torch.channels_last)


def _imagenet(folder: Path, split: str) -> list[UInt8]:
    with _there(folder / "train_labels.csv").open() as lines:
        names = [row["file"] for row in csv.DictReader(lines)]
    # Sorted by class: every k-th keeps the classes of all three splits alike.
    order = np.random.default_rng(0).permutation(len(names))
    first, stop = IMAGENET[split]
    return [_decoded((folder / "train_images" / Path(names[i]).name).read_bytes()) for i in order[first:stop]]


def _decoded(jpeg: bytes) -> UInt8:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def _fitted(frames: list[UInt8], pixels: Pixels) -> UInt8:
    return np.stack([codec_pixels.fit(frame, pixels.height, pixels.width, pixels.fit) for frame in frames])


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"training data must be at {path}; give its folder with --data or SPLITRT_DATA")
    return path
