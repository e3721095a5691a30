"""One command, three kinds of recipe: each goes to its maker, and a broken file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tiny import Heard

from splitrt.errors import ConfigError, ModelNotFound
from splitrt.train.kinds import make

pytestmark = pytest.mark.torch
FILTER = """
name = "x"
version = "1"
bundle = "no_such_bundle"
data = "scenes"
positives = ["street"]
[gate]
epochs = 1
"""


def asked(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    make(recipe, tmp_path, tmp_path / "out", Heard())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "recipe.toml is not valid TOML"),
        ('words = ["a", "b"]', "recipe.toml: name: Field required"),
        ('bundle = "photos"', "recipe.toml: name: Field required"),
        ('colour = "blue"', "recipe.toml: name: Field required"),
        (FILTER.replace("epochs = 1", "epochs = 0"), "gate.epochs"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        asked(tmp_path, text)


def test_a_gate_before_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no_such_bundle"):
        asked(tmp_path, FILTER)


def test_a_recipe_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable TOML file"):
        make(tmp_path / "none.toml", tmp_path, tmp_path, Heard())
