"""The language bundle inside the package."""

from __future__ import annotations

import tomllib
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from splitrt.errors import BundleError  # noqa: E402
from splitrt.language.acceptance import play  # noqa: E402
from splitrt.language.bundle import (  # noqa: E402
    find_language,
    is_language,
    language_folders,
    load_language,
    parse_language,
)
from splitrt.language.context import Context  # noqa: E402
from splitrt.language.decoder import Decoder  # noqa: E402
from splitrt.language.draft import ModelDrafter, chain  # noqa: E402
from splitrt.language.moa import MoaDrafter  # noqa: E402
from splitrt.language.model import row_difference  # noqa: E402
from splitrt.language.plain import plain_tokens  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.language.target import verify  # noqa: E402
from splitrt.train.language import read_language_recipe  # noqa: E402
from splitrt.train.moa import read_moa_recipe  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]


def test_it_is_found_by_name_and_is_what_its_recipe_says() -> None:
    assert is_language("shakespeare")
    assert is_language("shakespeare-3")
    assert not is_language("photos")
    bundle, recipe = find_language("shakespeare"), read_language_recipe(ROOT / "recipes/shakespeare.toml")
    added = read_moa_recipe(ROOT / "recipes/shakespeare_moa.toml")  # out of what the other made
    assert added.bundle == f"{recipe.name}-{recipe.version}"
    assert (bundle.manifest.name, bundle.manifest.version) == (recipe.name, added.version)
    assert bundle.tokenizer().vocabulary == recipe.vocabulary
    for half, model in (("target", recipe.target), ("draft", recipe.draft)):
        assert bundle.model(half).config == recipe.config(model, recipe.vocabulary)  # type: ignore[arg-type]


def test_its_drafts_are_worth_sending_and_its_text_is_plain_decoding() -> None:
    bundle = find_language("shakespeare")
    target, draft = bundle.model("target"), ModelDrafter(bundle.model("draft"))
    assert row_difference(target, 40) == 0.0
    sampling, prompt = Sampling(temperature=0.8, seed=3), bundle.tokenizer().encode("ROMEO:")
    wanted = [*islice(plain_tokens(target, prompt, sampling), 60)]
    tokens, context, rounds = list(prompt), Context(target), 0
    while len(tokens) < len(prompt) + 60:
        proposed = chain(draft, tokens, sampling, 4)
        logits_TV = context.look(tokens, proposed.ids, proposed.parents)
        verified = verify(context, logits_TV, tokens, proposed.ids, proposed.parents, sampling)
        tokens += [*(proposed.ids[node] for node in verified.path), verified.token]
        rounds += 1
    assert tokens[len(prompt) : len(prompt) + 60] == wanted
    assert rounds <= 30


def test_its_drafter_that_sees_states_is_worth_them_and_as_dear_as_an_independent_one() -> None:
    bundle = find_language("shakespeare")
    target, draft, (config, weights) = bundle.model("target"), bundle.model("draft"), bundle.moa()
    maker, prompt = bundle.state_maker(target), bundle.tokenizer().encode("KING HENRY:\nMy lords, ")
    assert isinstance(draft, Decoder)
    assert config.touched == sum(weight.numel() for weight in draft.named().values())
    played = play(target, MoaDrafter(config, weights), prompt, Sampling(temperature=1.0, seed=3), 60, 4, maker)
    assert played.tokens_per_round > 2
    unlike = MoaDrafter(config, weights)
    assert maker is not None
    context = Context(target)
    context.look(prompt)
    before_V = unlike.look(prompt)
    unlike.hear(len(prompt) - 1, maker.make(context.cache, 0, len(prompt) - 1))
    assert float((unlike.look(prompt) - before_V).abs().max()) > 0.1  # it does see them


def test_a_device_needs_its_half_only(tmp_path: Path) -> None:
    import shutil

    source = find_language("shakespeare").folder
    shutil.copytree(source, tmp_path / "half", ignore=shutil.ignore_patterns("target", "states"))
    half = load_language(tmp_path / "half")
    assert not half.has_target
    assert half.digest == find_language("shakespeare").digest
    assert tomllib.loads((source / "language.toml").read_text())["name"] == "shakespeare"


def test_the_newest_version_is_found_by_number(tmp_path: Path) -> None:
    for version in ("9", "10"):
        (tmp_path / f"tiny-{version}").mkdir()
        (tmp_path / f"tiny-{version}" / "language.toml").touch()
    assert [folder.name for folder in language_folders(tmp_path)][:2] == ["tiny-10", "tiny-9"]


def test_a_manifest_that_no_text_could_be_said_by_is_refused() -> None:
    sound = 'schema_version = 1\nname = "a"\nversion = "1"\ncontext = 5\nends = [%s]\n[files]\n"tokenizer.json" = "%s"'
    assert parse_language((sound % ("2", "0" * 64)).encode()).ends == (2,)
    for end, words in (("-1", "ends.0"), (str(1 << 32), "ends.0"), ("1" * 5000, "must be valid TOML")):
        with pytest.raises(BundleError, match=words):
            parse_language((sound % (end, "0" * 64)).encode())
