"""A recipe's whole course: build, train, distil, calibrate, export. Each phase's weights are kept until the end."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from splitrt import families
from splitrt.errors import ConfigError
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.data import class_names, read_split
from splitrt.train.export import export_bundle
from splitrt.train.loop import Report
from splitrt.train.phases import train_bottleneck, train_whole
from splitrt.train.recipe import Recipe

PIXELS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))  # mean and std of 0..1


def train(recipe: Recipe, data: Path, out: Path, report: Report) -> Path:
    """Make the recipe's bundle under `out`; returns its folder.

    A phase's weights are kept in `out` under `.training` until the bundle is written: a run that finds them
    goes on from there. Raises ConfigError on data that is not there, TrainingFailed on a loss that is not
    finite.
    """
    torch.manual_seed(recipe.seed)
    folder = out / f"{recipe.name}-{recipe.version}"
    if folder.exists():
        raise ConfigError(f"--out must not hold {folder.name} already, got {out}")
    train_images, tune_images = (read_split(data, recipe.data, split) for split in ("train", "tune"))
    head, replaced, tail = build(recipe)

    parts = nn.ModuleDict({"head": head, "replaced": replaced, "tail": tail})
    kept = out / ".training" / folder.name
    _phase(
        kept / "whole.safetensors",
        parts,
        lambda: train_whole(head, replaced, tail, train_images, tune_images, PIXELS, recipe, report),
        report,
    )
    whole = copy.deepcopy(Whole(head.stem, replaced, tail.body)).eval()
    _phase(
        kept / "bottleneck.safetensors",
        parts,
        lambda: train_bottleneck(head, tail, whole, train_images, tune_images, PIXELS, recipe, report),
        report,
    )
    calibrate_images = read_split(data, recipe.data, "calibrate")
    labels = class_names(data, recipe.data)
    export_bundle(folder, recipe, head, tail, whole, calibrate_images, labels, PIXELS, report)
    shutil.rmtree(kept)
    if not any(kept.parent.iterdir()):
        kept.parent.rmdir()
    return folder


def build(recipe: Recipe) -> tuple[Head, nn.Module, Tail]:
    """Fresh modules of the recipe's family: head, the stage that the bottleneck replaces, tail.

    Raises ConfigError on an argument that the family does not take.
    """
    heads, tails = families.head_module(recipe.family), families.tail_module(recipe.family)
    shared = {key: value for key, value in recipe.model.items() if key != "classes"}
    try:
        head: Head = heads.build(widths=recipe.seam.widths, **recipe.model, **recipe.head)
        tail: Tail = tails.build(widths=recipe.seam.widths, **recipe.model, **recipe.tail)
        replaced: nn.Module = tails.replaced(head.features, **shared)
    except TypeError as error:
        raise ConfigError(f"family {recipe.family}: {error}") from error
    for module in (head, replaced, tail):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return head, replaced, tail


def _phase(kept: Path, parts: nn.Module, run: Callable[[], object], report: Report) -> None:
    if kept.is_file():
        report(f"{kept.stem}: trained already, its weights were found in {kept}")
        parts.load_state_dict(load_file(kept))
        parts.eval()
        return
    run()
    kept.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in parts.state_dict().items()}, kept)
