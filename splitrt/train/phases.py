"""The two phases of training a split model.

Shape letters: B batch, C H W frames, F features, Z bottleneck channels, N classes.

whole       stem, exit, the stage that the bottleneck will replace, and body on labels.
bottleneck  stem frozen; encoder, decoder and body learn to answer like the undivided model at every
            width: the sandwich rule (narrowest, widest, one at random: Yu and Huang, ICCV 2019,
            arXiv:1903.05134) with generalised head distillation (features and logits: Matsubara et al.,
            arXiv:2007.15818), under the quantiser that the codec will use.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.nn.bottleneck import fake_quantise, widen
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.data import Images
from splitrt.train.loop import Pixels, Report, accuracy, fit
from splitrt.train.recipe import BottleneckPhase, Recipe, WholePhase


def train_whole(
    head: Head,
    replaced: nn.Module,
    tail: Tail,
    train: Images,
    tune: Images,
    pixels: Pixels,
    recipe: Recipe,
    report: Report,
) -> None:
    """Train stem, exit, the replaced stage and body together, in place."""
    phase: WholePhase = recipe.whole

    def loss_of(x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        features_BFHW = head.stem(x_BCHW)
        smooth = phase.label_smoothing
        last = F.cross_entropy(tail.body(replaced(features_BFHW)), labels_B, label_smoothing=smooth)
        early = F.cross_entropy(head.exit(features_BFHW), labels_B, label_smoothing=smooth)
        return last + phase.exit_weight * early

    whole = Whole(head.stem, replaced, tail.body)

    def after_epoch() -> str:
        early = accuracy(lambda x: head.exit(head.stem(x)), tune, pixels)
        return f", tune {accuracy(whole, tune, pixels):.3f} whole, {early:.3f} exit"

    parts = [head.stem, head.exit, replaced, tail.body]
    fit("whole", parts, loss_of, train, pixels, phase, recipe.seed, report, after_epoch)


def train_bottleneck(
    head: Head,
    tail: Tail,
    whole: Whole,
    train: Images,
    tune: Images,
    pixels: Pixels,
    recipe: Recipe,
    report: Report,
) -> None:
    """Train encoder, decoder and body in place so that `tail(encoder(stem(x)))` answers like `whole(x)`."""
    phase, widths, bits = recipe.bottleneck, recipe.seam.widths, recipe.seam.bits
    draws = random.Random(recipe.seed)
    for frozen in (head.stem, head.exit, whole):
        freeze(frozen)

    def loss_of(x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        with torch.no_grad():
            features_BFHW = head.stem(x_BCHW)
            restored_BFHW = whole.replaced(features_BFHW)
            teacher_BN = whole.body(restored_BFHW)
        z_BZHW = head.encoder(features_BFHW, widths[-1])
        # One batch of all the widths: batch statistics are then those of the mixture, which is what the
        # running ones will be, and what a server's mixed batches look like.
        chosen = (widths[0], widths[-1], draws.choice(widths))
        seen = [widen(fake_quantise(z_BZHW[:, :width], draws.choice(bits)), widths[-1]) for width in chosen]
        decoded_BFHW = tail.decoder(torch.cat(seen))
        copies = len(chosen)
        return _distance(
            phase,
            decoded_BFHW,
            restored_BFHW.repeat(copies, 1, 1, 1),
            tail.body,
            teacher_BN.repeat(copies, 1),
            labels_B.repeat(copies),
        )

    def after_epoch() -> str:
        shares = [f"{accuracy(split_model(head, tail, w, 4), tune, pixels):.3f} at {w}" for w in widths]
        return ", tune " + ", ".join(shares)

    parts = [head.encoder, tail.decoder, tail.body]
    fit("bottleneck", parts, loss_of, train, pixels, phase, recipe.seed + 1, report, after_epoch)


def _distance(
    phase: BottleneckPhase,
    decoded_BFHW: Tensor,
    restored_BFHW: Tensor,
    body: nn.Module,
    teacher_BN: Tensor,
    labels_B: Tensor,
) -> Tensor:
    """Feature error over the features' variance (so one learning rate serves every family) and answers' error."""
    logits_BN = body(decoded_BFHW)
    target_BN = F.log_softmax(teacher_BN.float(), dim=1)
    given_BN = F.log_softmax(logits_BN.float(), dim=1)
    loss = F.kl_div(given_BN, target_BN, log_target=True, reduction="batchmean")
    restored_BFHW = restored_BFHW.float()
    loss = loss + phase.feature_weight * F.mse_loss(decoded_BFHW.float(), restored_BFHW) / restored_BFHW.var()
    if phase.label_weight:
        loss = loss + phase.label_weight * F.cross_entropy(logits_BN, labels_B)
    return loss


def split_model(head: Head, tail: Tail, width: int, bits: int) -> nn.Module:
    """Frames to logits through the quantised bottleneck at one width: for measuring, in eval mode."""

    class Joined(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            z_BZHW = fake_quantise(head.encoder(head.stem(x_BCHW), width), bits)
            logits_BN: Tensor = tail(widen(z_BZHW, max(head.encoder.widths)))
            return logits_BN

    return Joined()


def freeze(part: nn.Module) -> None:
    part.eval()
    for parameter in part.parameters():
        parameter.requires_grad_(False)
