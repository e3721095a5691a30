"""A made bundle goes the ordinary way: exported, verified, run by every runner, refused when it disagrees."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from splitrt.bench.made import make_bundle
from splitrt.bundle import Bundle, load_bundle
from splitrt.device.head import OnnxHead, check_golden
from splitrt.device.torch_head import TorchHead
from splitrt.errors import BundleError, WidthUnsupported
from splitrt.golden import load_golden
from splitrt.server.serve import load_worker
from splitrt.server.tail import OnnxTail, TorchTail
from splitrt.server.worker import Worker

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("made")
    return load_bundle(make_bundle(folder, widths=(2, 4), width=0.5, resolution=96, decoder_hidden=16))


def test_a_fresh_bundle_agrees_with_its_golden_sample_on_both_runtimes(made: Bundle) -> None:
    tolerance = made.manifest.golden_tolerance
    for head in (OnnxHead(made), TorchHead(made)):
        assert check_golden(made, head) <= tolerance
    for tail in (OnnxTail(made), TorchTail(made)):
        assert Worker(made, tail).check_golden() <= tolerance


def test_a_narrow_width_of_the_onnx_head_is_a_prefix_of_the_wide_one(made: Bundle) -> None:
    head = OnnxHead(made)
    features = head.stem(np.random.default_rng(0).normal(size=(3, 96, 96)).astype(np.float32))
    np.testing.assert_array_equal(head.encode(features, 2), head.encode(features, 4)[:2])


def test_a_width_that_the_bundle_does_not_have_is_refused(made: Bundle) -> None:
    with pytest.raises(WidthUnsupported, match=r"one of \(2, 4\), got 3"):
        OnnxHead(made).encode(np.zeros((1, 16, 24, 24), np.float32), 3)


def test_a_golden_sample_from_elsewhere_refuses_to_start_and_says_by_how_much(made: Bundle, tmp_path: Path) -> None:
    golden = load_golden(made.path("golden.npz"))
    folder = tmp_path / made.folder.name
    for file in ("manifest.toml", *made.manifest.files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes((made.folder / file).read_bytes())
    dataclasses.replace(golden, tail_KN=golden.tail_KN + 0.5, exit_N=golden.exit_N + 0.25).save(folder / "golden.npz")
    before = made.manifest.files["golden.npz"]
    after = hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(before, after))
    other = load_bundle(folder)
    with pytest.raises(BundleError, match=r"tail at width 2 .* differs by 0\.5"):
        load_worker(other, 1).check_golden()
    with pytest.raises(BundleError, match=r"exit .* differs by 0\.25"):
        check_golden(other, OnnxHead(other))
