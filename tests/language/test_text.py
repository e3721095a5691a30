from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from language_pairs import VOCABULARY, save_tokenizer  # noqa: E402

from splitrt.errors import BundleError, InvalidInput  # noqa: E402
from splitrt.language.text import PARTIAL, Stop, Text  # noqa: E402
from splitrt.language.tokens import Tokenizer, load_tokenizer  # noqa: E402

relaxed = settings(deadline=None, max_examples=50)
IDS = st.lists(st.integers(3, VOCABULARY - 1), max_size=30)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(save_tokenizer(tmp_path_factory.mktemp("tokens") / "tokenizer.json"))


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Byte-level BPE, as Llama 3 and Qwen have it."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the llm extra")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["the cat sat on the mat, naïvely ☀ and then the cat left"] * 5, trainer)
    file = tmp_path_factory.mktemp("hf") / "tokenizer.json"
    made.save(str(file))
    return load_tokenizer(file)


@relaxed
@given(text=st.text(max_size=40))
def test_any_text_comes_back(text: str, tokenizer: Tokenizer, hugging_face: Tokenizer) -> None:
    for one in (tokenizer, hugging_face):
        text = text.encode("utf-8", "ignore").decode()
        assert one.decode(one.encode(text)) == text
        assert all(0 <= token < one.vocabulary for token in one.encode(text))


@relaxed
@given(ids=IDS)
def test_the_pieces_shown_make_up_the_text_and_no_half_character_is_shown(ids: list[int], tokenizer: Tokenizer) -> None:
    text = Text(tokenizer, [1], Stop(max_tokens=len(ids) + 1))
    pieces = [text.push(token) for token in ids]
    assert "".join(pieces) == text.shown
    assert tokenizer.decode([1, *ids]).rstrip(PARTIAL).startswith(text.shown)
    assert not text.shown.endswith(PARTIAL)


def test_a_character_of_three_tokens_is_shown_when_it_is_whole(hugging_face: Tokenizer) -> None:
    prompt, ids = hugging_face.encode("the"), hugging_face.encode("語")
    assert len(ids) == 3
    text = Text(hugging_face, prompt, Stop(max_tokens=9))
    assert [text.push(token) for token in ids] == ["", "", "語"]


@relaxed
@given(ids=IDS, stop=st.sampled_from(["the", "s.", "th", "é", " a", "e "]))
def test_a_stop_string_ends_the_text_before_it_and_nothing_of_it_is_ever_shown(
    ids: list[int], stop: str, tokenizer: Tokenizer
) -> None:
    text = Text(tokenizer, [1], Stop(max_tokens=len(ids) + 1, strings=(stop,)))
    shown = ""
    for token in ids:
        shown += text.push(token)
        assert stop not in shown
        if text.reason == "stop":
            whole = tokenizer.decode([1, *text.tokens])
            assert shown == whole[: whole.find(stop)]
            break
    else:
        assert stop not in tokenizer.decode([1, *ids])


@relaxed
@given(ids=IDS, keep=st.integers(0, 30))
def test_after_a_retraction_it_is_as_if_the_tokens_had_never_come(
    ids: list[int], keep: int, tokenizer: Tokenizer
) -> None:
    keep = min(keep, len(ids))
    stop = Stop(max_tokens=len(ids) + 1, strings=("the ", "zzz"))
    text, other = Text(tokenizer, [1], stop), Text(tokenizer, [1], stop)
    for one, some in ((text, ids), (other, ids[:keep])):
        for token in some:
            if one.reason is None:
                one.push(token)
    before = text.shown
    gone = text.retract(keep)
    assert (text.shown, text.tokens, text.reason) == (other.shown, other.tokens, other.reason)
    assert text.shown == before[: len(before) - gone]


def test_the_end_token_and_the_length_end_a_text(tokenizer: Tokenizer) -> None:
    text = Text(tokenizer, [1], Stop(max_tokens=3, ends=frozenset([2])))
    assert text.push(262) == text.shown == " sun"[1:]
    assert text.push(2) == ""
    assert text.reason == "end"
    text = Text(tokenizer, [1], Stop(max_tokens=2))
    text.push(262)
    text.push(263)
    assert text.reason == "length"


def test_settings_and_files_that_cannot_be_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidInput, match="max_tokens"):
        Stop(max_tokens=0)
    with pytest.raises(InvalidInput, match="stop strings"):
        Stop(strings=("",))
    with pytest.raises(InvalidInput, match="token ids must be below"):
        tokenizer.decode([VOCABULARY])
    file = tmp_path / "tokenizer.json"
    for content in (
        '{"pieces": []}',
        '{"pieces": 3}',
        "{}",
        '{"pieces": [' + '{"b64": "!", "score": 0},' * 400 + "0]}",
    ):
        file.write_text(content)
        with pytest.raises(BundleError):
            load_tokenizer(file)
    with pytest.raises(BundleError, match="readable file"):
        load_tokenizer(tmp_path / "absent.json")


def test_stories260k_encodes_what_it_says_canonically(data: Path) -> None:
    one = load_tokenizer(data / "lm_stories260k" / "tokenizer.json")
    assert one.encode("Once upon a time") == [1, 403, 407, 261, 378]
    assert one.decode([1, 403, 407, 261, 378]) == "Once upon a time"
