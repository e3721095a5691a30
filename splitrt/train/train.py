"""A recipe's whole course: build, train, distil, fine-tune, calibrate, export. States are kept until the end."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from splitrt import families
from splitrt.bundle import new_folder
from splitrt.errors import ConfigError
from splitrt.nn.split import Back, Front, Head, Tail, Whole
from splitrt.nn.tiers import Tiers
from splitrt.train.checkpoint import Curve
from splitrt.train.curve import add_rows, plot_curve
from splitrt.train.data import class_names, read_split
from splitrt.train.distil import Split, finetune, train_bottleneck
from splitrt.train.exits import add_exits, train_exits
from splitrt.train.export import export_bundle
from splitrt.train.recipe import Recipe
from splitrt.train.tables import trained_tables
from splitrt.train.whole import load_weights, train_whole
from splitrt.watch import Watch

TABLE_IMAGES = 3_000  # of the training split, to count symbols on


def train(recipe: Recipe, data: Path, out: Path, watch: Watch) -> Path:
    """Make the recipe's bundle under `out`; returns its folder. Beside it: the learning curve as JSON and plot.

    The state after every epoch is kept in `out` under `.training` until the bundle is written: a run that finds
    it goes on from there, to the same result. A recipe that differs in a later phase only takes over the earlier.
    Raises ConfigError on data that is not there, TrainingFailed on a
    loss that is not finite.
    """
    if recipe.seam.form == "plain":
        raise ConfigError("seam.form must be nested or ensemble to be trained, got 'plain': that is `splitrt split`")
    folder = new_folder(out, recipe.name, recipe.version)
    train_images, tune_images = (read_split(data, recipe.data, split, recipe.pixels) for split in ("train", "tune"))
    torch.manual_seed(recipe.seed)
    front, back = build(recipe)
    kept, curve_file = out / ".training" / folder.name, out / f"{folder.name}.curve.json"
    if recipe.pretrained is not None:
        load_weights(front, back, recipe, data / recipe.pretrained.weights)
    else:
        if recipe.exits is not None and recipe.exits.whole_weight:
            add_exits(front, Whole(front, back).eval(), recipe.exits, recipe)
        pieces = nn.ModuleList([front, back])
        _phase(_kept(kept, recipe, "whole"), pieces, watch, curve_file,
               lambda path: train_whole(front, back, train_images, tune_images, recipe, watch, path))  # fmt: skip
    if recipe.exits is not None:
        whole = Whole(front, back).eval()
        exits = front.exits or add_exits(front, whole, recipe.exits, recipe)
        _phase(_kept(kept, recipe, "exits"), exits, watch, curve_file,
               lambda path: train_exits(front, whole, train_images, tune_images, recipe, watch, path))  # fmt: skip
    split = insert(recipe, front, back)
    parts = nn.ModuleList([split.head.stem, split.head.encoder, split.tail, split.tiers])
    _phase(_kept(kept, recipe, "bottleneck"), parts, watch, curve_file,
           lambda path: train_bottleneck(split, train_images, tune_images, recipe, watch, path))  # fmt: skip
    if recipe.finetune is not None:
        _phase(_kept(kept, recipe, "finetune"), parts, watch, curve_file,
               lambda path: finetune(split, train_images, tune_images, recipe, watch, path))  # fmt: skip

    counted = train_images.some(TABLE_IMAGES)
    tables = trained_tables(split.head, split.tiers, counted, recipe)
    calibrate_images = read_split(data, recipe.data, "calibrate", recipe.pixels)
    labels = class_names(data / (recipe.labels or f"{recipe.data}/classes.txt"))
    export_bundle(folder, recipe, split.head, split.tail, split.whole, tables, calibrate_images, labels, watch,
                  (train_images, tune_images))  # fmt: skip
    plot_curve(curve_file)
    shutil.rmtree(kept, ignore_errors=True)
    if kept.parent.is_dir() and not any(kept.parent.iterdir()):
        kept.parent.rmdir()
    return folder


def _kept(folder: Path, recipe: Recipe, phase: str) -> Path:
    """Where a phase's state lies: a name that holds everything which decides it."""
    later = {
        "whole": {"seam", "bottleneck", "finetune"},
        "exits": {"seam", "bottleneck", "finetune"},
        "bottleneck": {"finetune"},
        "finetune": set[str](),
    }[phase]
    if phase != "exits" and (recipe.exits is None or not recipe.exits.whole_weight):
        later = later | {"exits"}  # the rest is the same with and without exits that were trained apart
    decides = recipe.model_dump_json(exclude=later | {"name", "version", "labels"})
    return folder / f"{phase}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}"


def build(recipe: Recipe) -> tuple[Front, Back]:
    """Fresh pieces of the recipe's family. Raises ConfigError on an argument that the family does not take."""
    heads, tails = families.head_module(recipe.family), families.tail_module(recipe.family)
    try:
        front: Front = heads.build(**recipe.model, **recipe.head)
        back: Back = tails.build(**recipe.model, **recipe.tail)
    except TypeError as error:
        raise ConfigError(f"family {recipe.family}: {error}") from error
    for module in (front, back):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return front, back


def insert(recipe: Recipe, front: Front, back: Back) -> Split:
    """The recipe's bottleneck between the pieces, fresh; the undivided model is kept apart as its teacher."""
    bottleneck = recipe.seam.bottleneck()
    assert bottleneck is not None
    whole = copy.deepcopy(Whole(front, back)).eval()
    torch.manual_seed(recipe.seed)
    head = Head(front, front.features.height // back.restored.height, bottleneck)
    split = Split(
        head=head, tail=Tail(back, bottleneck), whole=whole, tiers=Tiers(bottleneck.sent, recipe.bottleneck.bits)
    )
    for module in (split.head, split.tail):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return split


def _phase(kept: Path, parts: nn.Module, watch: Watch, curve_file: Path, run: Callable[[Path], Curve]) -> None:
    """Run a phase from its last checkpoint, or take its end from where an earlier run left it."""
    done = kept.with_suffix(".safetensors")
    if done.is_file():
        watch.line(f"{kept.name}: trained already, its weights were found in {done}")
        try:
            parts.load_state_dict(load_file(done))
        except (RuntimeError, SafetensorError) as error:
            raise ConfigError(f"weights in {done} are not of this recipe; delete them to start anew") from error
        parts.eval()
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = kept.with_suffix(".checkpoint")
    add_rows(curve_file, run(checkpoint))
    fresh = kept.with_suffix(".new")  # replaced in one step: what is interrupted leaves no half of it
    save_file({name: value.contiguous() for name, value in parts.state_dict().items()}, fresh)
    os.replace(fresh, done)
    checkpoint.unlink(missing_ok=True)
