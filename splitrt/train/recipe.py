"""A recipe: everything that decides what `splitrt train` makes, in one TOML file.

Unknown keys are refused. The numbers of a recipe and its seed are copied into the bundle's card.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from splitrt import families
from splitrt.errors import ConfigError


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Table):
    """One phase of training: AdamW under a one-cycle learning rate."""

    epochs: int = Field(ge=0)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)


class WholePhase(Schedule):
    """The undivided model with its exit, on labels."""

    label_smoothing: float = Field(0.05, ge=0, lt=1)
    exit_weight: float = Field(0.3, ge=0)  # share of the exit's own loss (BranchyNet uses 1)


class BottleneckPhase(Schedule):
    """Encoder, decoder and body, distilled from the undivided model with the stem frozen."""

    feature_weight: float = Field(1.0, ge=0)  # decoded features against the stem's, over their variance
    label_weight: float = Field(0.3, ge=0)  # 0: no labels are used


class SeamTable(Table):
    widths: tuple[int, ...]
    bits: tuple[int, ...] = (2, 4, 8)

    @field_validator("widths")
    @classmethod
    def _rising(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1:
            raise ValueError(f"seam.widths must be positive and rise strictly, got {list(widths)}")
        return widths

    @field_validator("bits")
    @classmethod
    def _known(cls, bits: tuple[int, ...]) -> tuple[int, ...]:
        if not bits or not set(bits) <= {2, 4, 8}:
            raise ValueError(f"seam.bits must be among 2, 4 and 8, got {list(bits)}")
        return bits


class Recipe(Table):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    version: str = Field(pattern=r"^[0-9A-Za-z.]{1,20}$")
    family: str
    seed: int = 0
    data: str = "scenes"
    model: dict[str, Any]  # arguments of both halves
    head: dict[str, Any] = {}
    tail: dict[str, Any] = {}
    seam: SeamTable
    whole: WholePhase
    bottleneck: BottleneckPhase


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises ConfigError with the file, the key, what was given and wanted."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"recipe must be a readable TOML file, got {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error)}") from error
    families.head_module(recipe.family)
    return recipe


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}, got {problem['input']!r}"
    known = _known_keys(problem["loc"])
    near = get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {place!r}, wanted one of {', '.join(known)}{hint}"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    table: Any = Recipe
    for part in loc[:-1]:
        table = table.model_fields[str(part)].annotation
    return sorted(table.model_fields)
