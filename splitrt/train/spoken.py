"""An always-on gate for spoken words, trained as one gated network that can be asked for any of its words.

Shape letters: B batch, N clips or classes, T time.
Each sample of a batch is asked for a word: its own for half of them, another for the rest. So the row learns one gate a
word at once, by the loss of gated compression, and a bundle's gate is the row asked for one set of words.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel

from splitrt.manifest import Audio
from splitrt.nn.gate import Weights, gated_loss, log_odds
from splitrt.nn.spoken import Spoken
from splitrt.train.loop import TrainingFailed, groups, one_cycle
from splitrt.train.sounds import Clips, augmented, virtual_speakers, voice
from splitrt.watch import Watch

Int64 = npt.NDArray[np.int64]
WARM_UP = 0.3  # share of the steps over which beta grows to its whole


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sound(Table):
    """As the manifest's [audio], less what training measures."""

    rate_hz: int
    samples: int
    window: int
    hop: int
    bands: int
    low_hz: float
    high_hz: float
    memory: int = 100


class GatePhase(Table):
    """AdamW under a one-cycle learning rate; alpha and beta a position, see splitrt.nn.gate."""

    epochs: int = Field(ge=1)
    batch: int = Field(50, ge=2)
    learning_rate: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    averaged: float = Field(0.5, ge=0, lt=1)  # the last steps' share over which weights are averaged
    width: int = Field(16, ge=2)
    alphas: tuple[float, float] = (0.5, 1.0)
    betas: tuple[float, float] = (0.0, 5.0)
    most: float = Field(0.1, gt=0, le=1)  # share of the seam's channels that may be sent
    words_weight: float = Field(1.0, ge=0)  # of telling all words apart, in every gate's MLP
    handicaps: tuple[float, float] = (2.0, 0.0)  # log odds by which the first gate must be surer than the second
    recall: float = Field(0.9, gt=0, lt=1)  # to be certified
    delta: float = Field(0.1, gt=0, lt=1)
    # Share of negatives in calibration down to which the threshold is raised. The networks there met a speaker fewer
    # than the one that is served, and stop less: 0.88 of theirs is 0.9 of three speakers' (docs/gates.md).
    stops: float = Field(0.88, gt=0, lt=1)

    @property
    def weights(self) -> list[Weights]:
        return [Weights(alpha=alpha, beta=beta) for alpha, beta in zip(self.alphas, self.betas, strict=True)]


class SpokenRecipe(Table):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    version: str = Field(pattern=r"^[0-9A-Za-z.]{1,20}$")
    seed: int = 0
    words: tuple[str, ...] = Field(min_length=2)  # a label each
    keywords: tuple[str, ...] = Field(min_length=1)  # what the gate lets through
    speakers: tuple[str, ...] = Field(min_length=2)  # to train and calibrate on; all others stay unheard
    sound: Sound
    gate: GatePhase

    @model_validator(mode="after")
    def _known(self) -> SpokenRecipe:
        if not set(self.keywords) < set(self.words):
            raise ValueError(f"keywords must be some of words {list(self.words)}, not all, got {list(self.keywords)}")
        return self


def train_spoken(clips: Clips, audio: Audio, classes: int, phase: GatePhase, seed: int, watch: Watch) -> Spoken:
    """On all of `clips`. Raises TrainingFailed on a loss that is not finite."""
    torch.manual_seed(seed)
    draws = np.random.default_rng(seed)
    said_VNBT = virtual_speakers(clips, audio, seed)
    model = Spoken(classes, torch.from_numpy(voice(audio)), phase.width).train()
    optimiser = AdamW(groups([model], phase.weight_decay), lr=phase.learning_rate)
    seam = model.row.layer(-1)
    average = AveragedModel(model, use_buffers=True)
    steps_each = max(1, len(clips) // phase.batch)
    steps = phase.epochs * steps_each
    for step in range(steps):
        if step % steps_each == 0:
            order = draws.permutation(len(clips))
        chosen = order[(step % steps_each) * phase.batch :][: phase.batch]
        for group in optimiser.param_groups:
            group["lr"] = phase.learning_rate * one_cycle(step / steps)
        seam.limit = channels_allowed(seam.openness_C.numel(), phase.most, step / steps)
        x_B1MT = torch.from_numpy(augmented(said_VNBT, chosen, draws))
        loss = _loss(model, x_B1MT, clips.labels_N[chosen], classes, phase, step / steps, draws)
        if not math.isfinite(float(loss.detach())):
            raise TrainingFailed(f"gate: loss must be finite, got {float(loss.detach())} at step {step + 1} of {steps}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step >= (1 - phase.averaged) * steps:
            average.update_parameters(model)
        watch.step("gate", step + 1, steps)
    if phase.averaged:
        model.load_state_dict(average.module.state_dict())
    return model.eval()


def channels_allowed(channels: int, most: float, share: float) -> int:
    """After a share of the steps: falls from all of them to a share `most` while beta grows."""
    allowed = 1 - (1 - most) * min(1.0, share / WARM_UP)
    return max(1, int(allowed * channels))


def asked(labels_B: Int64, classes: int, draws: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(B, N): the one word that each sample is asked for, its own for half of them."""
    others_B = (labels_B + draws.integers(1, classes, len(labels_B))) % classes
    words_B = np.where(draws.random(len(labels_B)) < 0.5, labels_B, others_B)
    return np.asarray(np.eye(classes, dtype=np.bool_)[words_B])


def _loss(
    model: Spoken,
    x_B1MT: torch.Tensor,
    labels_B: Int64,
    classes: int,
    phase: GatePhase,
    share: float,
    draws: np.random.Generator,
) -> torch.Tensor:
    is_in_BN = torch.from_numpy(asked(labels_B, classes, draws))
    labels = torch.from_numpy(labels_B)
    seam_BCHW, logits = model.row(x_B1MT, is_in_BN)
    odds = [log_odds(logits_BN, is_in_BN) for logits_BN in logits]
    task_B = F.cross_entropy(model.server(seam_BCHW), labels, label_smoothing=0.05, reduction="none")
    is_positive_B = is_in_BN[torch.arange(len(labels)), labels]
    layers = [model.row.layer(k) for k in range(2)]
    words = sum((F.cross_entropy(logits_BN, labels, label_smoothing=0.1) for logits_BN in logits), torch.zeros(()))
    return phase.words_weight * words + gated_loss(
        task_B, odds, is_positive_B, layers, phase.weights, warm=min(1.0, share / WARM_UP)
    )
