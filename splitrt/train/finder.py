"""The gate before a detector, distilled from where the detector finds something and how sure it is.

Shape letters: N photographs, F feature channels, H W space, K side of the map.
A photograph's own label is the detector's best score: even odds at the score that counts, so that a photograph on which
the detector hardly decides weighs little either way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from splitrt.errors import ConfigError
from splitrt.nn.finder import Finder
from splitrt.train.eyes import Float32, Searched
from splitrt.train.loop import groups, one_cycle
from splitrt.train.recipe import Schedule
from splitrt.watch import Watch

PLACES = 10.0  # weight of the map in the loss: nearly all of its places are empty
FAINT = 1e-3  # a score's least distance from 0 and 1
BATCH = 50


def train_finder(
    train: Searched, tune: Searched, min_score: float, schedule: Schedule, width: int, seed: int, watch: Watch
) -> Finder:
    """Raises ConfigError where the detector finds something in all of the photographs, or in none."""
    if not (positives := int((train.best_N >= min_score).sum())) or positives == len(train.best_N):
        raise ConfigError(
            f"a gate needs positives and others to learn from, got {positives} positives of {len(train.best_N)}"
        )
    torch.manual_seed(seed)
    model = Finder(train.features_NFHW.shape[1], width)
    optimiser = AdamW(groups([model], schedule.weight_decay), lr=schedule.learning_rate)
    belief_N = beliefs(train.best_N, min_score)
    steps_each = max(1, len(belief_N) // schedule.batch)
    for epoch in range(schedule.epochs):
        model.train()
        total, order = 0.0, torch.randperm(len(belief_N)).numpy()
        for step in range(steps_each):
            done = epoch * steps_each + step
            for group in optimiser.param_groups:
                group["lr"] = schedule.learning_rate * one_cycle(done / (schedule.epochs * steps_each))
            chosen = order[step * schedule.batch : (step + 1) * schedule.batch]
            loss = _loss(model, train, belief_N, chosen)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach())
            watch.step("gate", done + 1, schedule.epochs * steps_each)
        model.eval()
        right = (found_odds(model, tune) > 0) == (tune.best_N >= min_score)
        watch.line(f"gate {epoch + 1}/{schedule.epochs}: loss {total / steps_each:.4g}, tune {right.mean():.4g}")
    return model


def beliefs(best_N: Float32, min_score: float) -> Tensor:
    """P(something), (N,): a half at `min_score`."""
    return torch.sigmoid(torch.logit(torch.from_numpy(best_N), FAINT) - torch.logit(torch.tensor(min_score)))


@torch.no_grad()
def found_odds(model: Finder, searched: Searched) -> Float32:
    """(N,), in eval mode."""
    rows = []
    for start in range(0, len(searched.scores_NKK), BATCH):
        features = torch.from_numpy(searched.features_NFHW[start : start + BATCH].astype(np.float32))
        rows.append(model(features)[1].numpy())
    return np.concatenate(rows)


def _loss(model: Finder, train: Searched, belief_N: Tensor, chosen: npt.NDArray[np.int64]) -> Tensor:
    logits_BKK, odds_B = model(torch.from_numpy(train.features_NFHW[chosen].astype(np.float32)))
    places = F.binary_cross_entropy_with_logits(logits_BKK, torch.from_numpy(train.scores_NKK[chosen]))
    whole = F.binary_cross_entropy_with_logits(odds_B, belief_N[chosen])
    return PLACES * places + whole
