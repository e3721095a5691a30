"""Bundles made for measuring: untrained weights, chosen sizes, the ordinary format.

`make_in_process` keeps torch out of the process that measures: a device has none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.errors import ConfigError

CLASSES = 10


def make_bundle(folder: Path, *, widths: tuple[int, ...], width: float, resolution: int, decoder_hidden: int) -> Path:
    """An untrained `mobilenet` bundle under `folder`, with 8-bit points only. Needs the torch extra."""
    try:
        import torch

        from splitrt.train.data import Images
        from splitrt.train.export import export_bundle
        from splitrt.train.recipe import Recipe
        from splitrt.train.train import PIXELS, build
    except ImportError as error:
        raise ConfigError(
            f"this benchmark makes its bundle with torch: pip install 'splitrt[torch]' ({error.name})"
        ) from None
    from splitrt.nn.split import Whole

    torch.manual_seed(0)
    recipe = Recipe.model_validate(
        {
            "name": "made",
            "version": "1",
            "family": "mobilenet",
            "model": {"classes": CLASSES, "width": width},
            "head": {"resolution": resolution},
            "tail": {"decoder_hidden": decoder_hidden},
            "seam": {"widths": widths, "bits": (8,)},
            "whole": {"epochs": 0},
            "bottleneck": {"epochs": 0},
        }
    )
    head, replaced, tail = build(recipe)
    draws = np.random.default_rng(0)
    frames = draws.integers(0, 256, (8, resolution, resolution, 3), dtype=np.uint8)
    images = Images(frames_BHWC=frames, labels_B=draws.integers(0, CLASSES, 8))
    out = folder / "made-1"
    export_bundle(out, recipe, head, tail, Whole(head.stem, replaced, tail.body), images, [], PIXELS, lambda line: None)
    return out


def make_in_process(folder: Path, **sizes: Any) -> Path:
    """`make_bundle` elsewhere. Raises ConfigError with its last words."""
    words = [sys.executable, "-m", "splitrt.bench.made", str(folder), json.dumps(sizes)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(f"a bundle to measure could not be made: {done.stderr.strip().rpartition(chr(10))[2]}")
    return folder / "made-1"


if __name__ == "__main__":
    make_bundle(Path(sys.argv[1]), **json.loads(sys.argv[2]))
