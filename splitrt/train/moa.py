"""A Mixture of Attentions drafter for a language bundle that is there, whose target stays as it is.

With it, on the same windows of the text, the same course and the same teacher, the bundle's own drafter is trained on.
So the bundle made has two drafters that a device runs at the same cost and that learnt alike, of which one sees the
target's states.

Shape letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from splitrt.bundle import new_folder
from splitrt.errors import ConfigError
from splitrt.language.bundle import LanguageBundle, find_language, make_language
from splitrt.language.moa_config import MoaConfig
from splitrt.language.tokens import StoriesTokenizer
from splitrt.manifest import NAME, VERSION
from splitrt.train.checkpoint import Curve, load_checkpoint, save_checkpoint
from splitrt.train.language import REPORTED, TRAINED, Table, cross_entropy_to, read_text, save_reader
from splitrt.train.mixture import Mixture, Thinker, verified_at
from splitrt.train.moa_card import write_moa_card
from splitrt.train.reader import Reader, decoder_of, reader_of, windows
from splitrt.train.vocabulary import encode_text
from splitrt.watch import Watch

WARM_UP = 0.05  # of the steps
SAVE_EVERY = 50  # steps


class MoaRecipe(Table):
    """bundle: beside what is made, under `out`, or a built-in one; strides: shortest and longest round that is trained;
    outages: share of texts in which the states end.
    """

    kind: Literal["moa"]
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: str = Field(pattern=f"^{VERSION.pattern}$")
    bundle: str = Field(pattern=f"^{NAME.pattern}$")
    seed: int = 0
    text: str = Field(pattern=r"^[a-z0-9_]+(/[a-z0-9_]+)*\.txt$")  # in the data folder
    batch: int = Field(ge=1, le=1024)
    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=0.1)
    fresh_share: float = Field(1.0, gt=0, le=100)  # of the learning rate, for what does not begin as the drafter
    weight_decay: float = Field(0.1, ge=0, le=1)
    strides: tuple[int, int] = (2, 10)
    outages: float = Field(0.1, ge=0, le=1)
    state: int = Field(ge=1, le=4096)
    window: int = Field(ge=1, le=65536)
    layer_hidden: int = Field(ge=1, le=4096)
    layer_feed_forward: int = Field(ge=1, le=16384)
    layer_heads: int = Field(ge=1, le=64)

    @model_validator(mode="after")
    def _rising(self) -> MoaRecipe:
        if not 1 <= self.strides[0] <= self.strides[1]:
            raise ValueError(f"strides must be two whole numbers from 1 up, the second no less, got {self.strides}")
        return self

    def config(self, target: Reader, draft: Reader) -> MoaConfig:
        return MoaConfig(
            vocabulary=target.config.vocabulary,
            hidden=draft.config.hidden,
            feed_forward=draft.config.feed_forward,
            heads=draft.config.heads,
            context=target.config.context,
            state=self.state,
            window=self.window,
            layers=target.config.layers,
            cached=2 * target.config.kv_heads * target.config.head_dim,
            layer_hidden=self.layer_hidden,
            layer_feed_forward=self.layer_feed_forward,
            layer_heads=self.layer_heads,
        )


def is_moa_recipe(file: Path) -> bool:
    try:
        return tomllib.loads(file.read_text()).get("kind") == "moa"
    except (OSError, ValueError):
        return False


def read_moa_recipe(file: Path) -> MoaRecipe:
    """Raises ConfigError naming the key."""
    try:
        return MoaRecipe.model_validate(tomllib.loads(file.read_text()))
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def train_moa(recipe: MoaRecipe, data: Path, out: Path, watch: Watch) -> Path:
    """Make the recipe's bundle under `out`; returns its folder. Raises ConfigError on a text that is not there."""
    new_folder(out, recipe.name, recipe.version)  # before the hours, not after
    bundle, text = find_language(recipe.bundle, out), read_text(data, recipe.text)
    tokenizer = bundle.tokenizer()
    if not isinstance(tokenizer, StoriesTokenizer):
        raise ConfigError(f"bundle {bundle.name} must have a tokenizer of `splitrt train`'s own")
    ids = torch.tensor(encode_text(tokenizer, text[: int(TRAINED * len(text))]))
    held = encode_text(tokenizer, text[int(TRAINED * len(text)) : int(REPORTED * len(text))])
    work = out / ".training" / f"{recipe.name}-{recipe.version}"
    mixture, draft = fit_moa(recipe, bundle, ids, work / f"moa-{_decides(recipe, bundle)}.safetensors", watch)
    _save(work / "parts", mixture, draft)
    folder = make_language(
        out, name=recipe.name, version=recipe.version, target=bundle.folder / "target", draft=work / "parts/draft",
        tokenizer=bundle.folder / "tokenizer.json", ends=bundle.manifest.ends, moa=work / "parts",
    )  # fmt: skip
    watch.line("measured on the text behind what was trained on")
    write_moa_card(folder, bundle, recipe, held, len(ids))
    return folder


