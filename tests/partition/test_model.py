from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from splitrt.errors import ConfigError  # noqa: E402
from splitrt.language.folder import load_folder  # noqa: E402
from splitrt.partition.capture import capture  # noqa: E402
from splitrt.partition.model import open_model, photograph_of  # noqa: E402

pytestmark = pytest.mark.torch

SOURCE = """
import torch
def net():
    return torch.nn.Conv2d(3, 4, 3).eval(), (torch.zeros(1, 3, 16, 16),)
def words():
    return torch.nn.Embedding(9, 4).eval(), (torch.zeros(1, 5, dtype=torch.int64),)
def bare():
    return torch.nn.ReLU().eval()
def nothing():
    return 7
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_models.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "users_models", raising=False)
    return "users_models"


def test_a_factorys_network_comes_with_its_inputs_and_what_becomes_of_a_photograph(factories: str) -> None:
    model = open_model(f"{factories}:net")
    assert model.name == "net"
    assert model.pixels is not None
    assert (model.pixels.height, model.pixels.width) == (16, 16)
    assert open_model(f"{factories}:words").pixels is None


def test_a_factory_is_looked_for_where_the_command_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_model.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])  # as an installed command has it
    monkeypatch.chdir(tmp_path)
    assert open_model("my_own_model:net").name == "net"


@pytest.mark.parametrize(
    ("name", "match"),
    [("absent", "can be imported"), ("bare", "sample inputs"), ("nothing", "torch module")],
)
def test_a_factory_that_gives_no_network_is_refused(factories: str, name: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_model(f"{factories}:{name}")


def test_a_family_is_captured_whole_with_what_its_weights_want() -> None:
    model = open_model("resnet:classes=10,depth=8")
    assert model.pixels is not None
    assert model.pixels.height == 32
    captured = capture(model.module, model.inputs)
    assert captured.graph.outputs[0].shape == (1, 10)
    again = open_model("resnet:classes=10,depth=8")
    with torch.inference_mode():
        assert torch.equal(model.module(model.inputs[0]), again.module(model.inputs[0]))  # random, and seeded


def test_weights_of_a_family_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ConfigError, match="safetensors file"):
        open_model("resnet:classes=10,depth=8", tmp_path / "junk.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="weights must hold"):
        open_model("resnet:classes=10,depth=8", tmp_path / "other.safetensors")


def test_a_folder_of_transformers_gives_its_own_answers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=16, num_labels=3)
    kept = transformers.ViTForImageClassification(config).eval()
    kept.save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny/preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]})
    )
    model = open_model(str(tmp_path / "tiny"))
    assert (model.name, model.kind) == ("tiny", "classes")
    assert model.pixels is not None
    assert (model.pixels.std, model.pixels.height) == ((0.25, 0.25, 0.25), 32)
    with torch.inference_mode():
        assert torch.equal(model.module(*model.inputs).logits, kept(*model.inputs).logits)


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match=r"config\.json"):
        open_model(str(tmp_path))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 8, 8), (1, 3, 8)])
def test_only_a_batch_of_one_map_of_three_channels_is_a_photograph(shape: tuple[int, ...]) -> None:
    assert photograph_of((torch.zeros(shape),)) is None
    assert photograph_of((torch.zeros(1, 3, 8, 8, dtype=torch.float64),)) is None


def test_a_small_map_of_three_channels_is_a_tensor_and_no_photograph() -> None:
    assert photograph_of((torch.zeros(1, 3, 4, 4),)) is None
    assert photograph_of((torch.zeros(1, 3, 8, 8),)) is not None


@pytest.mark.parametrize("wrong", [{"mean": (1.0,)}, {"std": (0.0, 1.0, 1.0)}, {"mean": ("a", "b", "c")}])
def test_what_no_photograph_is_treated_by_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a photograph's"):
        photograph_of((torch.zeros(1, 3, 8, 8),), wrong)


def test_weights_of_a_family_are_not_passed_over_for_another_model(tmp_path: Path) -> None:
    for model in (str(tmp_path), "small_modules:whatever"):
        with pytest.raises(ConfigError, match="weights are of a family"):
            open_model(model, tmp_path / "w.safetensors")


def test_damaged_weights_in_a_folder_are_refused_in_words(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 10, "bos_token_id": 1, "eos_token_id": 2}
    described = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **sizes}
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "model.safetensors").write_bytes(bytes(40))
    with pytest.raises(ConfigError, match="and safetensors"):
        open_model(str(tmp_path))
    with pytest.raises(ConfigError, match="transformers loads"):
        load_folder(tmp_path)
