"""A bundle with no training: a network's features at a cut are sent as they are, quantised a channel and coded.

Photographs are looked at for ranges and for the coder's tables, nothing is learnt from them; others of the same folder
are measured on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from splitrt import families
from splitrt.bundle import new_folder
from splitrt.codec import pixels as codec_pixels
from splitrt.errors import ConfigError
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.data import Images, UInt8
from splitrt.train.export import export_bundle
from splitrt.train.recipe import Recipe, check_recipe
from splitrt.train.tables import plain_tables
from splitrt.train.train import build
from splitrt.train.whole import load_weights
from splitrt.watch import Watch

LEAST_IMAGES = 8
MOST_IMAGES = 400


def plain_recipe(name: str, family: str, arguments: dict[str, Any], bits: tuple[int, ...]) -> Recipe:
    """The recipe of a split without training. Raises ConfigError on an argument that the family does not take."""
    module = families.head_module(family)
    wanted = getattr(module, "PIXELS", None)
    if wanted is None:
        raise ConfigError(f"family {family} does not say what its weights want of a photograph")
    table = {
        "name": name,
        "version": "1",
        "family": family,
        "data": "photographs",
        "model": arguments,
        "pixels": wanted,
        "output": {"kind": getattr(module, "OUTPUT", "classes")},
        "seam": {"form": "plain", "widths": (1,), "bits": bits},
        "whole": {"epochs": 0},
    }
    front, _ = build(check_recipe(table, f"splitting {family}"))
    side = dict.fromkeys(("height", "width"), arguments.get("resolution", wanted["height"]))
    seam = {"form": "plain", "widths": (front.features.channels,), "bits": bits}
    return check_recipe(table | {"pixels": wanted | side, "seam": seam}, f"splitting {family}")


def split_plain(
    recipe: Recipe, weights: Path, photographs: list[UInt8], labels: list[str], out: Path, watch: Watch
) -> Path:
    """Write the bundle under `out`; returns its folder. Raises ConfigError on weights that do not fit."""
    folder = new_folder(out, recipe.name, recipe.version)
    if len(photographs) < LEAST_IMAGES:
        raise ConfigError(f"--images must hold at least {LEAST_IMAGES} photographs, got {len(photographs)}")
    front, back = build(recipe)
    load_weights(front, back, recipe, weights)
    for piece in (front, back):
        piece.eval()
    head, tail, whole = Head(front, 1, None), Tail(back, None), Whole(front, back)
    wanted = recipe.pixels
    frames = [codec_pixels.fit(one, wanted.height, wanted.width, wanted.fit) for one in photographs[:MOST_IMAGES]]
    tables = plain_tables(head, _images(frames[::2], "tune"), recipe)
    export_bundle(folder, recipe, head, tail, whole, tables, _images(frames[1::2], "calibrate"), labels, watch)
    return folder


def _images(frames: list[UInt8], split: str) -> Images:
    return Images(frames_BHWC=np.stack(frames), labels_B=np.full(len(frames), -1, np.int64), split=split)
