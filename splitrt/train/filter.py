"""A gate before a bundle that has none: a small network on its stem's features, everything else as it is.

Shape letters: N photographs, F feature channels, H W space, C classes.
What it learns from is the data's labels, or, where the data has none, the bundle's own verdict: the answer of its
undivided model. Before a detector it is a finder (splitrt.train.finder), else a classifier.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn
from torch.nn import functional as F
from torch.optim import AdamW

from splitrt.bundle import find_bundle
from splitrt.errors import ConfigError
from splitrt.manifest import Gate
from splitrt.nn import finder
from splitrt.nn.filter import Filter, FilterGraph, pooling
from splitrt.nn.finder import FinderGraph
from splitrt.nn.gate import class_set, log_odds
from splitrt.train.data import Images, read_split
from splitrt.train.eyes import Eyes, Float32, Seen
from splitrt.train.finder import found_odds, train_finder
from splitrt.train.gate import attach, certified, check_apart, split_digest
from splitrt.train.loop import groups, one_cycle
from splitrt.train.recipe import Schedule
from splitrt.watch import Watch

Bool = npt.NDArray[np.bool_]
VERDICTS = ("nothing", "something")  # classes of a filter that learns from verdicts
BATCH = 50


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FilterPhase(Table):
    epochs: int = Field(ge=1)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    width: int = Field(24, ge=4)
    distil: float = Field(0.0, ge=0, le=1)  # share of the undivided model's answers in what is learnt
    most: int = Field(1 << 20, ge=2)  # training photographs that are looked at
    recall: float = Field(0.97, gt=0, lt=1)  # to be certified
    delta: float = Field(0.1, gt=0, lt=1)

    @property
    def schedule(self) -> Schedule:
        return Schedule(**self.model_dump(include=set(Schedule.model_fields)))


class FilterRecipe(Table):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    version: str = Field(pattern=r"^[0-9A-Za-z.]{1,20}$")
    bundle: str  # by name, or its folder
    seed: int = 0
    data: Literal["scenes", "cifar10", "photographs", "unlabelled"]
    positives: tuple[str, ...] = Field(min_length=1)  # of the bundle's labels; or `anything`, of a detector
    answer: str = "nothing"
    gate: FilterPhase


def read_filter_recipe(path: Path) -> FilterRecipe:
    """Raises ConfigError with the file, the key, what was given and wanted."""
    try:
        return FilterRecipe.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise ConfigError(f"recipe must be a readable TOML file, got {path}: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def make_filter(recipe: FilterRecipe, data: Path, out: Path, watch: Watch) -> Path:
    """The bundle with its gate, under `out`. Raises ConfigError, CalibrationRefused."""
    bundle = find_bundle(recipe.bundle)
    train, tune, calibrate = (
        read_split(data, recipe.data, split, bundle.manifest.photograph) for split in ("train", "tune", "calibrate")
    )
    train = train.some(recipe.gate.most)
    check_apart([*train.frames_BHWC, *tune.frames_BHWC], list(calibrate.frames_BHWC))
    eyes = Eyes(bundle, recipe.positives)
    watch.line(f"gate: looking at {len(train)} photographs and their mirror images")
    make_graph = _find if bundle.manifest.output.kind == "boxes" else _tell_apart
    graph, odds_N, is_positive_N = make_graph(eyes, train, tune, calibrate, recipe, watch)
    digest = split_digest(list(calibrate.frames_BHWC))
    threshold, record = certified(odds_N, is_positive_N, recipe.gate.recall, recipe.gate.delta, digest)
    watch.line(f"gate: {record.lost} of {record.positives} positives and {record.stopped} of {record.negatives} others "
               f"stopped at P(nothing) {threshold:.4f}")  # fmt: skip
    rule = Gate(reads=("features",), threshold=threshold, answer=recipe.answer, positives=recipe.positives)
    features = torch.from_numpy(eyes.features(calibrate.frames_BHWC[0]))
    made = attach(bundle.folder, out / f"{recipe.name}-{recipe.version}", rule, record, [graph], [features])
    watch.line(f"written: {made}")
    return made


def _tell_apart(
    eyes: Eyes, train: Images, tune: Images, calibrate: Images, recipe: FilterRecipe, watch: Watch
) -> tuple[nn.Module, Float32, Bool]:
    """A filter's graph, and of the calibration split its odds_N and which are positives, is_positive_N."""
    if recipe.gate.distil and not train.has_labels:
        raise ConfigError(f"gate.distil mixes answers with labels, got {recipe.gate.distil:g} on data without labels")
    names, wanted = (eyes.labels, recipe.positives) if train.has_labels else (VERDICTS, VERDICTS[1:])
    is_in_N = class_set(wanted, names)
    learnt = eyes.see(train, mirrored=True, with_beliefs=recipe.gate.distil > 0)
    trained = train_filter(learnt, eyes.see(tune), is_in_N, recipe, watch)
    met = eyes.see(calibrate)
    graph = FilterGraph(trained, pooling(eyes.side), is_in_N)
    return graph, odds_of(trained, met, is_in_N), is_in_N.numpy()[met.labels_N]


