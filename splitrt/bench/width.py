"""Claim `width`: one set of weights at many widths answers hardly worse than a specialist for each.

ResNet-20 on CIFAR-10, the block before its last 8 x 8 maps replaced by a bottleneck, eight seeds: for every seed one
slimmable bottleneck and, for every width, the same encoder up to it trained at that width alone, for as many steps.
Accuracy on test images, paired by seed; the bound is the upper end of a one-sided 95 % interval of the mean gap
(Student's t over the seeds).

What switching costs is measured on the bundle asked for: CPU time of encoding at another width than before less that
of encoding at it again, and a served client's memory over frames of a new width each.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.heldout import unseen
from splitrt.bench.report import Asked, Claim
from splitrt.bench.steady import steady, switch_ms
from splitrt.bundle import find_bundle
from splitrt.errors import ConfigError

SEEDS = 8
T_95 = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895}  # one-sided, by degrees of freedom
QUICK_IMAGES = 1_000
RECIPE: dict[str, Any] = {
    "name": "width",
    "version": "1",
    "family": "resnet",
    "data": "cifar10",
    "model": {"classes": 10, "depth": 20, "cut": 2},
    "pixels": {"height": 32, "width": 32, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "seam": {"widths": (4, 8, 16), "bits": (4,), "hidden": 24, "decoder_hidden": 96},
    "pretrained": {"weights": "cifar10/resnet20.safetensors"},
    "bottleneck": {
        "epochs": 4,
        "batch": 128,
        "learning_rate": 4e-3,
        "weight_decay": 0.01,
        "bits": (4,),
        "rate_weights": (0.0,),  # widths alone are compared: at one depth, no rate traded for accuracy
    },
}
WIDTHS: tuple[int, ...] = RECIPE["seam"]["widths"]


def measure(asked: Asked) -> Claim:
    if asked.data is None:
        raise ConfigError("bench width trains on CIFAR-10: give the data folder with --data or SPLITRT_DATA")
    seeds = [Seed(seed=seed, data=asked.data, is_quick=asked.quick) for seed in range(1 if asked.quick else SEEDS)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(kept, seeds))
    gaps = {width: _gaps(rows, str(width)) for width in WIDTHS}
    bundle = find_bundle(asked.bundle)
    served = asyncio.run(steady(asked.bundle, 500 if asked.quick else 5_000))
    costs = switch_ms(bundle.folder)
    summary = {
        "switch_ms_p99": float(np.percentile(costs, 99)),
        "switch_ms_p50": float(np.median(costs)),
        "rss_growth_mb": served["rss_growth_mb"],
        "memory_frames": served["memory_frames"],
        "specialist_gap_pt": max(gap["bound_pt"] for gap in gaps.values()),
        "gaps": {str(width): gap for width, gap in gaps.items()},
        "compute_ratio_narrowest": rows[0]["flops"][0] / rows[0]["flops"][-1],
        "seeds": len(seeds),
        "test_images": rows[0]["images"],
    }
    return Claim(summary=summary, rows=rows, draw=lambda file: _draw(rows, file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A slimmable bottleneck and its specialists to train, in a process of their own."""

    seed: int
    data: Path
    is_quick: bool


