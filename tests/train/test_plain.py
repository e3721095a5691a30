"""Splits without training: from weights and a few photographs to a bundle, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from safetensors.torch import save_file
from tiny import Heard

from splitrt import families
from splitrt.bundle import load_bundle
from splitrt.config import ServerConfig
from splitrt.device.head import OnnxHead, check_golden
from splitrt.errors import ConfigError
from splitrt.server.loading import load_worker
from splitrt.train.plain import LEAST_IMAGES, plain_recipe, split_plain

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

UInt8 = npt.NDArray[np.uint8]
RESNET: dict[str, Any] = {"classes": 5, "depth": 8}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a whole ResNet-8 under its usual names."""
    torch.manual_seed(0)
    front = families.head_module("resnet").build(**RESNET).state_dict()
    back = families.tail_module("resnet").build(**RESNET).state_dict()
    named = {name.removeprefix("stem."): value for name, value in front.items()}
    named |= {name.replace("replaced.", "layer2.0.").removeprefix("body."): value for name, value in back.items()}
    save_file(named, tmp_path / "resnet8.safetensors")
    return tmp_path / "resnet8.safetensors"


def photographs(count: int = 12) -> list[UInt8]:
    draws = np.random.default_rng(0)
    return [draws.integers(0, 256, (40, 50 + i, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 2])
def test_a_split_of_published_weights_is_a_sound_bundle_that_answers_as_the_whole(
    tmp_path: Path, weights: Path, cut: int
) -> None:
    recipe = plain_recipe("mine", "resnet", RESNET | {"cut": cut}, (2, 8))
    folder = split_plain(recipe, weights, photographs(), [*"abcde"], tmp_path / "out", Heard())
    bundle = load_bundle(folder)
    assert bundle.name == "mine-1"
    assert bundle.manifest.bottleneck is None
    assert bundle.manifest.seam.widths == (16 * cut,)
    assert bundle.calibration.images == 6
    at_8_bits = next(point for point in bundle.calibration.points if point.bits == 8)
    assert (bundle.calibration.score, at_8_bits.accuracy) == ("agreement", 1.0)
    assert check_golden(bundle, OnnxHead(bundle)) <= bundle.manifest.golden_tolerance
    assert load_worker(bundle, ServerConfig()).check_golden() <= bundle.manifest.golden_tolerance
    with pytest.raises(ConfigError, match="--out must not hold mine-1 already"):
        split_plain(recipe, weights, photographs(), [], tmp_path / "out", Heard())


@pytest.mark.parametrize(("family", "cut", "channels"), [("resnet", 1, 16), ("resnet", 2, 32), ("darknet", 3, 128)])
def test_the_seam_is_the_features_of_the_cut(family: str, cut: int, channels: int) -> None:
    arguments = {"cut": cut} | (RESNET if family == "resnet" else {"resolution": 64})
    recipe = plain_recipe("mine", family, arguments, (4,))
    assert recipe.seam.widths == (channels,)
    assert recipe.pixels.height == recipe.pixels.width == (32 if family == "resnet" else 64)
    assert recipe.output.kind == "classes"


def test_a_detector_s_split_gives_boxes() -> None:
    recipe = plain_recipe("mine", "fastestdet", {"resolution": 96, "candidates": 36}, (8,))
    assert (recipe.output.kind, recipe.pixels.fit) == ("boxes", "stretch")


@pytest.mark.parametrize(
    ("family", "arguments", "bits", "says"),
    [
        ("resnet", {}, (8,), "classes"),
        ("resnet", RESNET | {"cut": 3}, (8,), "got 3; the nearest is 2"),
        ("resnet", RESNET | {"colour": 1}, (8,), "colour"),
        ("resnet", RESNET, (9,), "seam.bits must be among 1 to 8"),
        ("resnett", RESNET, (8,), "did you mean 'resnet'"),
        ("mobilenet", {"classes": 3}, (8,), "does not say what its weights want of a photograph"),
    ],
)
def test_a_split_that_cannot_be_is_refused(
    family: str, arguments: dict[str, Any], bits: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        plain_recipe("mine", family, arguments, bits)


def test_too_few_photographs_and_weights_of_another_depth_are_refused(tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=f"at least {LEAST_IMAGES} photographs, got 7"):
        split_plain(plain_recipe("mine", "resnet", RESNET, (8,)), weights, photographs(7), [], out, Heard())
    deeper = plain_recipe("mine", "resnet", RESNET | {"depth": 14}, (8,))
    with pytest.raises(ConfigError, match=r"weights must hold 'layer1\.1"):
        split_plain(deeper, weights, photographs(), [], out, Heard())
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    recipe = plain_recipe("mine", "resnet", RESNET, (8,))
    for file in ("junk.safetensors", "absent.safetensors"):
        with pytest.raises(ConfigError, match="weights must be a safetensors file"):
            split_plain(recipe, tmp_path / file, photographs(), [], out, Heard())
    assert not out.exists()
