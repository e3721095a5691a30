"""A recipe: everything that decides what `splitrt train` makes, in one TOML file.

Unknown keys are refused. The numbers of a recipe and its seed are copied into the bundle's card.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from splitrt import families
from splitrt.errors import ConfigError
from splitrt.manifest import Branch, Output, Pixels
from splitrt.nn.bottleneck import Bottleneck


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Table):
    """One phase of training: AdamW under a one-cycle learning rate."""

    epochs: int = Field(ge=0)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)


class WholePhase(Schedule):
    """The undivided model on labels, and the exits with it where they have a share of the loss."""

    label_smoothing: float = Field(0.05, ge=0, lt=1)


class Pretrained(Table):
    """The undivided model from published weights instead."""

    weights: str = Field(pattern=r"^[\w-]+(/[\w-]+)*\.safetensors$")  # a file in the data folder


class BottleneckPhase(Schedule):
    """Encoder, decoder and prior, distilled from the undivided model; stem and body stay as they are.

    hnd: the decoder's output against the stage it stands for; ghnd: every stage after it and the answers too
    (Matsubara et al., arXiv:2007.15818). Both without labels unless label_weight asks for them.
    """

    method: Literal["hnd", "ghnd"] = "ghnd"
    widths: tuple[int, ...] = ()  # those that are trained; none named: all of the seam's
    bits: tuple[int, ...] = (2, 4)  # depths that are trained, each with gains of its own
    rate_weights: tuple[float, ...] = (0.1, 0.02)  # price of a bit a symbol, for each of them
    answer_weight: float = Field(1.0, ge=0)
    label_weight: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _priced(self) -> BottleneckPhase:
        if list(self.bits) != sorted(set(self.bits)) or not self.bits or not {*self.bits} <= {*range(1, 9)}:
            raise ValueError(f"bottleneck.bits must rise strictly from 1 to 8, got {list(self.bits)}")
        if len(self.rate_weights) != len(self.bits) or min(self.rate_weights) < 0:
            raise ValueError(f"bottleneck.rate_weights must be one number from 0 up for each of bits {list(self.bits)}")
        return self


class FinetunePhase(Schedule):
    """Decoder and body learn on, the encoder frozen (as in BottleFit: Matsubara et al., arXiv:2201.02693)."""

    answer_weight: float = Field(1.0, ge=0)
    label_weight: float = Field(0.3, ge=0)


class ExitsPhase(Schedule):
    """Exits after the stem: their sizes, their training, and what is promised of them.

    whole_weight: share of each exit's loss in [whole]'s, so that the stem learns for them (BranchyNet uses 1); epochs:
    on their own after it, the stem as it is, taught by the undivided model's answers (and labels, by their weight).
    """

    epochs: int = Field(0, ge=0)
    chain: tuple[Branch, ...] = Field(min_length=1, max_length=8)  # cheap first; each reads what the one before carries
    whole_weight: float = Field(0.0, ge=0)
    answer_weight: float = Field(1.0, ge=0)
    label_weight: float = Field(0.0, ge=0)
    confidence: Literal["top1", "entropy", "margin"] = "top1"
    epsilon: float = Field(0.02, gt=0, lt=1)  # most accuracy that voluntary exits may cost,
    delta: float = Field(0.1, gt=0, lt=1)  # but for this chance of calibration images that flatter


class SeamTable(Table):
    """form: nested or ensemble (see splitrt.nn.bottleneck), or plain: the features themselves, nothing trained."""

    form: Literal["nested", "ensemble", "plain"] = "nested"
    widths: tuple[int, ...]
    channels: int = 0  # of an ensemble
    bits: tuple[int, ...] = (2, 3, 4)  # all that are served: those between trained ones get gains between theirs
    hidden: int = Field(16, ge=1)
    decoder_hidden: int = Field(96, ge=1)

    @field_validator("widths")
    @classmethod
    def _rising(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1:
            raise ValueError(f"seam.widths must be positive and rise strictly, got {list(widths)}")
        return widths

    @field_validator("bits")
    @classmethod
    def _known(cls, bits: tuple[int, ...]) -> tuple[int, ...]:
        if not bits or list(bits) != sorted(set(bits)) or not set(bits) <= {*range(1, 9)}:
            raise ValueError(f"seam.bits must be among 1 to 8 and rise, got {list(bits)}")
        return bits

    def bottleneck(self) -> Bottleneck | None:
        """Raises ConfigError where form, widths and channels do not go together."""
        if self.form == "plain":
            return None
        return Bottleneck(
            form=self.form,
            widths=self.widths,
            channels=self.channels,
            hidden=self.hidden,
            decoder_hidden=self.decoder_hidden,
        )


class Recipe(Table):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    version: str = Field(pattern=r"^[0-9A-Za-z.]{1,20}$")
    family: str
    seed: int = 0
    data: str = "scenes"
    labels: str | None = None  # file of class names in the data folder; none: the data set's own
    model: dict[str, Any] = {}  # arguments of both halves
    head: dict[str, Any] = {}
    tail: dict[str, Any] = {}
    pixels: Pixels
    output: Output = Output(kind="classes")  # labels come from the data set
    seam: SeamTable
    whole: WholePhase | None = None
    pretrained: Pretrained | None = None
    bottleneck: BottleneckPhase = BottleneckPhase(epochs=0)
    finetune: FinetunePhase | None = None
    exits: ExitsPhase | None = None

    @model_validator(mode="after")
    def _one_teacher(self) -> Recipe:
        if (self.whole is None) == (self.pretrained is None):
            raise ValueError("a recipe needs either [whole], to train the undivided model, or [pretrained]")
        if self.exits is not None and self.exits.whole_weight and self.whole is None:
            raise ValueError("exits.whole_weight is a share of [whole]'s loss: with [pretrained] it must be 0")
        if not set(self.bottleneck.widths) <= set(self.seam.widths):
            wanted, given = list(self.seam.widths), list(self.bottleneck.widths)
            raise ValueError(f"bottleneck.widths must be among seam.widths {wanted}, got {given}")
        trained, served = self.bottleneck.bits, self.seam.bits
        if self.seam.form != "plain" and not (trained[0] <= served[0] and served[-1] <= trained[-1]):
            raise ValueError(f"seam.bits must lie within bottleneck.bits {list(trained)}, got {list(served)}")
        return self


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises ConfigError with the file, the key, what was given and wanted."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"recipe must be a readable TOML file, got {path}: {error.strerror}") from None
    except ValueError as error:  # not TOMLDecodeError alone: a number may have too many digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return check_recipe(table, str(path))


def check_recipe(table: dict[str, Any], origin: str) -> Recipe:
    """Raises ConfigError with the origin, the key, what was given and wanted."""
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_first(error)}") from error
    recipe.seam.bottleneck()
    families.head_module(recipe.family)
    return recipe


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        said = problem["msg"].removeprefix("Value error, ")
        given = f", got {problem['input']!r}" if problem["loc"] and ", got " not in said else ""
        return f"{place}: {said}{given}".removeprefix(": ")
    known = _known_keys(problem["loc"])
    near = get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {place!r}, wanted one of {', '.join(known)}{hint}"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    table: Any = Recipe
    for part in loc[:-1]:
        if isinstance(part, int):
            continue  # a row of the table before it
        kinds = table.model_fields[part].annotation
        table = next(kind for kind in getattr(kinds, "__args__", (kinds,)) if kind is not type(None))
    return sorted(table.model_fields)
