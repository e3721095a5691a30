"""Language recipes: from a text to a bundle that is served, and what is wrong with one is said."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from language_pairs import TARGET, VOCABULARY  # noqa: E402
from tiny import Heard  # noqa: E402

from splitrt.errors import ConfigError  # noqa: E402
from splitrt.language.bundle import load_language  # noqa: E402
from splitrt.language.decoder import Decoder  # noqa: E402
from splitrt.language.tokens import StoriesTokenizer, load_tokenizer  # noqa: E402
from splitrt.train.language import is_language_recipe, read_language_recipe, train_language  # noqa: E402
from splitrt.train.reader import Reader, windows  # noqa: E402
from splitrt.train.vocabulary import encode_text, learn_pieces, write_vocabulary  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
ROOT = Path(__file__).resolve().parents[2]
SHAKESPEARE = (ROOT / "recipes/shakespeare.toml").read_text()
SAYING = "the cat sat on the mat and the dog sat on the cat\n"


def small(text: str) -> str:
    """The recipe, for a second of training."""
    for given, instead in (
        ("context = 256", "context = 32"), ("vocabulary = 512", "vocabulary = 280"), ("batch = 12", "batch = 8"),
        ("hidden = 144", "hidden = 24"), ("hidden = 72", "hidden = 12"), ("heads = 6", "heads = 3"),
        ("feed_forward = 384", "feed_forward = 32"), ("feed_forward = 192", "feed_forward = 16"),
        ("layers = 5", "layers = 2"), ("steps = 450", "steps = 60"), ("steps = 400", "steps = 60"),
        ("learning_rate = 3e-3", "learning_rate = 1e-2"),
    ):  # fmt: skip
        assert given in text
        text = text.replace(given, instead)
    return text


def test_the_decoder_that_is_served_computes_what_was_trained() -> None:
    torch.manual_seed(1)
    reader = Reader(TARGET)
    ids = torch.randint(0, VOCABULARY, (1, 50))
    served = Decoder(TARGET, reader.named())
    with torch.no_grad():
        torch.testing.assert_close(served.read(ids[0].tolist(), served.cache()), reader(ids)[0], rtol=0, atol=1e-4)


def test_a_text_learnt_by_heart_makes_a_bundle_that_says_it(tmp_path: Path) -> None:
    (tmp_path / "data/text").mkdir(parents=True)
    (tmp_path / "data/text/tinyshakespeare.txt").write_text(SAYING * 60)
    file = tmp_path / "recipe.toml"
    file.write_text(small(SHAKESPEARE))
    assert is_language_recipe(file)
    heard = Heard()
    recipe = read_language_recipe(file)
    folder = train_language(recipe, tmp_path / "data", tmp_path / "out", heard)
    bundle = load_language(folder)
    target, tokenizer = bundle.model("target"), bundle.tokenizer()
    ids = tokenizer.encode(SAYING + SAYING)
    logits_TV = target.read(ids[:31], target.cache())
    loss = torch.nn.functional.cross_entropy(logits_TV[8:-1], torch.tensor(ids[9:31]))
    assert float(loss) < 1.5  # of 5.6 nats that a blind guess has
    assert {phase for phase, _, _ in heard.steps} == {"target", "draft"}
    assert "trained from scratch" in (folder / "README.md").read_text()
    with pytest.raises(ConfigError, match="must not hold"):
        train_language(recipe, tmp_path / "data", tmp_path / "out", heard)


def test_pieces_are_the_frequent_ones_and_a_text_encoded_by_words_is_the_text(tmp_path: Path) -> None:
    pieces = learn_pieces(SAYING * 9, 275)
    assert len(pieces) == 275 - 259
    assert b"at" in pieces
    assert b" the" in pieces
    write_vocabulary(tmp_path / "tokenizer.json", pieces)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert isinstance(tokenizer, StoriesTokenizer)
    ids = encode_text(tokenizer, SAYING)
    assert tokenizer.decode(ids) == SAYING
    assert ids == tokenizer.merge(SAYING)
    assert len(ids) < len(SAYING) / 1.5


def test_a_window_predicts_the_next_token_behind_a_beginning() -> None:
    ids = torch.arange(100, 400)
    x_BT, y_BT = windows(ids, 16, 5, torch.Generator().manual_seed(0))
    assert x_BT.shape == y_BT.shape == (5, 16)
    assert torch.equal(x_BT[:, 1:], y_BT[:, :-1])
    assert (x_BT[:, 0] == 1).all()


@pytest.mark.parametrize(
    ("given", "instead", "wanted"),
    [
        ("hidden = 144", "hidden = 0", "target.hidden"),
        ("seed = 0", "sead = 0", "sead"),
        ('text = "text/tinyshakespeare.txt"', 'text = "../secret.txt"', "text"),
        ("vocabulary = 512", "vocabulary = 100", "vocabulary"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_with_its_key(
    given: str, instead: str, wanted: str, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(SHAKESPEARE.replace(given, instead))
    with pytest.raises(ConfigError, match=wanted):
        read_language_recipe(file)
    assert not is_language_recipe(ROOT / "recipes/photos.toml")


def test_a_text_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable file of the data folder"):
        train_language(read_language_recipe(ROOT / "recipes/shakespeare.toml"), tmp_path, tmp_path, Heard())
