"""One training loop for every phase: batches in, a loss to minimise, a checkpoint and a line of curve an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from splitrt.errors import ConfigError, SplitError
from splitrt.manifest import Pixels
from splitrt.train.checkpoint import Curve, load_checkpoint, save_checkpoint
from splitrt.train.data import Images, augment, shuffled, to_tensor
from splitrt.train.recipe import Schedule
from splitrt.watch import Watch

Loss = Callable[[Tensor, Tensor], Tensor]  # frames_BCHW, labels_B -> a number
WARM_UP = 0.2  # share of the steps over which the learning rate rises
FIRST_SHARE = 0.04  # of the highest learning rate, at the start


class TrainingFailed(SplitError):
    code = "training"


def fit(
    phase: str,
    parts: Sequence[nn.Module],
    loss_of: Loss,
    images: Images,
    pixels: Pixels,
    schedule: Schedule,
    seed: int,
    watch: Watch,
    *,
    checkpoint: Path | None = None,
    after_epoch: Callable[[], dict[str, float]] = dict,
) -> Curve:
    """Train `parts` in place; returns a row an epoch. Goes on from `checkpoint` where there is one.

    Raises TrainingFailed with the step when the loss is no longer finite; the checkpoint of the last whole epoch
    stays. Raises ConfigError where the images do not fill one batch.
    """
    torch.manual_seed(seed)
    steps = len(images) // schedule.batch
    if not steps:
        raise ConfigError(f"{phase}.batch must be at most the {len(images)} training images, got {schedule.batch}")
    optimiser = AdamW(groups(parts, schedule.weight_decay), lr=schedule.learning_rate)
    curve: Curve = []
    if checkpoint is not None and checkpoint.is_file():
        curve = load_checkpoint(checkpoint, parts, optimiser)
        watch.line(f"{phase}: goes on after epoch {len(curve)} of {schedule.epochs}")
    for epoch in range(len(curve), schedule.epochs):
        started, total = time.perf_counter(), 0.0
        for part in parts:
            part.train()
        for step, (frames, labels) in enumerate(shuffled(images, schedule.batch)):
            done = epoch * steps + step
            for group in optimiser.param_groups:
                group["lr"] = schedule.learning_rate * one_cycle(done / (schedule.epochs * steps))
            x_BCHW = augment(to_tensor(frames, pixels))
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(x_BCHW, torch.from_numpy(labels))
            value = float(loss.detach())
            if not math.isfinite(value):
                kept = f"; the last good checkpoint is {checkpoint}" if checkpoint is not None and curve else ""
                where = f"epoch {epoch + 1}, step {step + 1} of {steps}"
                raise TrainingFailed(f"{phase}: loss must be finite, got {value} at {where}{kept}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += value
            watch.step(phase, done + 1, schedule.epochs * steps)
        for part in parts:
            part.eval()
        row: dict[str, Any] = {"phase": phase, "epoch": epoch + 1, "loss": total / steps, **after_epoch()}
        curve.append(row)
        seconds = time.perf_counter() - started
        tuned = ", ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("phase", "epoch"))
        watch.line(f"{phase} {epoch + 1}/{schedule.epochs}: {tuned} ({seconds:.0f} s)")
        if checkpoint is not None:
            save_checkpoint(checkpoint, parts, optimiser, curve)
    return curve


def one_cycle(share: float) -> float:
    """The learning rate's share of its highest after this share of the steps (Smith and Topin, arXiv:1708.07120)."""
    if share < WARM_UP:
        return FIRST_SHARE + (1 - FIRST_SHARE) * 0.5 * (1 - math.cos(math.pi * share / WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def groups(parts: Iterable[nn.Module], weight_decay: float) -> list[dict[str, object]]:
    """Decay the weights, not biases, normalisation, gains and priors."""
    named = [(name, p) for part in parts for name, p in part.named_parameters() if p.requires_grad]
    decays = [name.endswith("weight") and p.ndim > 1 for name, p in named]
    return [
        {"params": [p for (_, p), yes in zip(named, decays, strict=True) if yes], "weight_decay": weight_decay},
        {"params": [p for (_, p), yes in zip(named, decays, strict=True) if not yes], "weight_decay": 0.0},
    ]
