"""Recipes for a drafter that sees states: what a round may see, a course that goes on, a bundle that is served."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from tiny import Heard  # noqa: E402

from splitrt.errors import ConfigError  # noqa: E402
from splitrt.language.bundle import find_language, load_language  # noqa: E402
from splitrt.train.kinds import make  # noqa: E402
from splitrt.train.mixture import verified_at  # noqa: E402
from splitrt.train.moa import _decides, fit_moa, is_moa_recipe, read_moa_recipe  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
ROOT = Path(__file__).resolve().parents[2]
SHAKESPEARE = (ROOT / "recipes/shakespeare_moa.toml").read_text()
SAYING = "Now is the winter of our discontent made glorious summer by this sun of York.\n"


def small(**instead: str) -> str:
    """The recipe, for seconds."""
    lines = []
    for line in SHAKESPEARE.splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {instead[key]}" if key in instead else line)
    return "\n".join(lines)


def test_a_token_sees_states_from_before_its_own_round_alone() -> None:
    verified_BT = verified_at(50, 64, (2, 5), 0.0, torch.Generator().manual_seed(0))
    behind_BT = torch.arange(64) - verified_BT
    assert int(behind_BT.min()) >= 0  # never its own
    assert int(behind_BT.max()) <= 4
    assert (verified_BT.diff() >= 0).all()
    away_BT = verified_at(200, 64, (2, 5), 0.5, torch.Generator().manual_seed(0))
    lost = (away_BT[:, -1] < 59).float().mean()
    assert 0.3 < float(lost) < 0.6


def test_a_bundle_is_made_that_keeps_the_target_byte_for_byte_and_trains_its_drafter_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitrt.train.moa_card.TEXTS", 2)
    monkeypatch.setattr("splitrt.train.moa_card.TOKENS", 8)
    (tmp_path / "data/text").mkdir(parents=True)
    (tmp_path / "data/text/tinyshakespeare.txt").write_text(SAYING * 120)
    file, heard = tmp_path / "recipe.toml", Heard()
    file.write_text(small(steps="2", batch="2"))
    # As if recipes/shakespeare.toml had made it there before.
    shutil.copytree(find_language("shakespeare").folder, tmp_path / "out" / read_moa_recipe(file).bundle)
    assert is_moa_recipe(file)
    folder = make(file, tmp_path / "data", tmp_path / "out", heard)
    made, before = load_language(folder), find_language("shakespeare")
    losses = [float(one) for line in heard.lines for one in re.findall(r"(?:loss|draft) ([0-9.]+)", line)]
    assert len(losses) == 2
    assert min(losses) > 1  # of two steps, and not as if they had been SAVE_EVERY
    for name, digest in before.manifest.files.items():
        if name.startswith(("target/", "tokenizer")):
            assert made.manifest.files[name] == digest
    assert made.manifest.files["draft/config.json"] == before.manifest.files["draft/config.json"]
    assert made.manifest.files["draft/model.safetensors"] != before.manifest.files["draft/model.safetensors"]
    assert made.has_moa
    assert made.state_maker(made.model("target")) is not None
    card = (folder / "README.md").read_text()
    assert "161,640 parameters are touched a drafted token" in card
    assert "74 bytes of state" in card
    with pytest.raises(ConfigError, match="must not hold"):
        make(file, tmp_path / "data", tmp_path / "out", heard)


def test_a_course_that_was_cut_off_ends_where_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, bundle = tmp_path / "recipe.toml", find_language("shakespeare")
    file.write_text(small(steps="4", batch="2", bundle='"shakespeare"'))
    recipe, ids = read_moa_recipe(file), torch.arange(900) % 400 + 100
    monkeypatch.setattr("splitrt.train.moa.SAVE_EVERY", 2)
    whole, _ = fit_moa(recipe, bundle, ids, tmp_path / "whole.safetensors", Heard())

    class Cut(Heard):
        def step(self, phase: str, done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_moa(recipe, bundle, ids, tmp_path / "cut.safetensors", Cut())
    resumed, _ = fit_moa(recipe, bundle, ids, tmp_path / "cut.safetensors", Heard())
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, rtol=0, atol=0)


@pytest.mark.parametrize(("key", "value"), [("strides", "[3, 2]"), ("state", "0"), ("outages", "2")])
def test_what_is_wrong_with_a_recipe_is_said_with_its_key(key: str, value: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(small(**{key: value}))
    with pytest.raises(ConfigError, match=key):
        read_moa_recipe(file)


def test_another_recipes_state_is_not_gone_on_from(tmp_path: Path) -> None:
    file, bundle = tmp_path / "recipe.toml", find_language("shakespeare")
    file.write_text(small())
    recipe = read_moa_recipe(file)
    assert _decides(recipe, bundle) == _decides(recipe.model_copy(update={"version": "9"}), bundle)
    assert _decides(recipe, bundle) != _decides(recipe.model_copy(update={"seed": 1}), bundle)
    assert _decides(recipe, bundle) != _decides(recipe, replace(bundle, digest=bytes(32)))
