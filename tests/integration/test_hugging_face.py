"""Folders that transformers and tokenizers wrote: paired, served, and told as transformers itself tells them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers", reason="needs the llm extra")
tokenizers = pytest.importorskip("tokenizers", reason="needs the llm extra")

from splitrt.config import ServerConfig  # noqa: E402
from splitrt.device.events import Done  # noqa: E402
from splitrt.device.language import connect_language  # noqa: E402
from splitrt.language.bundle import load_language, make_language  # noqa: E402
from splitrt.language.folder import end_tokens  # noqa: E402
from splitrt.server.serve import serve  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = ["the cat sat on the mat, naïvely ☀ and then the cat left the mat"] * 5
PROMPT = "the cat sat"


def save_tokenizer(folder: Path) -> int:
    """Byte-level BPE, as Llama 3 and Qwen have it; its vocabulary."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<end>"],
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return int(made.get_vocab_size())


def save_model(folder: Path, family: str, vocabulary: int, layers: int) -> Any:
    torch.manual_seed(5)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=vocabulary + 4,  # folders pad their embeddings
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=96,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for weight in model.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=2.0 / weight.shape[1] ** 0.5)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
async def test_the_text_is_what_transformers_says_greedily(family: str, tmp_path: Path) -> None:
    vocabulary = save_tokenizer(tmp_path / "target")
    theirs = save_model(tmp_path / "target", family, vocabulary, layers=2)
    save_model(tmp_path / "draft", family, vocabulary, layers=1)
    assert end_tokens(tmp_path / "target") == (0,)
    folder = make_language(
        tmp_path / "bundles",
        name="chat",
        version="1",
        target=tmp_path / "target",
        draft=tmp_path / "draft",
        tokenizer=tmp_path / "target" / "tokenizer.json",
        ends=end_tokens(tmp_path / "target"),
    )
    bundle = load_language(folder)
    assert json.loads((folder / "target" / "config.json").read_text())["model_type"] == family.lower()
    ids = bundle.tokenizer().encode(PROMPT)
    with torch.no_grad():
        said = theirs.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False)[0, len(ids) :].tolist()
    config = ServerConfig(listen="127.0.0.1:0", bundles=(str(folder),), drain_grace_s=0.1)
    async with serve(config) as server:
        async with connect_language(server.address, bundle=str(folder)) as client:
            for settings in (
                {"mode": "split", "draft_tokens": 3},
                {"mode": "split", "branches": 3},
                {"mode": "server"},
            ):
                events = [event async for event in client.generate(PROMPT, max_tokens=40, **settings)]
                done = events[-1]
                assert isinstance(done, Done)
                assert list(done.tokens) == said
                assert done.text == bundle.tokenizer().decode([*ids, *said])[len(PROMPT) :]
    assert len(set(said)) > 5
