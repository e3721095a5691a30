"""One training loop for every phase: batches in, a loss to minimise, a line an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from splitrt.errors import SplitError
from splitrt.train.data import Images, augment, shuffled, to_tensor
from splitrt.train.recipe import Schedule

Loss = Callable[[Tensor, Tensor], Tensor]  # frames_BCHW, labels_B -> a number
Report = Callable[[str], None]
Pixels = tuple[tuple[float, ...], tuple[float, ...]]  # mean, std


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
    report: Report,
    after_epoch: Callable[[], str] = lambda: "",
) -> None:
    """Train `parts` in place. Raises TrainingFailed with the step when the loss is no longer finite."""
    generator = torch.Generator().manual_seed(seed)
    steps = len(images) // schedule.batch
    optimiser = torch.optim.AdamW(_groups(parts, schedule.weight_decay), lr=schedule.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.learning_rate, total_steps=max(1, schedule.epochs * steps), pct_start=0.2
    )
    for epoch in range(schedule.epochs):
        started, total = time.perf_counter(), 0.0
        for part in parts:
            part.train()
        for step, (frames, labels) in enumerate(shuffled(images, schedule.batch, generator)):
            x_BCHW = augment(to_tensor(frames, *pixels), generator)
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(x_BCHW, torch.from_numpy(labels))
            value = float(loss.detach())
            if value != value or value in (float("inf"), float("-inf")):
                raise TrainingFailed(f"{phase}: loss must be finite, got {value} at epoch {epoch}, step {step}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
            total += value
        for part in parts:
            part.eval()
        seconds = time.perf_counter() - started
        report(f"{phase} {epoch + 1}/{schedule.epochs}: loss {total / steps:.4f}, {seconds:.0f} s{after_epoch()}")


def _groups(parts: Iterable[nn.Module], weight_decay: float) -> list[dict[str, object]]:
    """Decay the weights, not biases and normalisation."""
    parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.inference_mode()
def accuracy(predict: Callable[[Tensor], Tensor], images: Images, pixels: Pixels, batch: int = 100) -> float:
    """Top-1 accuracy of `predict` (frames_BCHW -> logits_BN) in eval mode."""
    right = 0
    for start in range(0, len(images), batch):
        x_BCHW = to_tensor(images.frames_BHWC[start : start + batch], *pixels)
        guess = predict(x_BCHW).argmax(dim=1).numpy()
        right += int((guess == images.labels_B[start : start + batch]).sum())
    return right / len(images)
