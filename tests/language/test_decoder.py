from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from language_pairs import TARGET, VOCABULARY, random_model, random_weights, save_stories  # noqa: E402

from splitrt.errors import BundleError, ConfigError, InvalidInput  # noqa: E402
from splitrt.language.context import Context  # noqa: E402
from splitrt.language.decoder import Decoder  # noqa: E402
from splitrt.language.folder import load_folder, load_stories  # noqa: E402
from splitrt.language.model import row_difference  # noqa: E402
from splitrt.language.rope import Rope  # noqa: E402
from splitrt.language.rows import paths_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = random_model()

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
SIZES = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3, **HEADS}
LLAMA = {"model_type": "llama", "max_position_embeddings": 64, **SIZES}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
PUBLISHED = [
    ("Llama", {}),
    ("Llama", {"rope_parameters": LLAMA3, "attention_bias": True}),
    ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5_000.0, "factor": 2.0}}),
    ("Llama", {"head_dim": 16, "tie_word_embeddings": True}),
    ("Qwen2", {}),
    ("Qwen2", {"rope_parameters": YARN}),
    ("Qwen3", {"head_dim": 12}),
    ("Mistral", {"sliding_window": None}),
    ("Mistral", {"sliding_window": 7}),
]


@pytest.mark.parametrize(("family", "extra"), PUBLISHED, ids=lambda value: str(value)[:40])
def test_logits_are_those_of_transformers_for_a_folder_that_it_saved(
    family: str, extra: dict[str, Any], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the llm extra")
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**SIZES, max_position_embeddings=128, **extra)
    config._attn_implementation = "eager"
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, weight in theirs.named_parameters():  # away from zero and one, so that each part matters
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(weight, mean=1.0 if "norm" in name else 0.0, std=0.3)
    theirs.save_pretrained(tmp_path)
    ours = load_folder(tmp_path)
    ids = torch.randint(0, 99, (1, 60))
    with torch.no_grad():
        wanted_TV = theirs(ids).logits[0]
    given_TV = ours.read(ids[0].tolist(), ours.cache())
    torch.testing.assert_close(given_TV, wanted_TV, rtol=0, atol=1e-4)
    assert float(wanted_TV.std()) > 0.05


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the llm extra")
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, max_position_embeddings=64)).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len([*tmp_path.glob("*.safetensors")]) > 1
    ids = [*range(20)]
    with torch.no_grad():
        wanted_TV = theirs(torch.tensor([ids])).logits[0]
    ours = load_folder(tmp_path)
    torch.testing.assert_close(ours.read(ids, ours.cache()), wanted_TV, rtol=0, atol=1e-4)


def test_a_row_is_the_same_to_the_last_bit_alone_in_a_chunk_and_in_a_tree() -> None:
    assert row_difference(MODEL, 100) == 0.0


def test_the_measure_of_rows_sees_a_model_whose_rows_do_depend_on_their_neighbours() -> None:
    class Leaky(Decoder):
        def _norm(self, x_RD: Any, name: str) -> Any:
            return super()._norm(x_RD, name) + 1e-6 * x_RD.mean()

    assert row_difference(Leaky(TARGET, random_weights(TARGET, 0)), 40) > 0


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_trees_rows_are_those_of_each_path_read_alone(data: st.DataObject) -> None:
    prefix = data.draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=0, max_size=40))
    nodes = data.draw(st.integers(1, 20))
    parents = [data.draw(st.integers(-1, node - 1)) for node in range(nodes)]
    ids = [data.draw(st.integers(0, VOCABULARY - 1)) for _ in range(nodes)]
    cache = MODEL.cache()
    MODEL.read(prefix, cache)
    tree_TV = MODEL.read(ids, cache, parents)
    for node, path in enumerate(paths_of(parents, nodes)):
        alone_TV = MODEL.read([*prefix, *(ids[one] for one in path)], MODEL.cache())
        assert torch.equal(tree_TV[node], alone_TV[-1])


def test_logits_after_a_thousand_accepts_and_rollbacks_are_those_of_a_fresh_pass_and_memory_stays_flat() -> None:
    draw = random.Random(1)
    context, tokens = Context(MODEL), [1]
    most_bytes = 0
    for step in range(1_000):
        nodes = draw.randint(0, 12)
        parents = [draw.randint(-1, node - 1) for node in range(nodes)]
        ids = [draw.randrange(VOCABULARY) for _ in range(nodes)]
        logits_TV = context.look(tokens, ids, parents)
        if step % 50 == 0:
            fresh_TV = MODEL.read(tokens, MODEL.cache())
            assert float((logits_TV[0] - fresh_TV[-1]).abs().max()) <= 1e-4
            assert torch.equal(logits_TV[0], fresh_TV[-1])
        paths = [[], *paths_of(parents, nodes)]
        path = draw.choice(paths)
        if draw.random() < 0.9:
            context.keep(len(tokens), path, ids)
            tokens = [*tokens, *(ids[node] for node in path), draw.randrange(VOCABULARY)]
        if len(tokens) > TARGET.context - 20 or draw.random() < 0.2:
            tokens = tokens[: draw.randint(1, len(tokens))]
            tokens = tokens[: TARGET.context - 40]
        if step == 500:
            most_bytes = context.cache.held_bytes
    assert context.cache.held_bytes == most_bytes


def test_the_cache_is_cropped_to_what_is_shared_and_only_the_rest_is_read() -> None:
    context = Context(MODEL)
    context.look([1, 5, 6, 7])
    logits_TV = context.look([1, 5, 9])
    assert context.tokens == [1, 5, 9]
    assert context.cache.length == 3
    assert torch.equal(logits_TV[0], MODEL.read([1, 5, 9], MODEL.cache())[-1])


