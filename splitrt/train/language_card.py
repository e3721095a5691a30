"""What a language bundle's card says of its two models, on the part of the text behind what they were trained on.

Shape letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from splitrt.train.reader import Reader, windows

REPORT_BATCHES = 8


@torch.no_grad()
def imitation_lines(target: Reader, draft: Reader, held: Tensor, batch: int, seed: int) -> list[str]:
    """How well each says the text, and the drafter the target. held: the tokens of that part."""
    draw = torch.Generator().manual_seed(seed)
    losses, overlaps, agreements = [], [], []
    for _ in range(REPORT_BATCHES):
        x_BT, y_BT = windows(held, target.config.context, batch, draw)
        p_BTV, q_BTV = target(x_BT), draft(x_BT)
        losses.append([float(F.cross_entropy(one.flatten(0, 1), y_BT.flatten())) for one in (p_BTV, q_BTV)])
        overlaps.append(float(torch.minimum(p_BTV.softmax(-1), q_BTV.softmax(-1)).sum(-1).mean()))
        agreements.append(float((p_BTV.argmax(-1) == q_BTV.argmax(-1)).float().mean()))
    nats = torch.tensor(losses).mean(0).tolist()
    return [
        "On the twentieth of the text behind what was trained on:",
        "",
        f"- cross entropy, nats a token: target {nats[0]:.3f}, drafter {nats[1]:.3f}",
        f"- at temperature 1, a draft's token would stand with chance {sum(overlaps) / len(overlaps):.3f} "
        "(mean overlap of the two laws; with shared noise somewhat less)",
        f"- greedy, the two agree on {100 * sum(agreements) / len(agreements):.1f} % of tokens",
        "",
    ]


def parameters(model: Reader) -> int:
    return sum(weight.numel() for weight in model.parameters())
