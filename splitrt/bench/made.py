"""Bundles made for measuring: untrained weights, chosen sizes, the ordinary format.

`make_in_process` keeps torch out of the process that measures: a device has none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.codec.tables import Tables
from splitrt.errors import ConfigError

CLASSES = 10


def make_bundle(
    folder: Path,
    *,
    widths: tuple[int, ...],
    width: float,
    resolution: int,
    decoder_hidden: int,
    form: str = "nested",
    channels: int = 0,
    is_coded: bool = False,
    exits: int = 0,
    name: str = "made",
) -> Path:
    """An untrained `mobilenet` bundle under `folder`, with 8-bit points only. Needs the torch extra.

    is_coded: with tables for the range coder; without them frames go as packed or zstd. exits: how many.
    """
    try:
        import torch

        from splitrt.nn.split import Whole
        from splitrt.train.data import Images
        from splitrt.train.exits import add_exits
        from splitrt.train.export import export_bundle
        from splitrt.train.recipe import Recipe
        from splitrt.train.tables import trained_tables
        from splitrt.train.train import build, insert
    except ImportError as error:
        raise ConfigError(
            f"this benchmark makes its bundle with torch: pip install 'splitrt[torch]' ({error.name})"
        ) from None

    torch.manual_seed(0)
    recipe = Recipe.model_validate(
        {
            "name": name,
            "version": "1",
            "family": "mobilenet",
            "model": {"classes": CLASSES, "width": width, "resolution": resolution},
            "pixels": {"height": resolution, "width": resolution, "mean": (0.5,) * 3, "std": (0.25,) * 3},
            "seam": {
                "form": form,
                "widths": widths,
                "channels": channels,
                "bits": (8,),
                "decoder_hidden": decoder_hidden,
            },
            "whole": {"epochs": 0},
            "bottleneck": {"epochs": 0, "bits": (8,), "rate_weights": (0.0,)},
            "exits": {"chain": [{"channels": 16}] * exits, "epsilon": 0.4, "delta": 0.4} if exits else None,
        }
    )
    front, back = build(recipe)
    if recipe.exits is not None:
        add_exits(front, Whole(front, back).eval(), recipe.exits, recipe)
    split = insert(recipe, front, back)
    draws = np.random.default_rng(0)
    frames = draws.integers(0, 256, (16, resolution, resolution, 3), dtype=np.uint8)
    labels = draws.integers(0, CLASSES, 16)
    images = Images(frames_BHWC=frames[:8], labels_B=labels[:8], split="calibrate")
    tune = Images(frames_BHWC=frames[8:], labels_B=labels[8:], split="tune")
    for part in (split.head, split.tail, split.whole):
        part.eval()
    tables = trained_tables(split.head, split.tiers, images, recipe)
    if not is_coded:
        tables = Tables(ranges=tables.ranges, priors={})
    out = folder / f"{name}-1"
    export_bundle(out, recipe, split.head, split.tail, split.whole, tables, images, [], Silent(), (tune,))
    return out


class Silent:
    """A watch that nobody reads."""

    def line(self, text: str) -> None:
        return

    def step(self, phase: str, done: int, total: int) -> None:
        return


def make_in_process(folder: Path, **sizes: Any) -> Path:
    """`make_bundle` elsewhere. Raises ConfigError with its last words."""
    return make_several(folder, {"made": sizes})["made"]


def make_several(folder: Path, sizes: Mapping[str, Mapping[str, Any]]) -> dict[str, Path]:
    """The same for several by name, with torch loaded once."""
    words = [sys.executable, "-m", "splitrt.bench.made", str(folder), json.dumps(sizes)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(f"a bundle to measure could not be made: {done.stderr.strip().rpartition(chr(10))[2]}")
    return {name: folder / f"{name}-1" for name in sizes}


if __name__ == "__main__":
    for called, each in json.loads(sys.argv[2]).items():
        make_bundle(Path(sys.argv[1]), name=called, **each)
