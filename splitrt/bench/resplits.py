"""Is the bound kept? Calibration sets drawn anew from a pool, each threshold judged on the whole of it.

Shape letters: E exits, S samples of the pool, N classes.

    photos     the bundle's exits on its calibration and test images
    cifar10    two exits after ResNet-20's first stage, trained here on the training split, the published weights frozen

Beside the certified threshold the naive one: the loosest whose loss on the very images it is chosen on is within
epsilon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.heldout import unseen
from splitrt.bench.made import Silent
from splitrt.bundle import Bundle
from splitrt.codec import pixels
from splitrt.device.head import OnnxHead
from splitrt.errors import ConfigError
from splitrt.policy.cascade import Cascade, cascade_of, certify_cascade
from splitrt.policy.guarantee import GRID_L, NEVER
from splitrt.server.tail import OnnxTail

REDRAWS = 200
Int64 = npt.NDArray[np.int64]

CIFAR: dict[str, Any] = {
    "name": "exits",
    "version": "1",
    "family": "resnet",
    "data": "cifar10",
    "model": {"classes": 10, "depth": 20, "cut": 1},
    "pixels": {"height": 32, "width": 32, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "seam": {"widths": (4,), "bits": (4,)},
    "pretrained": {"weights": "cifar10/resnet20.safetensors"},
    "bottleneck": {"epochs": 0, "bits": (4,), "rate_weights": (0.0,)},
    "exits": {
        "chain": ({"channels": 64, "blocks": 2}, {"channels": 96, "blocks": 3, "expand": 3}),
        "epochs": 6,
        "batch": 128,
        "learning_rate": 8e-3,
        "weight_decay": 0.02,
        "label_weight": 0.3,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Images that no exit was trained on: what the exits say of them, and whether they are answered rightly."""

    name: str
    cascade: Cascade
    whole_S: Int64
    right_S: Int64

    def accuracy(self, level: float) -> float:
        """Of exits at a level, the whole model answering what they leave."""
        place_S = self.cascade.place_S(level)
        own_S = self.cascade.answer_ES[self.cascade.own_S(level), np.arange(len(place_S))]
        given_S = np.where(place_S < len(self.cascade.answer_ES), own_S, self.whole_S)
        return float((given_S == self.right_S).mean())


def redraw(pool: Pool, images: int, epsilon: float, delta: float, redraws: int) -> dict[str, Any]:
    """Certified and naive thresholds of so many calibration sets, drawn with replacement; risks on the whole pool."""
    draws = np.random.default_rng(0)
    found: dict[str, list[float]] = {"certified": [], "naive": []}
    for _ in range(redraws):
        drawn = pool.cascade.some(draws.integers(0, pool.cascade.samples, images))
        found["certified"].append(certify_cascade(drawn, epsilon, delta).threshold)
        found["naive"].append(naive(drawn, epsilon))
    risks = {name: [pool.cascade.risk(level) for level in levels] for name, levels in found.items()}
    return {
        "study": pool.name,
        "pool": pool.cascade.samples,
        "images": images,
        "redraws": redraws,
        "violations": float(np.mean(np.array(risks["certified"]) > epsilon)),
        "violations_naive": float(np.mean(np.array(risks["naive"]) > epsilon)),
        "exit_share": float(np.mean([pool.cascade.share(level) for level in found["certified"]])),
        "exit_share_naive": float(np.mean([pool.cascade.share(level) for level in found["naive"]])),
        "risks": risks["certified"],
        "risks_naive": risks["naive"],
    }


def naive(cascade: Cascade, epsilon: float) -> float:
    """The loosest threshold whose loss on these images is at most epsilon."""
    for level in GRID_L[::-1]:
        if cascade.risk(level) <= epsilon:
            return float(level)
    return NEVER


def pool_of_bundle(bundle: Bundle, data: Path, most: int | None) -> Pool:
    """Calibration and test images. Raises ConfigError where they are not there, or the bundle has no exits."""
    from splitrt.train.data import read_split

    rule, name = bundle.manifest.exits, bundle.calibration.data
    if rule is None:
        raise ConfigError(f"bench exits needs a bundle with exits, {bundle.name} has none")
    wanted = bundle.manifest.photograph
    calibrate = read_split(data, name, "calibrate", wanted).some(most or 1 << 30)
    frames, labels = unseen(data / name, most)
    head, tail = OnnxHead(bundle), OnnxTail(bundle)
    logits: list[list[Any]] = [[] for _ in rule.chain]
    whole = []
    for frame_HWC in [*calibrate.frames_BHWC, *frames]:
        fitted = pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
        x_CHW = pixels.normalise(fitted, wanted.mean, wanted.std)
        for one, logits_N in zip(logits, head.exits(head.stem(x_CHW)), strict=True):
            one.append(logits_N)
        whole.append(tail.run_whole(x_CHW[None])[0])
    whole_S, right_S = np.array(whole).argmax(1), np.concatenate([calibrate.labels_B, labels])
    temperatures = [one.temperature for one in rule.chain]
    cascade = cascade_of([np.array(one) for one in logits], temperatures, rule.confidence, whole_S, right_S)
    return Pool(name=bundle.manifest.name, cascade=cascade, whole_S=whole_S, right_S=right_S)


def pool_of_cifar(data: Path, quick: bool) -> Pool:
    """Exits are trained first: minutes, or an epoch where it must be quick."""
    import torch

    from splitrt.nn.split import Head, Whole
    from splitrt.train.certify import exit_logits, fit_temperature
    from splitrt.train.data import Images, read_split
    from splitrt.train.exits import add_exits, train_exits
    from splitrt.train.recipe import Recipe
    from splitrt.train.score import outputs_of
    from splitrt.train.train import build
    from splitrt.train.whole import load_weights

    exits = CIFAR["exits"] | ({"epochs": 1} if quick else {})
    recipe = Recipe.model_validate(CIFAR | {"exits": exits})
    assert recipe.exits is not None
    torch.set_num_threads(1)
    train, tune, calibrate = (read_split(data, "cifar10", one, recipe.pixels) for one in
                              ("train", "tune", "calibrate"))  # fmt: skip
    front, back = build(recipe)
    load_weights(front, back, recipe, data / str(recipe.pretrained and recipe.pretrained.weights))
    whole = Whole(front, back).eval()
    for parameter in whole.parameters():
        parameter.requires_grad_(False)
    add_exits(front, whole, recipe.exits, recipe)
    train_exits(front, whole, train.some(2_000 if quick else len(train)), tune, recipe, Silent())
    head = Head(front, 1, None).eval()
    temperatures = [fit_temperature(one, tune.labels_B) for one in exit_logits(head, tune, recipe)]
    frames, labels = unseen(data / "cifar10", 500 if quick else None)
    pool = Images(
        frames_BHWC=np.concatenate([calibrate.frames_BHWC, np.stack(frames)]),
        labels_B=np.concatenate([calibrate.labels_B, labels]),
        split="test",
    )
    whole_S = outputs_of(whole, pool, recipe.pixels).argmax(1)
    logits = exit_logits(head, pool, recipe)
    cascade = cascade_of(logits, temperatures, recipe.exits.confidence, whole_S, pool.labels_B)
    return Pool(name="cifar10", cascade=cascade, whole_S=whole_S, right_S=pool.labels_B)


def curve(pool: Pool, levels: Iterable[float]) -> list[dict[str, float]]:
    """What each threshold gives on the whole pool."""
    return [
        {
            "threshold": float(level),
            "share": pool.cascade.share(level),
            "risk": pool.cascade.risk(level),
            "accuracy": pool.accuracy(level),
        }
        for level in levels
    ]
