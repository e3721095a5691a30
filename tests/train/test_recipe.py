"""Recipes: what is wrong with one is said with its key, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from splitrt.errors import ConfigError
from splitrt.train.data import SPLITS, read_split
from splitrt.train.recipe import read_recipe
from splitrt.train.train import build

pytestmark = pytest.mark.torch
ROOT = Path(__file__).resolve().parents[2]
PHOTOS = (ROOT / "recipes/photos.toml").read_text()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("given", "instead", "wanted"),
    [
        ("exit_weight", "exit_wieght", "did you mean 'exit_weight'"),
        ('family = "mobilenet"', 'family = "mobilnet"', "did you mean 'mobilenet'"),
        ("widths = [1, 2, 4, 8]", "widths = [2, 1]", "rise strictly"),
        ("bits = [2, 4, 8]", "bits = [3]", "among 2, 4 and 8"),
        ("epochs = 36", "epochs = -1", "epochs"),
        ("seed = 0", "seed = ", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_the_name_of_what_is_wrong(
    tmp_path: Path, given: str, instead: str, wanted: str
) -> None:
    assert given in PHOTOS
    with pytest.raises(ConfigError, match=wanted):
        read_recipe(written(tmp_path, PHOTOS.replace(given, instead)))


def test_an_argument_that_the_family_does_not_take_is_refused(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, PHOTOS.replace("classes = 6", "classes = 6\ndepth = 20")))
    with pytest.raises(ConfigError, match="depth"):
        build(recipe)


def test_every_committed_recipe_reads_and_builds() -> None:
    recipes = sorted((ROOT / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        build(read_recipe(path))


def test_no_recipe_can_name_a_test_split() -> None:
    for name, splits in SPLITS.items():
        assert "test" not in splits
        with pytest.raises(ConfigError, match="split must be one of"):
            read_split(Path(), name, "test")


def test_splits_of_one_archive_do_not_overlap() -> None:
    for splits in SPLITS.values():
        bounds = sorted(splits.values())
        assert all(before[1] <= after[0] for before, after in zip(bounds, bounds[1:], strict=False))


def test_calibration_reads_the_images_that_its_split_names(data: Path) -> None:
    images = read_split(data, "scenes", "calibrate")
    assert len(images) == 1000
    assert images.frames_BHWC.shape == (1000, 128, 128, 3)
