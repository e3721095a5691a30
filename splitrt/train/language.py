"""A language recipe's whole course: vocabulary, target on a text, drafter distilled from it, bundle.

The text's first nine tenths are trained on, the next twentieth chooses nothing and is what the card reports; the last
twentieth is never read here: benchmarks may.

Shape letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
import math
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from splitrt.bundle import new_folder
from splitrt.errors import ConfigError
from splitrt.language.bundle import make_language
from splitrt.language.decoder import DecoderConfig
from splitrt.language.folder import STORIES_NAMES
from splitrt.language.rope import Rope
from splitrt.language.tokens import StoriesTokenizer, load_tokenizer
from splitrt.manifest import NAME, VERSION
from splitrt.train.language_card import imitation_lines, parameters
from splitrt.train.reader import Reader, windows
from splitrt.train.vocabulary import encode_text, learn_pieces, write_vocabulary
from splitrt.watch import Watch

TRAINED, REPORTED = 0.9, 0.95  # of the text: up to where it is trained on, up to where the card reads it
WARM_UP = 0.05  # of the steps


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(Table):
    hidden: int = Field(ge=8, le=4096)
    feed_forward: int = Field(ge=8, le=16384)
    layers: int = Field(ge=1, le=64)
    heads: int = Field(ge=1, le=64)
    kv_heads: int = Field(ge=1, le=64)
    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=0.1)


class LanguageRecipe(Table):
    """`teacher_weight`: share of the drafter's loss that is cross entropy to the target's law, not to the text."""

    kind: Literal["language"]
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: str = Field(pattern=f"^{VERSION.pattern}$")
    seed: int = 0
    text: str = Field(pattern=r"^[a-z0-9_]+(/[a-z0-9_]+)*\.txt$")  # in the data folder
    vocabulary: int = Field(ge=259, le=4096)
    context: int = Field(ge=16, le=4096)
    batch: int = Field(ge=1, le=1024)
    weight_decay: float = Field(0.1, ge=0, le=1)
    teacher_weight: float = Field(1.0, ge=0, le=1)
    target: Model
    draft: Model

    def config(self, model: Model, vocabulary: int) -> DecoderConfig:
        return DecoderConfig(
            vocabulary=vocabulary,
            hidden=model.hidden,
            feed_forward=model.feed_forward,
            layers=model.layers,
            heads=model.heads,
            kv_heads=model.kv_heads,
            head_dim=model.hidden // model.heads,
            context=self.context,
            rope=Rope(interleaved=True),
            tied=True,
        )


def is_language_recipe(file: Path) -> bool:
    try:
        return tomllib.loads(file.read_text()).get("kind") == "language"
    except (OSError, ValueError):
        return False  # whoever reads it as another recipe says what is wrong


def read_language_recipe(file: Path) -> LanguageRecipe:
    """Raises ConfigError naming the key."""
    try:
        return LanguageRecipe.model_validate(tomllib.loads(file.read_text()))
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def train_language(recipe: LanguageRecipe, data: Path, out: Path, watch: Watch) -> Path:
    """Make the recipe's bundle under `out`; returns its folder. Raises ConfigError on a text that is not there."""
    new_folder(out, recipe.name, recipe.version)  # before the hours, not after
    text = read_text(data, recipe.text)
    work = out / ".training" / f"{recipe.name}-{recipe.version}"
    work.mkdir(parents=True, exist_ok=True)
    trained = text[: int(TRAINED * len(text))]
    write_vocabulary(work / "tokenizer.json", learn_pieces(trained, recipe.vocabulary))
    tokenizer = load_tokenizer(work / "tokenizer.json")
    assert isinstance(tokenizer, StoriesTokenizer)
    ids = torch.tensor(encode_text(tokenizer, trained))
    held = torch.tensor(encode_text(tokenizer, text[len(trained) : int(REPORTED * len(text))]))
    watch.line(f"{len(ids)} tokens to train on, {len(trained.encode()) / len(ids):.2f} bytes each")
    torch.manual_seed(recipe.seed)
    target = Reader(recipe.config(recipe.target, tokenizer.vocabulary))
    draft = Reader(recipe.config(recipe.draft, tokenizer.vocabulary))
    fit("target", target, lambda x_BT, y_BT: _cross_entropy(target(x_BT), y_BT), ids, recipe, recipe.target, watch)
    target.eval().requires_grad_(False)

    def distilled(x_BT: Tensor, y_BT: Tensor) -> Tensor:
        q_BTV = draft(x_BT)
        to_teacher = cross_entropy_to(target(x_BT).softmax(-1), q_BTV)
        loss: Tensor = recipe.teacher_weight * to_teacher + (1 - recipe.teacher_weight) * _cross_entropy(q_BTV, y_BT)
        return loss

    fit("draft", draft, distilled, ids, recipe, recipe.draft, watch)
    draft.eval()
    for half, model in (("target", target), ("draft", draft)):
        save_reader(work / half, model)
    folder = make_language(
        out, name=recipe.name, version=recipe.version, target=work / "target", draft=work / "draft",
        tokenizer=work / "tokenizer.json",
    )  # fmt: skip
    _write_card(folder, recipe, target, draft, held, len(ids))
    return folder


