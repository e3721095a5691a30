"""A recipe's whole course on a data set of eighty small photographs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from PIL import Image
from tiny import Heard, images_of, recipe_of

from splitrt.bundle import load_bundle
from splitrt.config import ServerConfig
from splitrt.device.head import OnnxHead, check_golden
from splitrt.errors import ConfigError
from splitrt.server.loading import load_worker
from splitrt.train.data import ARCHIVES
from splitrt.train.recipe import Recipe
from splitrt.train.train import _phase, train

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SMALL = {"train": (0, 48), "tune": (48, 64), "calibrate": (64, 80)}


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with an archive like the real one, but small."""
    monkeypatch.setitem(ARCHIVES, "scenes", SMALL)
    images, files = images_of("train", 80), []
    for frame_HWC in images.frames_BHWC:
        file = io.BytesIO()
        Image.fromarray(frame_HWC).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    folder = tmp_path / "data"
    (folder / "scenes").mkdir(parents=True)
    offset = np.cumsum([0, *(len(file) for file in files)])
    jpeg = np.frombuffer(b"".join(files), np.uint8)
    np.savez(folder / "scenes/train.npz", jpeg=jpeg, offset=offset, label=images.labels_B)
    (folder / "scenes/classes.txt").write_text("red\ngreen\nblue\ngrey\n")
    return folder


def recipe(**tables: Any) -> Recipe:
    given: dict[str, Any] = {
        "bottleneck": {"epochs": 2},
        "finetune": {"epochs": 2, "batch": 16, "learning_rate": 0.003},
    }
    return recipe_of(**(given | tables))


def states(folder: Path) -> dict[str, bytes]:
    """Every file of a bundle but the graphs, which name their nodes as they like."""
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".npz", ".json", ".md")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_course_interrupted_in_every_phase_ends_as_one_that_was_not(photographs: Path, tmp_path: Path) -> None:
    wanted = train(recipe(), photographs, tmp_path / "straight", Heard())
    out = tmp_path / "broken"
    for phase in ("whole", "exits", "bottleneck", "finetune"):
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), photographs, out, Heard((phase, 5)))
        assert not (out / "tiny-1").exists()
    watch = Heard()
    folder = train(recipe(), photographs, out, watch)
    assert {phase for phase, _, _ in watch.steps} == {"finetune"}
    given, there = states(folder), states(wanted)
    assert given.keys() == there.keys()
    for file in ("head.safetensors", "tail.safetensors", "calibration.json", "README.md"):
        assert given[file] == there[file], file
    assert load_bundle(folder).tables.digest() == load_bundle(wanted).tables.digest()
    curves = [json.loads((root / "tiny-1.curve.json").read_text()) for root in (out, wanted.parent)]
    assert curves[0] == curves[1]
    assert [row["phase"] for row in curves[0]] == ["whole"] * 2 + ["exits"] * 2 + ["bottleneck"] * 2 + ["finetune"] * 2
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".png") == ["tiny-1", "tiny-1.curve.json"]

    bundle = load_bundle(folder)
    assert bundle.manifest.output.labels == ("red", "green", "blue", "grey")
    assert check_golden(bundle, OnnxHead(bundle)) <= bundle.manifest.golden_tolerance
    assert load_worker(bundle, ServerConfig()).check_golden() <= bundle.manifest.golden_tolerance
    with pytest.raises(ConfigError, match="--out must not hold tiny-1 already"):
        train(recipe(), photographs, out, Heard())


def test_what_an_interrupted_export_leaves_is_in_nobodys_way(photographs: Path, tmp_path: Path) -> None:
    class Stops(Heard):
        def line(self, text: str) -> None:
            super().line(text)
            if text.startswith("calibrated"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(), photographs, tmp_path / "out", Stops())
    left = tmp_path / "out/.tiny-1.new/head"
    left.mkdir(parents=True, exist_ok=True)
    (left / "half.onnx").write_bytes(b"")
    watch = Heard()
    folder = train(recipe(), photographs, tmp_path / "out", watch)
    assert watch.steps == []
    assert not left.exists()
    load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "trained"),
    [
        ({"finetune": {"epochs": 1, "batch": 8}}, {"finetune"}),
        ({"seam": {"decoder_hidden": 10}}, {"bottleneck", "finetune"}),
        ({"model": {"depth": 14}}, {"whole", "exits", "bottleneck", "finetune"}),
        ({"exits": {"chain": [{"channels": 4}]}}, {"exits", "finetune"}),
    ],
)
def test_phases_up_to_the_first_that_a_recipe_changes_are_taken_over(
    photographs: Path, tmp_path: Path, change: dict[str, Any], trained: set[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), photographs, tmp_path, Heard(("finetune", 5)))
    watch = Heard()
    train(recipe(**change), photographs, tmp_path, watch)
    assert {phase for phase, _, _ in watch.steps} == trained


def test_a_seam_without_a_bottleneck_is_not_trained(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nested or ensemble to be trained, got 'plain': that is `splitrt split`"):
        train(recipe(seam={"form": "plain", "widths": (16,)}), photographs, tmp_path / "out", Heard())


def test_labels_are_needed_to_train_the_whole(photographs: Path, tmp_path: Path) -> None:
    np.savez(
        photographs / "scenes/train.npz",
        **{**dict(np.load(photographs / "scenes/train.npz")), "label": np.full(80, -1)},
    )
    with pytest.raises(ConfigError, match=r"\[whole\] needs labels"):
        train(recipe(), photographs, tmp_path / "out", Heard())


def test_a_phases_end_that_was_cut_off_while_it_was_written_is_refused_in_words(tmp_path: Path) -> None:
    """As older runs may have left it; a run now leaves the whole of it or none."""
    parts, kept = torch.nn.Linear(2, 2), tmp_path / "whole-1"
    _phase(kept, parts, Heard(), tmp_path / "curve.json", lambda _: [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.json", "whole-1.safetensors"]
    done = kept.with_suffix(".safetensors")
    done.write_bytes(done.read_bytes()[:40])
    with pytest.raises(ConfigError, match="delete them to start anew"):
        _phase(kept, parts, Heard(), tmp_path / "curve.json", lambda _: [])
