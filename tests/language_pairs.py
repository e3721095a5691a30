"""Small language models and a tokenizer, made here: random weights, nothing downloaded."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from splitrt.language.bundle import LanguageBundle, load_language, make_language
from splitrt.language.decoder import Decoder, DecoderConfig
from splitrt.language.folder import STORIES_NAMES
from splitrt.language.moa_config import MoaConfig
from splitrt.language.rope import Rope
from splitrt.language.sampling import Sampling
from splitrt.language.states import state_shapes

WORDS = (" the", " a", "he", " sun", "in", "er", " th", "é", " ☀", "at", " cat", "ing", " d", "og", "s.")
VOCABULARY = 3 + 256 + len(WORDS)
TARGET = DecoderConfig(
    vocabulary=VOCABULARY,
    hidden=32,
    feed_forward=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    context=160,
    rope=Rope(interleaved=True),
    tied=True,
)
DRAFT = replace(TARGET, layers=1)
MOA_DRAFT = replace(
    TARGET, layers=2, hidden=16, feed_forward=24, heads=2, kv_heads=2, head_dim=8
)  # a drafter without states
MOA = MoaConfig(
    vocabulary=VOCABULARY,
    hidden=16,
    feed_forward=24,
    heads=2,
    context=160,
    state=12,
    window=16,
    layers=TARGET.layers,
    cached=2 * TARGET.kv_heads * TARGET.head_dim,
    layer_hidden=12,
    layer_feed_forward=16,
    layer_heads=2,
)


def random_weights(config: DecoderConfig, seed: int, spread: float = 2.5) -> dict[str, Tensor]:
    """Large enough that what is said depends on what was said; norms near one."""
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in config.shapes().items():
        normal = torch.randn(shape, generator=draw)
        weights[name] = 1 + 0.1 * normal if "norm" in name else spread * normal / shape[-1] ** 0.5
        if name == "embed_tokens.weight":
            weights[name] = normal
    return weights


def random_model(config: DecoderConfig = TARGET, seed: int = 0) -> Decoder:
    return Decoder(config, random_weights(config, seed))


def save_stories(folder: Path, config: DecoderConfig, weights: dict[str, Tensor]) -> Path:
    """A folder in llama2.c's layout."""
    folder.mkdir(parents=True)
    described = {
        "dim": config.hidden, "hidden_dim": config.feed_forward, "n_layers": config.layers, "n_heads": config.heads,
        "n_kv_heads": config.kv_heads, "vocab_size": config.vocabulary, "max_seq_len": config.context,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(described))
    named = {}
    for name, weight in weights.items():
        for ours, theirs in STORIES_NAMES.items():
            name = name.replace(ours, theirs)
        named[name] = weight.contiguous()
    save_file(named, folder / "model.safetensors")
    return folder


def save_tokenizer(file: Path, words: Sequence[str] = WORDS) -> Path:
    pieces = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    pieces += [word.encode() for word in words]
    rows = [{"b64": base64.b64encode(piece).decode(), "score": -float(place)} for place, piece in enumerate(pieces)]
    file.write_text(json.dumps({"format": "as stories260K's", "pieces": rows}))
    return file


def save_moa(folder: Path) -> Path:
    """Both parts of a drafter that sees states, and no control: all random."""
    draw = torch.Generator().manual_seed(9)
    for half, shapes in (("moa", MOA.shapes()), ("states", state_shapes(MOA))):
        (folder / half).mkdir(parents=True)
        weights = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
        save_file(weights, folder / half / "model.safetensors")
    (folder / "moa" / "config.json").write_text(json.dumps(asdict(MOA)))
    return folder


def save_pair(folder: Path, *, moa: bool = False) -> LanguageBundle:
    """A bundle whose drafter is the target's first layer: often right, often wrong."""
    weights = random_weights(TARGET, 0)
    target = save_stories(folder / "target", TARGET, weights)
    draft = save_stories(folder / "draft", DRAFT, {name: weights[name] for name in DRAFT.shapes()})
    tokenizer = save_tokenizer(folder / "tokenizer.json")
    made = make_language(
        folder, name="tiny", version="1", target=target, draft=draft, tokenizer=tokenizer, ends=(2,),
        moa=save_moa(folder / "mixture") if moa else None,
    )  # fmt: skip
    return load_language(made)


class AlwaysWrong:
    """Says anything but what the target will say."""

    def __init__(self, truth: Sequence[int]) -> None:
        self._truth = truth

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        right = self._truth[len(tokens)] if len(tokens) < len(self._truth) else 0
        return (right + 1) % VOCABULARY, 0.9


class Oracle:
    """Says what the target will say, as far as it was told."""

    def __init__(self, truth: Sequence[int]) -> None:
        self._truth = truth

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        return (self._truth[len(tokens)], 0.9) if len(tokens) < len(self._truth) else None


class Random:
    def __init__(self, seed: int = 0) -> None:
        self._draw = torch.Generator().manual_seed(seed)

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        return int(torch.randint(VOCABULARY, (1,), generator=self._draw)), 0.1