def _find(
    eyes: Eyes, train: Images, tune: Images, calibrate: Images, recipe: FilterRecipe, watch: Watch
) -> tuple[nn.Module, Float32, Bool]:
    """The same of a finder, before a detector: its verdict on a photograph is its best score's."""
    phase, met = recipe.gate, eyes.search(calibrate)
    trained = train_finder(
        eyes.search(train, mirrored=True),
        eyes.search(tune),
        eyes.min_score,
        phase.schedule,
        phase.width,
        recipe.seed,
        watch,
    )
    graph = FinderGraph(trained, finder.pooling(eyes.side))
    return graph, found_odds(trained, met), met.best_N >= eyes.min_score


def train_filter(train: Seen, tune: Seen, is_in_N: torch.Tensor, recipe: FilterRecipe, watch: Watch) -> Filter:
    """Cross entropy over the classes and over the set. Raises ConfigError where training shows one side of it only."""
    phase, is_positive_N = recipe.gate, is_in_N.numpy()[train.labels_N]
    if is_positive_N.all() or not is_positive_N.any():
        raise ConfigError(f"a gate needs positives and others to learn from, got {int(is_positive_N.sum())} "
                          f"positives of {len(is_positive_N)}")  # fmt: skip
    torch.manual_seed(recipe.seed)
    targets = _targets(train, len(is_in_N), phase.distil)
    model = Filter(train.features_NFHW.shape[1], len(is_in_N), phase.width)
    optimiser = AdamW(groups([model], phase.weight_decay), lr=phase.learning_rate)
    steps_each = max(1, len(train.labels_N) // phase.batch)
    for epoch in range(phase.epochs):
        model.train()
        total, order = 0.0, torch.randperm(len(train.labels_N)).numpy()
        for step in range(steps_each):
            done = epoch * steps_each + step
            for group in optimiser.param_groups:
                group["lr"] = phase.learning_rate * one_cycle(done / (phase.epochs * steps_each))
            chosen = order[step * phase.batch : (step + 1) * phase.batch]
            features = torch.from_numpy(train.features_NFHW[chosen].astype(np.float32))
            wanted_BN, logits = targets[chosen], model(features)
            loss = F.cross_entropy(logits, wanted_BN, label_smoothing=0.05) + F.binary_cross_entropy_with_logits(
                log_odds(logits, is_in_N), wanted_BN[:, is_in_N].sum(1).clamp(max=1)
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach())
            watch.step("gate", done + 1, phase.epochs * steps_each)
        model.eval()
        right = (odds_of(model, tune, is_in_N) > 0) == is_in_N.numpy()[tune.labels_N]
        watch.line(f"gate {epoch + 1}/{phase.epochs}: loss {total / steps_each:.4g}, tune {right.mean():.4g}")
    return model


def _targets(train: Seen, classes: int, distil: float) -> torch.Tensor:
    """(N, C): the labels, and a share of the undivided model's answers (Hinton et al., 2015, arXiv:1503.02531)."""
    labels = F.one_hot(torch.from_numpy(train.labels_N), classes).float()
    if train.beliefs_NC is None:
        return labels
    return torch.lerp(labels, torch.from_numpy(train.beliefs_NC), distil)


@torch.no_grad()
def odds_of(model: Filter, seen: Seen, is_in_N: torch.Tensor) -> Float32:
    """(N,), in eval mode."""
    rows = []
    for start in range(0, len(seen.labels_N), BATCH):
        features = torch.from_numpy(seen.features_NFHW[start : start + BATCH].astype(np.float32))
        rows.append(log_odds(model(features), is_in_N).numpy())
    return np.concatenate(rows)
