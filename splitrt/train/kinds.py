"""The kinds of recipe, told apart by what they name: `words` are spoken, a `bundle` gets a gate before it, `kind` is
language, or a drafter for one (moa); anything else is a model to train and split.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from splitrt.errors import ConfigError
from splitrt.train.filter import make_filter, read_filter_recipe
from splitrt.train.keyword import make_keyword, read_spoken_recipe
from splitrt.train.language import is_language_recipe, read_language_recipe, train_language
from splitrt.train.moa import is_moa_recipe, read_moa_recipe, train_moa
from splitrt.train.recipe import read_recipe
from splitrt.train.train import train
from splitrt.watch import Watch


def make(path: Path, data: Path, out: Path, watch: Watch, seed: int | None = None) -> Path:
    """The recipe's bundle; `seed` in place of the recipe's. Raises ConfigError where the file is no recipe."""
    change = {} if seed is None else {"seed": seed}
    if is_language_recipe(path):
        return train_language(read_language_recipe(path).model_copy(update=change), data, out, watch)
    if is_moa_recipe(path):
        return train_moa(read_moa_recipe(path).model_copy(update=change), data, out, watch)
    kind = _keys(path)
    if "words" in kind:
        return make_keyword(read_spoken_recipe(path).model_copy(update=change), data, out, watch)
    if "bundle" in kind:
        return make_filter(read_filter_recipe(path).model_copy(update=change), data, out, watch)
    return train(read_recipe(path).model_copy(update=change), data, out, watch)


def _keys(path: Path) -> set[str]:
    """None of a file that cannot be read: its reader says what is wrong with it."""
    try:
        return set(tomllib.loads(path.read_text()))
    except OSError:
        return set()
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
