"""A gate before a bundle that has none: a small classifier on its stem's features, everything else as it is.

Shape letters: N photographs, F feature channels, H W space, K candidates.
What it learns from is the data's labels, or, where the data has none, the bundle's own verdict: the answer of its
undivided model. Stem and verdicts run on the bundle's own graphs, so no family's module is needed.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch.nn import functional as F
from torch.optim import AdamW

from splitrt.bundle import Bundle, find_bundle
from splitrt.codec import pixels as codec_pixels
from splitrt.detections import nms
from splitrt.errors import ConfigError
from splitrt.manifest import Gate
from splitrt.nn.filter import Filter, FilterGraph, pooling
from splitrt.nn.gate import class_set, log_odds
from splitrt.onnx_session import open_session
from splitrt.policy.confidence import softmax
from splitrt.train.data import Images, read_split
from splitrt.train.gate import attach, certified, check_apart, split_digest
from splitrt.train.loop import groups, one_cycle
from splitrt.watch import Watch

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
VERDICTS = ("nothing", "something")  # classes of a filter that learns from verdicts
ANYTHING = "anything"  # a positive that every box is
BATCH = 50
TEMPERATURE = 2.0  # of the undivided model's answers as a filter learns them


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


class FilterRecipe(Table):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    version: str = Field(pattern=r"^[0-9A-Za-z.]{1,20}$")
    bundle: str  # by name, or its folder
    seed: int = 0
    data: Literal["scenes", "cifar10", "photographs", "unlabelled"]
    positives: tuple[str, ...] = Field(min_length=1)  # of the bundle's labels; or `anything`, of a detector
    answer: str = "nothing"
    gate: FilterPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A split as a filter sees it: pooled features (half precision), classes, what the undivided model makes of it."""

    features_NFHW: npt.NDArray[np.float16]
    labels_N: Int64
    beliefs_NC: Float32 | None = None  # P(class)


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
    labels = bundle.manifest.output.labels
    train, tune, calibrate = (
        read_split(data, recipe.data, split, bundle.manifest.photograph) for split in ("train", "tune", "calibrate")
    )
    train = train.some(recipe.gate.most)
    check_apart([*train.frames_BHWC, *tune.frames_BHWC], list(calibrate.frames_BHWC))
    names, wanted = (labels, recipe.positives) if train.has_labels else (VERDICTS, VERDICTS[1:])
    is_in_N = class_set(wanted, names)
    watcher = Eyes(bundle, recipe.positives)
    watch.line(f"gate: looking at {len(train)} photographs and their mirror images")
    learnt = watcher.see(train, mirrored=True, with_beliefs=recipe.gate.distil > 0)
    trained = train_filter(learnt, watcher.see(tune), is_in_N, recipe, watch)
    met = watcher.see(calibrate)
    odds_N, is_positive_N = odds_of(trained, met, is_in_N), is_in_N.numpy()[met.labels_N]
    digest = split_digest(list(calibrate.frames_BHWC))
    threshold, record = certified(odds_N, is_positive_N, recipe.gate.recall, recipe.gate.delta, digest)
    watch.line(f"gate: {record.lost} of {record.positives} positives and {record.stopped} of {record.negatives} others "
               f"stopped at P(nothing) {threshold:.4f}")  # fmt: skip
    rule = Gate(reads=("features",), threshold=threshold, answer=recipe.answer, positives=recipe.positives)
    features = torch.from_numpy(watcher.features(calibrate.frames_BHWC[0]))
    graph = FilterGraph(trained, watcher.pool, is_in_N)
    made = attach(bundle.folder, out / f"{recipe.name}-{recipe.version}", rule, record, [graph], [features])
    watch.line(f"written: {made}")
    return made


class Eyes:
    """A bundle's stem, and the verdicts of its undivided model."""

    def __init__(self, bundle: Bundle, positives: tuple[str, ...]) -> None:
        self._manifest = bundle.manifest
        self._stem = open_session(bundle.path("head/stem.onnx"))
        self._whole = open_session(bundle.path("whole.onnx"))
        self.positives = positives
        shape = self._stem.get_outputs()[0].shape
        self.pool = pooling(shape[2])

    def features(self, frame_HWC: UInt8) -> Float32:
        """(1, F, H, W)."""
        features_1FHW: Float32 = self._stem.run(None, {"frame": self._read(frame_HWC)})[0]
        return features_1FHW

    def pooled(self, frame_HWC: UInt8) -> Float32:
        """(F, H, W), as the filter reads them."""
        return F.avg_pool2d(torch.from_numpy(self.features(frame_HWC)), self.pool)[0].numpy()

    def verdict(self, frame_HWC: UInt8) -> int:
        """1 where the undivided model finds a positive."""
        output = self._manifest.output
        answer = self._whole.run(None, {"frame": self._read(frame_HWC)})[0][0]
        if output.kind != "boxes":
            return int(output.labels[int(answer.argmax())] in self.positives)
        found_N6 = nms(answer, output.nms_iou, output.min_score)
        named = {output.labels[int(number)] for number in found_N6[:, 5]}
        return int(bool(named) if ANYTHING in self.positives else not named.isdisjoint(self.positives))

    def belief(self, frame_HWC: UInt8) -> Float32:
        """P(class) by the undivided model, softened; of a detector, of VERDICTS: even at the score that counts."""
        output = self._manifest.output
        answer = self._whole.run(None, {"frame": self._read(frame_HWC)})[0][0]
        if output.kind != "boxes":
            return np.asarray(softmax(answer[None], TEMPERATURE)[0], np.float32)
        named = [output.labels.index(name) for name in self.positives if name != ANYTHING]
        scores = answer[np.isin(answer[:, 5], named), 4] if named else answer[:, 4]
        best = float(np.clip(scores.max(initial=0.0), 1e-3, 1 - 1e-3))
        odds = best / (1 - best) * (1 - output.min_score) / output.min_score
        return np.array([1 / (1 + odds), odds / (1 + odds)], np.float32)

    def see(self, images: Images, mirrored: bool = False, with_beliefs: bool = False) -> Seen:
        """mirrored: with each photograph's mirror image behind."""
        frames = list(images.frames_BHWC)
        labels_N = images.labels_B
        if not images.has_labels:
            labels_N = np.array([self.verdict(frame_HWC) for frame_HWC in frames], np.int64)
        if mirrored:
            frames += [frame_HWC[:, ::-1] for frame_HWC in frames]
            labels_N = np.concatenate([labels_N, labels_N])
        features = np.stack([self.pooled(frame_HWC).astype(np.float16) for frame_HWC in frames])
        beliefs = np.stack([self.belief(frame_HWC) for frame_HWC in frames]) if with_beliefs else None
        return Seen(features_NFHW=features, labels_N=labels_N, beliefs_NC=beliefs)

    def _read(self, frame_HWC: UInt8) -> Float32:
        wanted = self._manifest.photograph
        fitted = codec_pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
        return codec_pixels.normalise(fitted, wanted.mean, wanted.std)[None]


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
