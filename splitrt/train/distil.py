"""Distilling a bottleneck into a network: encoder, decoder and prior first, then decoder and body.

Shape letters: B batch, C H W frames, F features, R restored, Z bottleneck channels, N outputs, h w bottleneck space.

Every step trains the narrowest width, one between at random and the widest (the sandwich rule: Yu and Huang, ICCV 2019,
arXiv:1903.05134), each at a bit depth of its own, under the quantiser that the codec will use, and prices their
symbols under the prior. Errors of features are taken relative to the teacher's variance, so that one learning
rate serves every family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.nn.bottleneck import SlimEncoder, widen
from splitrt.nn.split import Body, Head, Tail, Whole
from splitrt.nn.tiers import Tiers
from splitrt.train.checkpoint import Curve
from splitrt.train.data import Images
from splitrt.train.loop import fit
from splitrt.train.recipe import BottleneckPhase, FinetunePhase, Recipe
from splitrt.train.score import score
from splitrt.watch import Watch

LEAST_VARIANCE = 1e-3  # of a map's channel: one that hardly ever says anything is not made loud


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A network with its bottleneck, its tiers, and its undivided teacher."""

    head: Head
    tail: Tail
    whole: Whole
    tiers: Tiers

    @property
    def encoder(self) -> SlimEncoder:
        assert isinstance(self.head.encoder, SlimEncoder)
        return self.head.encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What the undivided model says of a batch: features at the cut, and what follows after each stage."""

    features_BFHW: Tensor
    wanted: list[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A split that learns: what a batch costs it.

    places: of the widths that are trained, narrow to wide; prices: of a bit a symbol at each depth; is_deep: stages
    after the decoder, and answers, count too.
    """

    split: Split
    phase: BottleneckPhase | FinetunePhase
    places: Sequence[int]
    prices: Mapping[int, float]
    kind: str
    is_deep: bool

    @torch.no_grad()
    def lesson(self, x_BCHW: Tensor) -> Lesson:
        """By its teacher."""
        whole, features_BFHW = self.split.whole, self.split.head.stem(x_BCHW)
        restored_BRhw = whole.replaced(features_BFHW)
        deeper = cast(Body, whole.body).stages(restored_BRhw) if self.is_deep else []
        return Lesson(features_BFHW=features_BFHW, wanted=[restored_BRhw, *deeper])

    def loss(self, lesson: Lesson, labels_B: Tensor) -> Tensor:
        """Distance to the teacher after each stage, in answers, in labels, and the rate at its price."""
        split, phase, depths = self.split, self.phase, list(self.prices)
        # Quantiser and prior in full precision: eight bits of mantissa are no more than the finest tier has.
        z_of = [z_BZhw.float() for z_BZhw in split.encoder.every_width(lesson.features_BFHW)]
        widest_symbols = z_of[-1][0].numel()
        seen, price, chosen = [], torch.zeros(()), _sandwich(self.places)
        for place in chosen:
            bits, z_BZhw = depths[_draw(len(depths))], z_of[place]
            if self.prices[bits]:
                price = price + self.prices[bits] * split.tiers.rate(z_BZhw, bits).mean() / widest_symbols
            seen.append(widen(split.tiers.seen(z_BZhw, bits), split.tiers.channels))
        place_B = torch.tensor(chosen).repeat_interleave(len(labels_B))
        decoded_BRhw = split.tail.decoder(torch.cat(seen), place_B)
        body = cast(Body, split.tail.body)
        given = [decoded_BRhw, *(body.stages(decoded_BRhw) if self.is_deep else ())]
        loss = _features(given[:-1] if self.is_deep else given, lesson.wanted, len(seen)) + price / len(seen)
        if self.is_deep:
            loss = loss + phase.answer_weight * _answers(given[-1], lesson.wanted[-1], len(seen), self.kind)
        if phase.label_weight:
            answers = given[-1] if self.is_deep else body(decoded_BRhw)
            loss = loss + phase.label_weight * F.cross_entropy(answers.float(), labels_B.repeat(len(seen)))
        return loss


def bottleneck_student(split: Split, recipe: Recipe) -> Student:
    """What learns while a bottleneck is trained; stem, undivided model and body are frozen."""
    phase = recipe.bottleneck
    for frozen in (split.head.stem, split.whole, split.tail.body):
        freeze(frozen)
    return Student(
        split=split,
        phase=phase,
        places=[recipe.seam.widths.index(width) for width in phase.widths or recipe.seam.widths],
        prices=dict(zip(phase.bits, phase.rate_weights, strict=True)),
        kind=recipe.output.kind,
        is_deep=phase.method == "ghnd",
    )


