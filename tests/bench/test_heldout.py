"""Test images that training could see are no test."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from splitrt.bench.heldout import HeldOut, read_held_out
from splitrt.bundle import Bundle
from splitrt.codec.pixels import to_jpeg
from splitrt.errors import ConfigError
from splitrt.manifest import Output


def write_archive(path: Path, seeds: list[int]) -> None:
    jpegs = [to_jpeg(np.random.default_rng(s).integers(0, 256, (16, 16, 3), dtype=np.uint8), 90) for s in seeds]
    offset = np.cumsum([0, *(len(jpeg) for jpeg in jpegs)])
    path.parent.mkdir(exist_ok=True)
    np.savez(path, jpeg=np.frombuffer(b"".join(jpegs), np.uint8), offset=offset, label=np.zeros(len(seeds), np.uint8))


def test_a_training_image_among_the_test_images_is_refused(photos: Bundle, tmp_path: Path) -> None:
    write_archive(tmp_path / "scenes/train.npz", [1, 2, 3])
    write_archive(tmp_path / "scenes/test.npz", [4, 2])
    with pytest.raises(ConfigError, match=r"test\.npz must hold no image of train\.npz"):
        read_held_out(tmp_path, photos, None)


def test_other_images_are_read(photos: Bundle, tmp_path: Path) -> None:
    write_archive(tmp_path / "scenes/train.npz", [1, 2, 3])
    write_archive(tmp_path / "scenes/test.npz", [4, 5])
    assert len(read_held_out(tmp_path, photos, None).frames) == 2
    assert len(read_held_out(tmp_path, photos, 1).frames) == 1


def test_agreement_counts_the_undivided_models_answers_and_accuracy_the_labels() -> None:
    outputs = [np.eye(3)[k] for k in (0, 1, 2, 2)]
    tests = HeldOut(frames=[], labels=[0, 0, 0, 2], output=Output(kind="classes"), by_agreement=True)
    assert tests.accuracy(outputs) == 0.5
    assert tests.score(outputs, [*outputs[:3], np.eye(3)[0]]) == 0.75
    low, high = dataclasses.replace(tests, by_agreement=False).interval(outputs)
    assert 0 <= low <= 0.5 <= high <= 1