def read_text(data: Path, name: str) -> str:
    try:
        return (data / name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe text must be a readable file of the data folder: {error}") from error


def fit(
    name: str,
    model: Reader,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    ids: Tensor,
    recipe: LanguageRecipe,
    how: Model,
    watch: Watch,
) -> None:
    """AdamW with warm-up and cosine, windows of the text drawn by seed, each behind a beginning of text."""
    draw = torch.Generator().manual_seed(recipe.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=how.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    started_at, recent = time.monotonic(), 0.0
    for step in range(how.steps):
        rate = min(1.0, (step + 1) / max(1, WARM_UP * how.steps))
        rate *= 0.1 + 0.45 * (1 + math.cos(math.pi * step / how.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * how.learning_rate
        loss = loss_of(*windows(ids, recipe.context, recipe.batch, draw))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ConfigError(f"{name}: the loss must stay finite, got {value} at step {step}")
        recent = value if not step else recent + 0.05 * (value - recent)
        watch.step(name, step + 1, how.steps)
        if (step + 1) % 50 == 0 or step + 1 == how.steps:
            watch.line(f"{name} {step + 1}/{how.steps}: loss {recent:.3f}, {time.monotonic() - started_at:.0f} s")


def save_reader(folder: Path, model: Reader) -> None:
    """In llama2.c's layout, as `load_folder` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    described = {
        "dim": config.hidden, "hidden_dim": config.feed_forward, "n_layers": config.layers, "n_heads": config.heads,
        "n_kv_heads": config.kv_heads, "vocab_size": config.vocabulary, "max_seq_len": config.context,
        "tied_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")
    named = {}
    for name, weight in model.named().items():
        for ours, theirs in STORIES_NAMES.items():
            name = name.replace(ours, theirs)
        named[name] = weight.half().contiguous()
    save_file(named, folder / "model.safetensors")


def cross_entropy_to(p_BTV: Tensor, q_BTV: Tensor) -> Tensor:
    """Of a law p and logits q: a mean over all places."""
    return -(p_BTV * q_BTV.log_softmax(-1)).sum(-1).mean()


def _cross_entropy(logits_BTV: Tensor, y_BT: Tensor) -> Tensor:
    return F.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten())


def _write_card(folder: Path, recipe: LanguageRecipe, target: Reader, draft: Reader, held: Tensor, tokens: int) -> None:
    lines = [
        f"# {recipe.name} {recipe.version}",
        "",
        f"A target of {parameters(target):,} parameters and a drafter of {parameters(draft):,}, trained from scratch "
        f"by `splitrt train` on `{recipe.text}` ({tokens:,} tokens of a vocabulary of {target.config.vocabulary}), "
        f"seed {recipe.seed}; the drafter distilled from the target. It shows how drafting works, and writes no sense.",
        "",
        *imitation_lines(target, draft, held, recipe.batch, recipe.seed),
        "No drafter on the target's features (Mixture of Attentions) is in this bundle: none was trained.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
