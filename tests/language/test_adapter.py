"""Models of other kinds, as transformers saves them: served where their caches can be cropped, else refused."""

from __future__ import annotations

import json
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers", reason="needs the llm extra")

from splitrt.errors import BundleError, ConfigError  # noqa: E402
from splitrt.language.adapter import CLOSE, Adapter  # noqa: E402
from splitrt.language.context import Context  # noqa: E402
from splitrt.language.folder import load_folder  # noqa: E402
from splitrt.language.model import row_difference  # noqa: E402
from splitrt.language.plain import plain_tokens  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.language.target import verify  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
COMMON = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "GPTNeoX": {},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Phi": {"num_key_value_heads": 2},
    "Gemma": {"num_key_value_heads": 2, "head_dim": 8},
}


def saved(folder: Path, kind: str, **settings: Any) -> Path:
    torch.manual_seed(4)
    config = getattr(transformers, f"{kind}Config")(**{**COMMON, **settings})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.copy_(torch.randn(weight.shape) * 2 / weight.shape[-1] ** 0.5)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_drafts_are_verified_to_what_the_library_says_itself(kind: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / kind, kind, **KINDS[kind])
    target = load_folder(folder)
    assert isinstance(target, Adapter)
    prompt, theirs = [5, 7, 11], transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    said = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=24, min_new_tokens=24, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    wanted = said[0].tolist()
    sampling, tokens, context = Sampling(), list(prompt), Context(target)
    for place in range(len(wanted)):
        if len(tokens) >= len(wanted) - 4:
            break
        right, wrong = wanted[len(tokens) : len(tokens) + 3], (wanted[len(tokens)] + 1) % 90
        ids, parents = (
            [wrong, right[0], wrong, right[1]],
            [-1, -1, 0, 1 if place % 2 else 0],
        )  # a tree, half of it astray
        verified = verify(context, context.look(tokens, ids, parents), tokens, ids, parents, sampling)
        tokens += [*(ids[node] for node in verified.path), verified.token]
        assert tokens == wanted[: len(tokens)]
        assert context.cache.length == len(tokens) - 1
    assert row_difference(target, 20) < CLOSE
    alone = [*zip(range(10), plain_tokens(target, prompt, sampling), strict=False)]
    assert [token for _, token in alone] == wanted[3:13]


def test_a_model_that_reads_no_trees_reads_them_node_by_node(tmp_path: Path) -> None:
    target = load_folder(saved(tmp_path / "one", "GPT2", **KINDS["GPT2"]))
    assert isinstance(target, Adapter)
    assert target.has_trees
    at_once, one_by_one = target.cache(), target.cache()
    ids, parents = [4, 9, 2, 6, 1], [-1, -1, 0, 1, 2]
    for cache in (at_once, one_by_one):
        target.read([3, 1, 4], cache)
    first_TV = target.read(ids, at_once, parents)
    target.has_trees = False
    torch.testing.assert_close(target.read(ids, one_by_one, parents), first_TV, rtol=0, atol=CLOSE)
    assert one_by_one.length == at_once.length == 8
    for mine, theirs in zip(one_by_one.keys, at_once.keys, strict=True):
        torch.testing.assert_close(mine[:8], theirs[:8], rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("kind", "settings", "wanted"),
    [
        ("Gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}, "must hold every token"),
        ("Mamba", {"state_size": 4, "expand": 2}, "must (hold|keep)"),
    ],
)
def test_windows_and_recurrent_models_are_refused(
    kind: str, settings: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=wanted):
        load_folder(saved(tmp_path / kind, kind, **settings))


def test_a_cache_that_does_not_crop_a_folder_with_code_and_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one", "GPT2", **KINDS["GPT2"])
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    plain = model.forward

    @wraps(plain)
    def remembers(*given: Any, **named: Any) -> Any:
        """As a recurrent layer would: what was read and cropped is in the logits still."""
        model.seen = getattr(model, "seen", 0) + 1
        result = plain(*given, **named)
        result.logits = result.logits + 0.01 * model.seen
        return result

    model.forward = remembers
    with pytest.raises(ConfigError, match="after it was cropped"):
        Adapter(model)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "code.Model"}}))
    with pytest.raises(ConfigError, match="code of its folder"):
        load_folder(folder)
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    with pytest.raises(BundleError, match="missing"):
        load_folder(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="gpt2"):
        load_folder(folder)
