"""Splits that cannot be mixed up, and what training makes of photographs. Shape letters: B batch, C channels, H W."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image
from tiny import images_of, recipe_of

from splitrt.errors import ConfigError
from splitrt.manifest import Pixels
from splitrt.train.data import (
    ARCHIVES,
    IMAGENET,
    MORE_SCENES,
    SCENES_SHARE,
    SETS,
    SPLITS,
    augment,
    class_names,
    read_split,
    shuffled,
    to_tensor,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

PIXELS = Pixels(height=128, width=128, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_no_recipe_can_name_a_test_split(tmp_path: Path) -> None:
    assert "test" not in SPLITS
    for name in SETS:
        with pytest.raises(ConfigError, match="split must be one of train, tune, calibrate, got 'test'"):
            read_split(tmp_path, name, "test", PIXELS)


def test_a_data_set_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    sets = "scenes, cifar10, photographs, unlabelled"
    for name in ("faces", "../faces"):
        with pytest.raises(ConfigError, match=f"data must be one of {sets} or a folder of .*, got '{name}'"):
            read_split(tmp_path, name, "train", PIXELS)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Forty photographs of two classes, each of a colour of its own."""
    for number in range(40):
        folder = tmp_path / "faces" / ("glad" if number % 2 else "not so glad")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (6 * number, 0, 0)).save(folder / f"{number}.png")
    return tmp_path


def test_a_folder_of_photographs_is_split_without_overlap_and_labelled_by_its_folders(faces: Path) -> None:
    (faces / "faces/classes.txt").write_text("glad\nnot so glad\n")
    splits = {split: read_split(faces, "faces", split, PIXELS) for split in SPLITS}
    assert [len(splits[split]) for split in ("train", "tune", "calibrate")] == [28, 4, 8]
    digests = [digest for images in splits.values() for digest in images.digests()]
    assert len(set(digests)) == 40
    for images in splits.values():
        reds_B = np.rint(images.frames_BHWC[:, 0, 0, 0] / 6).astype(int)
        assert (images.labels_B == 1 - reds_B % 2).all()


def test_a_folder_without_a_list_of_classes_is_unlabelled(faces: Path) -> None:
    assert not read_split(faces, "faces", "train", PIXELS).has_labels


def test_a_folder_with_too_few_photographs_for_a_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "faces/one.png")
    with pytest.raises(ConfigError, match="must hold photographs for train, tune and calibrate, got 1 in all"):
        read_split(tmp_path, "faces", "tune", PIXELS)


@pytest.mark.parametrize("name", SETS)
def test_data_that_is_not_there_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"training data must be at {tmp_path}.*--data or SPLITRT_DATA"):
        read_split(tmp_path, name, "train", PIXELS)


@pytest.mark.parametrize("splits", [*ARCHIVES.values(), IMAGENET, SCENES_SHARE])
def test_splits_of_one_archive_do_not_overlap(splits: dict[str, tuple[int, int]]) -> None:
    assert set(splits) == set(SPLITS)
    bounds = sorted(splits.values())
    assert all(before[1] <= after[0] for before, after in zip(bounds, bounds[1:], strict=False))


def test_photographs_for_distillation_keep_to_the_splits_of_the_scenes_they_borrow() -> None:
    for shares in (SCENES_SHARE, MORE_SCENES):
        for split, (first, stop) in shares.items():
            low, high = ARCHIVES["scenes"][split]
            assert low <= first < stop <= high


@pytest.mark.parametrize(("name", "count"), [("scenes", 1000), ("cifar10", 2000), ("photographs", 100)])
def test_calibration_reads_the_images_that_its_split_names(data: Path, name: str, count: int) -> None:
    images = read_split(data, name, "calibrate", PIXELS)
    assert len(images) == count
    assert images.frames_BHWC.shape == (count, 128, 128, 3)
    assert images.split == "calibrate"
    assert images.has_labels == (name != "photographs")


def test_class_names_may_hold_spaces_and_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tree\ntraffic light\n")
    assert class_names(tmp_path / "classes.txt") == ["tree", "traffic light"]
    assert class_names(tmp_path / "none.txt") == []


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_epoch_shows_each_image_once_and_leaves_out_what_fills_no_batch() -> None:
    images = images_of("train", 22)
    torch.manual_seed(0)
    batches = list(shuffled(images, 5))
    assert [len(labels) for _, labels in batches] == [5] * 4
    shown = [frame.tobytes() for frames, _ in batches for frame in frames]
    assert len(set(shown)) == 20
    assert set(shown) <= {frame.tobytes() for frame in images.frames_BHWC}


def test_labels_stay_with_their_images() -> None:
    images = images_of("train", 40)
    labels = {frame.tobytes(): int(label) for frame, label in zip(images.frames_BHWC, images.labels_B, strict=True)}
    for frames, chosen in shuffled(images, 8):
        assert [labels[frame.tobytes()] for frame in frames] == chosen.tolist()


def test_pixels_are_normalised_as_the_device_does() -> None:
    from splitrt.codec import pixels

    wanted, images = recipe_of().pixels, images_of("train", 3)
    x_BCHW = to_tensor(images.frames_BHWC, wanted)
    for x_CHW, frame_HWC in zip(x_BCHW, images.frames_BHWC, strict=True):
        np.testing.assert_allclose(x_CHW.numpy(), pixels.normalise(frame_HWC, wanted.mean, wanted.std), atol=1e-6)


@pytest.mark.parametrize("side", [8, 16, 33])
def test_augmenting_keeps_the_shape_and_never_twice_the_same(side: int) -> None:
    torch.manual_seed(0)
    x_BCHW = torch.rand(1, 3, side, side).expand(6, -1, -1, -1)
    out_BCHW = augment(x_BCHW)
    assert out_BCHW.shape == x_BCHW.shape
    assert not any(torch.equal(out_BCHW[0], other) for other in out_BCHW[1:])


def test_class_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError, match="a name a line"):
        class_names(tmp_path / "classes.txt")