def train_bottleneck(
    split: Split, train: Images, tune: Images, recipe: Recipe, watch: Watch, checkpoint: Path | None = None
) -> Curve:
    """Train encoder, decoder and tiers in place so that the split answers like the whole. Stem and body stay."""
    student = bottleneck_student(split, recipe)
    parts = [split.encoder, split.tail.decoder, split.tiers]
    return _run("bottleneck", parts, student, train, tune, recipe, watch, checkpoint)


def finetune(
    split: Split, train: Images, tune: Images, recipe: Recipe, watch: Watch, checkpoint: Path | None = None
) -> Curve:
    """Train decoder and body on, in place, for the bottleneck as it is, at every depth that will be served."""
    phase = recipe.finetune
    assert phase is not None
    for frozen in (split.head, split.whole, split.tiers):
        freeze(frozen)
    for parameter in split.tail.parameters():
        parameter.requires_grad_(True)
    student = Student(
        split=split,
        phase=phase,
        places=range(len(recipe.seam.widths)),
        prices=dict.fromkeys(recipe.seam.bits, 0.0),
        kind=recipe.output.kind,
        is_deep=True,
    )
    return _run("finetune", [split.tail], student, train, tune, recipe, watch, checkpoint)


def joined(split: Split, width: int, bits: int) -> Callable[[Tensor], Tensor]:
    """frames_BCHW to outputs through the quantised bottleneck at one width: for measuring, in eval mode."""

    def predict(x_BCHW: Tensor) -> Tensor:
        z_BZhw = split.tiers.seen(split.encoder(split.head.stem(x_BCHW), width), bits)
        place_B = torch.full((len(x_BCHW),), split.encoder.widths.index(width))
        outputs: Tensor = split.tail(widen(z_BZhw, split.tiers.channels), place_B)
        return outputs

    return predict


def freeze(part: nn.Module) -> None:
    part.eval()
    for parameter in part.parameters():
        parameter.requires_grad_(False)


def _run(
    name: str,
    parts: Sequence[nn.Module],
    student: Student,
    train: Images,
    tune: Images,
    recipe: Recipe,
    watch: Watch,
    checkpoint: Path | None,
) -> Curve:
    split, phase, bits = student.split, student.phase, recipe.seam.bits[-1]
    if phase.label_weight and not train.has_labels:
        raise ConfigError(f"{name}.label_weight must be 0 for data {recipe.data!r}, which has no labels")

    def loss_of(x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        return student.loss(student.lesson(x_BCHW), labels_B)

    def after_epoch() -> dict[str, float]:
        return {
            f"tune_{width}": score(joined(split, width, bits), split.whole, tune, recipe.pixels, recipe.output)
            for width in {recipe.seam.widths[0], recipe.seam.widths[-1]}
        }

    seed = recipe.seed + 1 + (name == "finetune")
    return fit(
        name, parts, loss_of, train, recipe.pixels, phase, seed, watch, checkpoint=checkpoint, after_epoch=after_epoch
    )


def _features(given: Sequence[Tensor], wanted: Sequence[Tensor], copies: int) -> Tensor:
    """Mean squared error after each stage over the teacher's variance there, averaged."""
    errors = [
        F.mse_loss(ours.float(), torch.cat([theirs.float()] * copies)) / theirs.float().var().clamp_min(1e-6)
        for ours, theirs in zip(given, wanted, strict=False)
    ]
    return torch.stack(errors).mean()


def _answers(given: Tensor, wanted: Tensor, copies: int, kind: str) -> Tensor:
    """Classes: KL divergence. Maps: squared error over the teacher's variance, a channel at a time, or the few
    channels of widest values (a box's sides) would be all that counts.
    """
    given, wanted = given.float(), torch.cat([wanted.float()] * copies)
    if kind == "classes":
        target, log_given = F.log_softmax(wanted, dim=1), F.log_softmax(given, dim=1)
        return F.kl_div(log_given, target, log_target=True, reduction="batchmean")
    error_C = (given - wanted).square().mean((0, 2, 3))
    return (error_C / wanted.var((0, 2, 3)).clamp_min(LEAST_VARIANCE)).mean()


def _sandwich(places: Sequence[int]) -> list[int]:
    """The narrowest, one at random between, the widest."""
    between = places[1:-1]
    return [*places[:1], *([between[_draw(len(between))]] if between else []), *places[1:][-1:]]


def _draw(below: int) -> int:
    return int(torch.randint(below, ()))