def test_what_is_borrowed_is_the_same_as_if_it_had_been_read_here() -> None:
    long, mine = Context(MODEL), Context(MODEL)
    long.look([1, *range(50, 90)])
    mine.borrow(long, [1, *range(50, 80), 7, 8])
    assert mine.tokens == [1, *range(50, 80)]
    logits_TV = mine.look([1, *range(50, 80), 7, 8])
    assert torch.equal(logits_TV[0], MODEL.read([1, *range(50, 80), 7, 8], MODEL.cache())[-1])


@pytest.mark.parametrize("parents", [[0], [-1, 1], [-1, 2, 0], [-2], [-1, 0, 3]])
def test_orphans_and_cycles_are_refused(parents: list[int]) -> None:
    with pytest.raises(InvalidInput, match="parent must come before"):
        MODEL.read([3] * len(parents), MODEL.cache(), parents)


def test_ids_and_positions_that_cannot_be_are_refused_and_the_cache_stays() -> None:
    cache = MODEL.cache()
    MODEL.read([1, 2], cache)
    for ids in ([VOCABULARY], [-1], [1] * TARGET.context):
        with pytest.raises(InvalidInput):
            MODEL.read(ids, cache)
    assert cache.length == 2
    with pytest.raises(InvalidInput, match="cropped to at most"):
        cache.crop(3)
    with pytest.raises(InvalidInput, match="rows must lie"):
        cache.gather(1, [1])


def test_a_folder_that_is_damaged_or_unknown_is_refused(tmp_path: Path) -> None:
    weights = random_weights(TARGET, 0)
    folder = save_stories(tmp_path / "good", TARGET, weights)
    assert isinstance(load_folder(folder), Decoder)
    (folder / "model.safetensors").write_bytes(b"not this")
    with pytest.raises(BundleError, match="readable safetensors"):
        load_folder(folder)
    wider = replace(TARGET, hidden=TARGET.hidden + 2)
    with pytest.raises(BundleError, match="must have shape"):
        load_folder(save_stories(tmp_path / "wide", wider, weights))
    missing = {name: weight for name, weight in weights.items() if name != "norm.weight"}
    with pytest.raises(BundleError, match="that are missing"):
        load_folder(save_stories(tmp_path / "missing", TARGET, missing))
    for content, error in (
        ('{"model_type": "no such kind"}', "model_type must be"),
        ('{"model_type": "llama"}', "must describe a llama model"),
        ("[1]", "must hold an object"),
        ("{", "readable JSON"),
    ):
        (folder / "config.json").write_text(content)
        with pytest.raises((ConfigError, BundleError), match=error):
            load_folder(folder)


def test_a_config_larger_than_memory_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ConfigError, match="vocabulary must be from 1 to"):
        replace(TARGET, vocabulary=1 << 40)
    with pytest.raises(ConfigError, match="multiple of kv_heads"):
        replace(TARGET, heads=3)


def test_stories260k_says_what_its_authors_say_it_says(data: Path) -> None:
    folder = data / "lm_stories260k"
    model = load_stories(folder / "stories260k.config.json", folder / "stories260k.safetensors")
    from itertools import islice

    from splitrt.language.plain import plain_tokens
    from splitrt.language.sampling import Sampling
    from splitrt.language.tokens import load_tokenizer

    said = [*islice(plain_tokens(model, [1], Sampling()), 60)]
    text = load_tokenizer(folder / "tokenizer.json").decode([1, *said])
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )
    assert row_difference(model, 60) == 0.0


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "vocab_size is missing"),
        ('{"vocab_size": ' + "1" * 5000 + "}", "must be a readable JSON file"),
        ({**LLAMA, "rope_theta": 10**400}, "must describe a llama model"),
        ({**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor must be finite and above 0"),
        ({**LLAMA, "rope_scaling": {"rope_type": "yarn", "factor": 4, "beta_fast": 0}}, "beta_fast must be finite"),
        (
            {**LLAMA, "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 0}},
            "original_max_position_embeddings must be finite",
        ),
        (
            {
                **LLAMA,
                "rope_scaling": {
                    "rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                    "original_max_position_embeddings": 8,
                },
            },
            "low_freq_factor must be below",
        ),
        ({"model_type": "gpt2", "layer_types": 5}, "must hold every token: 5"),
        ({"model_type": "gpt2", "layer_types": [["a"]]}, "must hold every token"),
    ],
)  # fmt: skip
def test_a_damaged_configuration_is_refused_in_words(given: Any, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(given if isinstance(given, str) else json.dumps(given))
    with pytest.raises((BundleError, ConfigError), match=wanted):
        load_folder(tmp_path)


def test_a_text_does_not_see_the_turns_that_another_is_still_making() -> None:
    made, asked = threading.Event(), threading.Event()

    class Slow(Rope):
        def tables(self, head_dim: int, positions: int) -> tuple[Any, Any]:
            asked.set()
            assert made.wait(5)
            return super().tables(head_dim, positions)

    decoder = Decoder(replace(TARGET, rope=Slow(interleaved=True)), random_weights(TARGET, 0))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(decoder.turns, 100)
        assert asked.wait(5)
        second = pool.submit(decoder.turns, 100)
        wait([second], timeout=0.05)
        made.set()
        assert len(first.result()[0]) >= 100
        assert len(second.result()[0]) >= 100
