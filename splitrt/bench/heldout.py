"""Test images of each data set, held out: no recipe can read them. And how well outputs answer for them.

Shape letters: H W space, N outputs, K candidates, T true boxes.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import pixels
from splitrt.detections import agreement, average_precision, nms
from splitrt.errors import ConfigError
from splitrt.manifest import Output

UInt8 = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

FAINT = 0.01  # score from which a candidate counts as found
RESAMPLES = 50  # of the bootstrap
IMAGENET, COCO = "imagenet_tinydarknet", "coco_fastestdet"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Frames and what is right for them: class numbers, or each frame's boxes (T, 5)."""

    frames: list[UInt8]
    labels: Sequence[Any]
    output: Output
    by_agreement: bool  # scored against the undivided model, as the training data had no labels either

    def score(self, given: Sequence[Array], whole: Sequence[Array]) -> float:
        """What points are compared at: accuracy, or agreement with the undivided model."""
        if not self.by_agreement:
            return self.accuracy(given)
        if self.output.kind == "boxes":
            return agreement(self._found(given), self._found(whole))
        return float(np.mean([one.argmax() == two.argmax() for one, two in zip(given, whole, strict=True)]))

    def accuracy(self, given: Sequence[Array]) -> float:
        """Against the labels: top-1, or average precision at an overlap of 0.5."""
        return self._right(self._answers(given), self.labels)

    def interval(self, given: Sequence[Array]) -> tuple[float, float]:
        """95 % bootstrap interval of the accuracy over images."""
        draws, answers, found = np.random.default_rng(0), self._answers(given), []
        for _ in range(RESAMPLES):
            chosen = draws.integers(0, len(given), len(given))
            found.append(self._right([answers[i] for i in chosen], [self.labels[i] for i in chosen]))
        low, high = np.percentile(found, [2.5, 97.5])
        return float(low), float(high)

    def _answers(self, outputs: Sequence[Array]) -> list[Any]:
        """Each frame's boxes, or its class."""
        return self._found(outputs) if self.output.kind == "boxes" else [one.argmax() for one in outputs]

    def _right(self, answers: Sequence[Any], labels: Sequence[Any]) -> float:
        if self.output.kind == "boxes":
            return average_precision(answers, list(labels))
        return float(np.mean([one == right for one, right in zip(answers, labels, strict=True)]))

    def _found(self, outputs: Sequence[Array]) -> list[Array]:
        return [nms(candidates_K6, self.output.nms_iou, FAINT) for candidates_K6 in outputs]


def read_held_out(data: Path, bundle: Bundle, most: int | None) -> HeldOut:
    """The test images that belong to the data a bundle was made on. Raises ConfigError where they are not there,
    or where an image of theirs is one that training could see.
    """
    name, output = bundle.calibration.data, bundle.manifest.output
    if name != "photographs":
        frames, labels = unseen(data / name, most)
        return HeldOut(frames=frames, labels=labels, output=output, by_agreement=False)
    if output.kind == "boxes":
        rows = _table(data / COCO / "boxes.csv")
        names = sorted({row["file"] for row in rows})[:most]
        boxes = {name: [[*(float(row[k]) for k in ("x1", "y1", "x2", "y2", "class_id"))] for row in rows
                        if row["file"] == name] for name in names}  # fmt: skip
        files, truth = [f"images/{name}" for name in names], [np.array(boxes[name]) for name in names]
        folder, right = COCO, list[Any](truth)
    else:
        rows = _table(data / IMAGENET / "labels.csv")[:most]
        files, folder, right = [row["file"] for row in rows], IMAGENET, [int(row["class_index"]) for row in rows]
    frames = [pixels.from_jpeg((data / folder / file).read_bytes()) for file in files]
    return HeldOut(frames=frames, labels=right, output=output, by_agreement=True)


def unseen(folder: Path, most: int | None) -> tuple[list[UInt8], list[int]]:
    """Frames and labels of a data set's test.npz. Raises ConfigError where train.npz holds one of them."""
    images, labels = {}, {}
    for part in ("train", "test"):
        path = folder / f"{part}.npz"
        if not path.is_file():
            raise ConfigError(f"test images must be at {path}")
        with np.load(path, allow_pickle=False) as archive:
            jpeg, offset, labels[part] = archive["jpeg"], archive["offset"], archive["label"]
        images[part] = [jpeg[start:stop].tobytes() for start, stop in zip(offset[:-1], offset[1:], strict=True)]
    seen = {hashlib.sha256(image).digest() for image in images["train"]}
    if any(hashlib.sha256(image).digest() in seen for image in images["test"]):
        raise ConfigError(f"{folder.name}/test.npz must hold no image of train.npz: that is no test")
    chosen = images["test"][:most]
    return [pixels.from_jpeg(image) for image in chosen], labels["test"][: len(chosen)].astype(int).tolist()


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ConfigError(f"test images must be listed at {path}")
    with path.open() as lines:
        return list(csv.DictReader(lines))
