"""Bundles made for measuring: untrained weights, chosen sizes, the ordinary format."""

from __future__ import annotations

from pathlib import Path

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
