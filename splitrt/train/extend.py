"""Exits for a bundle that is there already: stem, encoder, tail and whole model stay as they are, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from splitrt.bundle import Bundle, digests, new_folder
from splitrt.calibration import write_calibration
from splitrt.errors import ConfigError
from splitrt.manifest import write_manifest
from splitrt.onnx_session import open_session
from splitrt.train.calibrate import calibrate
from splitrt.train.card import write_card
from splitrt.train.curve import add_rows, plot_curve
from splitrt.train.data import read_split
from splitrt.train.exits import add_exits, train_exits
from splitrt.train.export import golden_sample, weights_of, write_exits
from splitrt.train.recipe import Recipe
from splitrt.train.score import Predict
from splitrt.train.train import build, insert
from splitrt.watch import Watch

MADE_ANEW = ("head/exit_*.onnx", "head.safetensors", "calibration.json", "golden.npz", "manifest.toml", "README.md")


def extend(bundle: Bundle, recipe: Recipe, data: Path, out: Path, watch: Watch) -> Path:
    """Train the recipe's exits on the bundle's stem, its whole model teaching; returns the new bundle's folder.

    Raises ConfigError where the recipe is not of this bundle, CalibrationRefused as `calibrate` does.
    """
    phase = recipe.exits
    if phase is None:
        raise ConfigError(f"a bundle is given to add exits to it, and recipe {recipe.name} has no [exits]")
    folder = new_folder(out, recipe.name, recipe.version)
    _check_same(bundle, recipe)
    train, tune, images = (read_split(data, recipe.data, split, recipe.pixels) for split in
                           ("train", "tune", "calibrate"))  # fmt: skip
    front, back = build(recipe)
    kept = {name: one for name, one in load_file(bundle.path("head.safetensors")).items() if "exit" not in name}
    front.load_state_dict({name: one for name, one in kept.items() if name.startswith("stem.")})
    whole = taught_by(bundle)
    exits = add_exits(front, whole, phase, recipe)
    checkpoint = out / ".training" / f"{folder.name}-exits.checkpoint"
    curve = train_exits(front, whole, train, tune, recipe, watch, checkpoint)
    split = insert(recipe, front, back)
    split.head.load_state_dict(kept | {f"exits.{name}": one for name, one in exits.state_dict().items()})
    split.tail.load_state_dict(load_file(bundle.path("tail.safetensors")))
    for part in (split.head, split.tail):
        part.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    calibration, rule = calibrate(split.head, split.tail, whole, bundle.tables, images, recipe, (train, tune))

    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    bundle.copy(fresh)
    for path in (path for pattern in MADE_ANEW for path in fresh.glob(pattern)):
        path.unlink()
    with torch.inference_mode():
        side = (recipe.pixels.height, recipe.pixels.width)
        write_exits(fresh, split.head, split.head.stem(torch.zeros(1, 3, *side)))
    save_file(weights_of(split.head), fresh / "head.safetensors")
    golden_sample(split.head, split.tail, whole, bundle.tables, images, recipe).save(fresh / "golden.npz")
    (fresh / "calibration.json").write_bytes(write_calibration(calibration))
    changes = {"version": recipe.version, "base": None, "exits": rule, "files": digests(fresh)}
    (fresh / "manifest.toml").write_bytes(write_manifest(bundle.manifest.model_copy(update=changes)))
    write_card(fresh, recipe, calibration, rule)
    fresh.rename(folder)
    curve_file = out / f"{folder.name}.curve.json"
    add_rows(curve_file, curve)
    plot_curve(curve_file)
    checkpoint.unlink(missing_ok=True)
    watch.line(f"written: {folder}")
    return folder


def taught_by(bundle: Bundle) -> Predict:
    """The bundle's undivided model, run as it is served. Raises BundleError where only a head is here."""
    session = open_session(bundle.path("whole.onnx"), torch.get_num_threads())

    def predict(x_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"frame": x_BCHW.float().contiguous().numpy()})[0])

    return predict


def _check_same(bundle: Bundle, recipe: Recipe) -> None:
    manifest, seam = bundle.manifest, recipe.seam
    pairs = {
        "family": (manifest.family, recipe.family),
        "model and head": (manifest.head_arguments, recipe.model | recipe.head),
        "model and tail": (manifest.tail_arguments, recipe.model | recipe.tail),
        "pixels": (manifest.pixels, recipe.pixels),
        "seam.widths": (manifest.seam.widths, seam.widths),
        "seam.bits": (manifest.seam.bits, seam.bits),
        "data": (bundle.calibration.data, recipe.data),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ConfigError(f"{name} must be {theirs} as in bundle {bundle.name}, got {ours}")
