"""Exits added to a bundle that is there: nothing else of it changes by a byte."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from PIL import Image
from tiny import Heard, images_of, recipe_of

from splitrt.bundle import Bundle, load_bundle
from splitrt.device.head import OnnxHead, check_golden
from splitrt.device.local import BottleneckDevice
from splitrt.device.torch_head import TorchHead
from splitrt.errors import ConfigError
from splitrt.train.extend import extend
from splitrt.train.recipe import Recipe
from splitrt.train.train import train

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def scenes() -> Any:
    """Small splits under the real names."""
    from splitrt.train import data

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.ARCHIVES, "scenes", {"train": (0, 40), "tune": (40, 60), "calibrate": (60, 80)})
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, files = images_of("train", 80), []
    for frame_HWC in images.frames_BHWC:
        file = io.BytesIO()
        Image.fromarray(frame_HWC).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    folder = tmp_path_factory.mktemp("data")
    (folder / "scenes").mkdir()
    offset = np.cumsum([0, *(len(file) for file in files)])
    jpeg = np.frombuffer(b"".join(files), np.uint8)
    np.savez(folder / "scenes/train.npz", jpeg=jpeg, offset=offset, label=images.labels_B)
    return folder


def recipe(version: str = "2", **tables: Any) -> Recipe:
    return recipe_of(**({"bottleneck": {"epochs": 1}} | tables)).model_copy(update={"version": version})


@pytest.fixture(scope="module")
def plain(scenes: None, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Trained without exits."""
    return load_bundle(train(recipe("1", exits=None), photographs, tmp_path_factory.mktemp("out"), Heard()))


def test_only_what_has_to_do_with_exits_is_made_anew(plain: Bundle, photographs: Path, tmp_path: Path) -> None:
    assert plain.manifest.exits is None
    bundle = load_bundle(extend(plain, recipe(), photographs, tmp_path, Heard()))
    before, after = plain.manifest.files, bundle.manifest.files
    changed = {"head.safetensors", "calibration.json", "golden.npz"}
    assert {file for file in before if after[file] != before[file]} == changed
    assert after.keys() - before.keys() == {"head/exit_1.onnx", "head/exit_2.onnx"}
    assert bundle.calibration.points == plain.calibration.points
    assert bundle.calibration.exit is not None
    for head in (OnnxHead(bundle), TorchHead(bundle)):
        assert check_golden(bundle, head) <= bundle.manifest.golden_tolerance
    looked = BottleneckDevice(bundle, OnnxHead(bundle)).look(images_of("tune", 1).frames_BHWC[0], threshold=0.0)
    assert looked.is_sure

    again = load_bundle(extend(bundle, recipe("3"), photographs, tmp_path, Heard()))
    assert {file for file in after if again.manifest.files[file] != after[file]} <= {*changed, "head/exit_1.onnx"} | {
        "head/exit_2.onnx"
    }


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"exits": None}, r"has no \[exits\]"),
        ({"model": {"depth": 14}}, "model and head must be .*'depth': 8"),
        ({"seam": {"widths": (1, 2)}}, r"seam\.widths must be \(1, 2, 4\)"),
        ({"pixels": {"std": (0.5,) * 3}}, "pixels must be"),
    ],
)
def test_a_recipe_that_is_not_of_this_bundle_is_refused(
    plain: Bundle, photographs: Path, tmp_path: Path, tables: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        extend(plain, recipe(**tables), photographs, tmp_path, Heard())
    assert not list(tmp_path.iterdir())