def _decides(recipe: MoaRecipe, bundle: LanguageBundle) -> str:
    """Of all that a course depends on: another recipe's state is not gone on from."""
    decides = f"{recipe.model_dump_json(exclude={'name', 'version'})} {bundle.digest.hex()}"
    return hashlib.sha256(decides.encode()).hexdigest()[:12]


def _save(folder: Path, mixture: Mixture, draft: Reader) -> None:
    for half, weights in (("moa", mixture.weights(mixture.device)), ("states", mixture.weights(mixture.server))):
        (folder / half).mkdir(parents=True, exist_ok=True)
        halved = {name: weight.half().contiguous() for name, weight in weights.items()}
        save_file(halved, folder / half / "model.safetensors")
    (folder / "moa" / "config.json").write_text(json.dumps(asdict(mixture.config), indent=1) + "\n")
    save_reader(folder / "draft", draft)


def fit_moa(
    recipe: MoaRecipe, bundle: LanguageBundle, ids: Tensor, checkpoint: Path, watch: Watch
) -> tuple[Mixture, Reader]:
    """The drafter that sees states, and the independent one; goes on from a checkpoint where there is one."""
    target, draft = thinker_of(bundle), reader_of(bundle, "draft")
    torch.manual_seed(recipe.seed)
    mixture = Mixture(recipe.config(target, draft), draft.named())
    parts: list[nn.Module] = [mixture, draft]
    groups = [
        {"params": [*draft.parameters(), *mixture.begun()], "share": 1.0},
        {"params": mixture.fresh(), "share": recipe.fresh_share},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=recipe.weight_decay)
    curve: Curve = []
    if checkpoint.is_file():
        curve = load_checkpoint(checkpoint, parts, optimiser)
        watch.line(f"moa: goes on after step {curve[-1]['step']} of {recipe.steps}")
    started_at, sums, summed = time.monotonic(), [0.0, 0.0], 0
    for step in range(curve[-1]["step"] if curve else 0, recipe.steps):
        draw = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)  # so that a resumed course is the same
        x_BT, _ = windows(ids, target.config.context, recipe.batch, draw)
        verified_BT = verified_at(x_BT.shape[0], x_BT.shape[1], recipe.strides, recipe.outages, draw)
        with torch.no_grad():
            p_BTV, cached_BTLC = target.think(x_BT)
            p_BTV = p_BTV.softmax(-1)
        losses = [cross_entropy_to(p_BTV, q) for q in (mixture(x_BT, cached_BTLC, verified_BT), draft(x_BT))]
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * group["share"] * _rate(step, recipe.steps)
        optimiser.zero_grad()
        sum(losses).backward()  # type: ignore[union-attr]
        for part in parts:
            torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimiser.step()
        sums = [held + float(loss.detach()) for held, loss in zip(sums, losses, strict=True)]
        summed += 1
        if not all(math.isfinite(one) for one in sums):
            raise ConfigError(f"moa: the loss must stay finite, got {losses} at step {step}")
        watch.step("moa", step + 1, recipe.steps)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            curve.append({"step": step + 1, "moa": sums[0] / summed, "draft": sums[1] / summed})
            watch.line(
                f"moa {step + 1}/{recipe.steps}: loss {curve[-1]['moa']:.3f}, draft {curve[-1]['draft']:.3f}, "
                f"{time.monotonic() - started_at:.0f} s"
            )
            sums, summed = [0.0, 0.0], 0
            save_checkpoint(checkpoint, parts, optimiser, curve)
    return mixture.eval(), draft.eval()


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1, WARM_UP * steps)) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))


def thinker_of(bundle: LanguageBundle) -> Thinker:
    served = decoder_of(bundle, "target")
    thinker = Thinker(served.config)
    thinker.take(served.named())
    return thinker.eval().requires_grad_(False)
