"""Recipes: what is wrong with one is said with its key, before anything is trained."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch")

from splitrt.errors import ConfigError
from splitrt.train.filter import read_filter_recipe
from splitrt.train.keyword import read_spoken_recipe
from splitrt.train.language import read_language_recipe
from splitrt.train.moa import read_moa_recipe
from splitrt.train.recipe import read_recipe
from splitrt.train.train import build

pytestmark = pytest.mark.torch
ROOT = Path(__file__).resolve().parents[2]
PHOTOS = (ROOT / "recipes/photos.toml").read_text()
RESNET = (ROOT / "recipes/resnet20.toml").read_text()
ENSEMBLE = (ROOT / "recipes/resnet32.toml").read_text()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_recipe(written(tmp_path, text))
    return str(caught.value)


def replaced(text: str, given: str, instead: str) -> str:
    assert given in text
    return text.replace(given, instead)


@pytest.mark.parametrize(
    ("given", "instead", "wanted"),
    [
        ('family = "mobilenet"', 'family = "mobilnet"', "did you mean 'mobilenet'"),
        ("widths = [1, 2, 4, 8]", "widths = [2, 1]", "rise strictly, got [2, 1]"),
        ("widths = [1, 2, 4, 8]", "widths = [0, 1]", "positive"),
        ("bits = [2, 3, 4]", "bits = [9]", "among 1 to 8 and rise, got [9]"),
        ("bits = [2, 3, 4]", "bits = [4, 2]", "among 1 to 8 and rise, got [4, 2]"),
        ("bits = [2, 3, 4]", "bits = []", "seam.bits"),
        ("epochs = 36", "epochs = -1", "whole.epochs"),
        ("epochs = 36", 'epochs = "many"', "whole.epochs"),
        ("batch = 64", "batch = 1", "whole.batch"),
        ("std = [0.25, 0.25, 0.25]", "std = [0.25, 0.0, 0.25]", "std must be above zero"),
        ("seed = 0", "seed = ", "not valid TOML"),
        ('name = "photos"', 'name = "../photos"', "name"),
        ('method = "ghnd"', 'method = "kd"', "bottleneck.method"),
        ("rate_weights = [0.1, 0.02]", "rate_weights = [0.1]", "rate_weights must be one number"),
        ("rate_weights = [0.1, 0.02]", "rate_weights = [0.1, -1]", "rate_weights must be one number from 0 up"),
        ("epsilon = 0.02", "epsilon = 0.0", "exits.epsilon"),
        ("delta = 0.1", "delta = 1.0", "exits.delta"),
        ("chain = [{channels = 64, blocks = 2}, ", "chain = [{channels = 0, blocks = 2}, ", "exits.chain.0.channels"),
        ("whole_weight = 0.3", "whole_weight = -1", "exits.whole_weight"),
        ("bits = [2, 4]", "bits = [4, 2]", "bottleneck.bits must rise strictly from 1 to 8, got [4, 2]"),
    ],
)
def test_a_wrong_recipe_is_refused_by_the_name_of_what_is_wrong(
    tmp_path: Path, given: str, instead: str, wanted: str
) -> None:
    assert wanted in refused(tmp_path, replaced(PHOTOS, given, instead))


@pytest.mark.parametrize(
    ("table", "wrong", "place", "meant"),
    [
        ("", "familly", "familly", "family"),
        ("seam", "widhts", "seam.widhts", "widths"),
        ("seam", "decoder_hiden", "seam.decoder_hiden", "decoder_hidden"),
        ("exits", "whole_wieght", "exits.whole_wieght", "whole_weight"),
        ("bottleneck", "rate_weight", "bottleneck.rate_weight", "rate_weights"),
        ("bottleneck", "leraning_rate", "bottleneck.leraning_rate", "learning_rate"),
        ("finetune", "label_wieght", "finetune.label_wieght", "label_weight"),
        ("pixels", "hight", "pixels.hight", "height"),
    ],
)
def test_an_unknown_key_names_its_table_and_the_nearest(
    tmp_path: Path, table: str, wrong: str, place: str, meant: str
) -> None:
    line = f"{wrong} = 1\n"
    text = PHOTOS.replace(f"[{table}]\n", f"[{table}]\n{line}") if table else line + PHOTOS
    message = refused(tmp_path, text)
    assert f"unknown key '{place}'" in message
    assert f"did you mean '{meant}'?" in message


def test_an_unknown_key_like_no_other_gets_the_known_ones_and_no_hint(tmp_path: Path) -> None:
    message = refused(tmp_path, replaced(PHOTOS, "[finetune]\n", "[finetune]\nzzz = 1\n"))
    assert "wanted one of answer_weight, batch, epochs, label_weight" in message
    assert "did you mean" not in message


def test_an_undivided_model_comes_from_one_place(tmp_path: Path) -> None:
    pretrained = '\n[pretrained]\nweights = "some/where.safetensors"\n'
    whole = PHOTOS[PHOTOS.index("[whole]") : PHOTOS.index("[bottleneck]")]
    photos = replaced(PHOTOS, "whole_weight = 0.3", "")
    for text in (photos + pretrained, replaced(photos, whole, "")):
        message = refused(tmp_path, text)
        assert "either [whole], to train the undivided model, or [pretrained]" in message
    read_recipe(written(tmp_path, replaced(photos, whole, "") + pretrained))
    message = refused(tmp_path, replaced(PHOTOS, whole, "") + pretrained)
    assert "exits.whole_weight is a share of [whole]'s loss: with [pretrained] it must be 0" in message


@pytest.mark.parametrize("weights", ["/etc/passwd", "../x.safetensors", "weights.pt", "a/../b.safetensors", ""])
def test_weights_are_a_safetensors_file_of_the_data_folder(tmp_path: Path, weights: str) -> None:
    given = 'weights = "cifar10/resnet20.safetensors"'
    assert "pretrained.weights" in refused(tmp_path, replaced(RESNET, given, f'weights = "{weights}"'))


@pytest.mark.parametrize("served", [[1, 2], [2, 5], [8]])
def test_depths_that_are_served_lie_within_those_that_are_trained(tmp_path: Path, served: list[int]) -> None:
    message = refused(tmp_path, replaced(PHOTOS, "bits = [2, 3, 4]", f"bits = {served}"))
    assert f"seam.bits must lie within bottleneck.bits [2, 4], got {served}" in message


def test_depths_between_trained_ones_may_be_served(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path, replaced(PHOTOS, "bits = [2, 3, 4]", "bits = [3]"))).seam.bits == (3,)


def test_widths_that_are_trained_are_widths_of_the_seam(tmp_path: Path) -> None:
    message = refused(tmp_path, replaced(PHOTOS, 'method = "ghnd"', 'method = "ghnd"\nwidths = [1, 3]'))
    assert "bottleneck.widths must be among seam.widths [1, 2, 4, 8], got [1, 3]" in message


@pytest.mark.parametrize(
    ("given", "instead"),
    [("widths = [1, 2, 3]", "widths = [1, 2, 4]"), ("widths = [1, 2, 3]", "widths = [2, 3]"), ("channels = 6", "")],
)
def test_an_ensemble_s_widths_are_its_members(tmp_path: Path, given: str, instead: str) -> None:
    assert "an ensemble needs channels above 0 and widths 1, 2, .. n" in refused(
        tmp_path, replaced(ENSEMBLE, given, instead)
    )


def test_an_argument_that_the_family_does_not_take_is_refused(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, PHOTOS.replace("classes = 6", "classes = 6\ndepth = 20")))
    with pytest.raises(ConfigError, match="depth"):
        build(recipe)


@pytest.mark.parametrize(("cut", "nearest"), [(3, 2), (0, 1), (-7, 1), (99, 2)])
def test_an_impossible_cut_names_the_nearest(tmp_path: Path, cut: int, nearest: int) -> None:
    recipe = read_recipe(written(tmp_path, replaced(RESNET, "cut = 2", f"cut = {cut}")))
    with pytest.raises(ConfigError, match=rf"resnet\.cut must be 1 or 2 .*, got {cut}; the nearest is {nearest}"):
        build(recipe)


def test_every_committed_recipe_reads_and_builds() -> None:
    recipes = sorted((ROOT / "recipes").glob("*.toml"))
    frames = [path for path in recipes if "family" in tomllib.loads(path.read_text())]
    assert len(frames) >= 5
    for path in frames:
        build(read_recipe(path))
    for path in set(recipes) - set(frames):
        table = tomllib.loads(path.read_text())
        if table.get("kind") == "moa":
            read_moa_recipe(path)
        elif "words" in table:
            read_spoken_recipe(path)
        elif "bundle" in table:
            read_filter_recipe(path)
        else:
            read_language_recipe(path)


def test_a_key_that_is_not_known_is_named_in_a_row_of_a_table_as_well(tmp_path: Path) -> None:
    wrong = replaced(PHOTOS, "chain = [{channels = 64, blocks = 2}, ", "chain = [{channels = 64, blocs = 2}, ")
    assert "unknown key 'exits.chain.0.blocs'" in refused(tmp_path, wrong)
    assert "did you mean 'blocks'" in refused(tmp_path, wrong)


def test_what_cannot_be_read_as_a_recipe_is_refused(tmp_path: Path) -> None:
    for text in (f"{PHOTOS}\nseed = {'1' * 5000}", f"seed = {'1' * 5000}"):
        assert "is not valid TOML" in refused(tmp_path, text)
    with pytest.raises(ConfigError, match="must be a readable TOML file"):
        read_recipe(tmp_path)