def kept(seed: Seed) -> dict[str, Any]:
    """`train_all`, or the row that an earlier run of the same recipe got to: a seed takes a core half an hour."""
    what = json.dumps([RECIPE, seed.seed, seed.is_quick])
    file = Path.home() / ".cache/splitrt/bench" / f"width-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"
    if not file.is_file():
        row = train_all(seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def train_all(seed: Seed) -> dict[str, Any]:
    """All of a seed's bottlenecks in one course over the same batches (they share no parameters, so none knows of the
    others), then their accuracy on test images.
    """
    import torch

    from splitrt.bench.made import Silent
    from splitrt.train.data import read_split
    from splitrt.train.distil import bottleneck_student, joined
    from splitrt.train.loop import fit
    from splitrt.train.score import score
    from splitrt.train.train import build, insert
    from splitrt.train.whole import load_weights

    torch.set_num_threads(1)
    recipes = {None: _recipe(seed, WIDTHS, WIDTHS)} | {w: _recipe(seed, _upto(w), (w,)) for w in WIDTHS}
    slim = recipes[None]
    images = read_split(seed.data, slim.data, "train", slim.pixels)
    students = {}
    for width, recipe in recipes.items():
        front, back = build(recipe)
        load_weights(front, back, recipe, seed.data / RECIPE["pretrained"]["weights"])
        students[width] = bottleneck_student(insert(recipe, front, back), recipe)

    def loss_of(x_BCHW: Any, labels_B: Any) -> Any:
        lesson = students[None].lesson(x_BCHW)
        return torch.stack([student.loss(lesson, labels_B) for student in students.values()]).sum()

    parts = [part for one in students.values() for part in (one.split.encoder, one.split.tail.decoder, one.split.tiers)]
    if seed.is_quick:
        images = images.some(QUICK_IMAGES)
    fit("width", parts, loss_of, images, slim.pixels, slim.bottleneck, seed.seed + 1, Silent())

    test, bits = _test_images(seed.data), slim.seam.bits[-1]

    def accuracy(of: int | None, width: int) -> float:
        split = students[of].split
        return score(joined(split, width, bits), split.whole, test, slim.pixels, slim.output)

    split = students[None].split
    return {
        "seed": seed.seed,
        "slimmable": {str(width): accuracy(None, width) for width in WIDTHS},
        "specialist": {str(width): accuracy(width, width) for width in WIDTHS},
        "whole_accuracy": score(split.whole, split.whole, test, slim.pixels, slim.output),
        "flops": [_flops(split.encoder, front.features, width) for width in WIDTHS],
        "images": len(test),
    }


def _recipe(seed: Seed, widths: tuple[int, ...], trained: tuple[int, ...]) -> Any:
    from splitrt.train.recipe import Recipe

    learning = RECIPE["bottleneck"] | {"widths": trained} | ({"epochs": 1} if seed.is_quick else {})
    seam = RECIPE["seam"] | {"widths": widths}
    return Recipe.model_validate(RECIPE | {"seed": seed.seed, "seam": seam, "bottleneck": learning})


def _upto(widest: int) -> tuple[int, ...]:
    return tuple(width for width in WIDTHS if width <= widest)


def _test_images(data: Path) -> Any:
    from splitrt.train.data import Images

    frames, labels = unseen(data / "cifar10", None)
    return Images(frames_BHWC=np.stack(frames), labels_B=np.array(labels), split="test")


def _flops(encoder: Any, features: tuple[int, int, int], width: int) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.zeros(1, *features), width)
    return int(counter.get_total_flops())


def _gaps(rows: list[dict[str, Any]], width: str) -> dict[str, float]:
    """Specialist less slimmable in points, paired by seed: mean, and the upper end of its one-sided 95 % interval."""
    gaps = np.array([100 * (row["specialist"][width] - row["slimmable"][width]) for row in rows])
    few = len(gaps) < 2
    spread = float("inf") if few else T_95[len(gaps) - 1] * float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    return {"mean_pt": float(gaps.mean()), "bound_pt": float(gaps.mean()) + spread}


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 4)
    axis = axes[0, 0]
    for name, colour, shift in (("slimmable", "tab:green", -0.03), ("specialist", "tab:orange", 0.03)):
        points = [(int(width) * (1 + shift), 100 * share) for row in rows for width, share in row[name].items()]
        axis.scatter(*zip(*points, strict=True), s=16, color=colour, label=name)
    axis.axhline(100 * rows[0]["whole_accuracy"], color="black", linewidth=0.8, label="whole model")
    axis.set_xscale("log", base=2)
    axis.set_xlabel("width, channels")
    axis.set_ylabel("accuracy on test images, %")
    axis.legend(loc="lower right")
    save(drawing, file)
