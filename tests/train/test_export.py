"""A made bundle goes the ordinary way: exported, verified, run by every runner, refused when it disagrees."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tiny import Heard, images_of, recipe_of

from splitrt.bench.made import make_bundle
from splitrt.bundle import Bundle, load_bundle
from splitrt.codec.payload import Codec
from splitrt.codec.quantise import dequantise, quantise
from splitrt.config import ServerConfig
from splitrt.device.head import Head, OnnxHead, check_golden
from splitrt.device.local import BottleneckDevice
from splitrt.device.torch_head import TorchHead
from splitrt.errors import BundleError, ConfigError, WidthUnsupported
from splitrt.golden import load_golden
from splitrt.nn import split as pieces
from splitrt.server.loading import load_worker
from splitrt.server.tail import OnnxTail, Tail, TorchTail
from splitrt.server.work import Work
from splitrt.server.worker import Worker
from splitrt.train.export import export_bundle
from splitrt.train.tables import plain_tables
from splitrt.train.train import build

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

Float32 = npt.NDArray[np.float32]
SIDE = 96


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sizes: dict[str, Any] = {"form": "ensemble", "channels": 4, "widths": (1, 2), "width": 0.5, "resolution": SIDE}
    return load_bundle(make_bundle(tmp_path_factory.mktemp("ensemble"), decoder_hidden=16, is_coded=True, **sizes))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """ResNet-8, split without a bottleneck."""
    recipe = recipe_of(seam={"form": "plain", "widths": (16,), "bits": (4, 8)}, exits=None)
    front, back = build(recipe)
    for piece in (front, back):
        piece.eval()
    head, whole = pieces.Head(front, 1, None), pieces.Whole(front, back)
    tables = plain_tables(head, images_of("tune", 16), recipe)
    folder = tmp_path_factory.mktemp("plain") / "tiny-1"
    tail, images = pieces.Tail(back, None), images_of("calibrate", 16, is_labelled=False)
    export_bundle(folder, recipe, head, tail, whole, tables, images, [], Heard())
    return load_bundle(folder)


@pytest.fixture(params=["made", "ensemble", "plain"])
def any_bundle(request: pytest.FixtureRequest) -> Bundle:
    bundle: Bundle = request.getfixturevalue(request.param)
    return bundle


def features(bundle: Bundle, head: Head, seed: int = 0) -> Float32:
    side = bundle.manifest.photograph.height
    return head.stem(np.random.default_rng(seed).normal(size=(3, side, side)).astype(np.float32))


def heads(bundle: Bundle) -> tuple[Head, Head]:
    return OnnxHead(bundle), TorchHead(bundle)


def tails(bundle: Bundle) -> tuple[Tail, Tail]:
    return OnnxTail(bundle), TorchTail(bundle)


# ── every form ──────────────────────────────────────────────────────────────────────────────────────


def test_a_fresh_bundle_agrees_with_its_golden_sample_on_both_runtimes(any_bundle: Bundle) -> None:
    tolerance = any_bundle.manifest.golden_tolerance
    for head in heads(any_bundle):
        assert check_golden(any_bundle, head) <= tolerance
    for tail in tails(any_bundle):
        assert Worker(any_bundle, tail).check_golden() <= tolerance


def test_both_runtimes_encode_the_same_at_every_width(any_bundle: Bundle) -> None:
    seam, (onnx, torch) = any_bundle.manifest.seam, heads(any_bundle)
    features_1FHW = features(any_bundle, onnx)
    for width in seam.widths:
        z_ZHW = onnx.encode(features_1FHW, width)
        assert z_ZHW.shape == (seam.channels_at(width), seam.height, seam.width)
        np.testing.assert_allclose(z_ZHW, torch.encode(features_1FHW, width), atol=1e-4)


def test_both_runtimes_answer_a_batch_of_all_widths_the_same(any_bundle: Bundle) -> None:
    seam, (onnx, torch) = any_bundle.manifest.seam, tails(any_bundle)
    place_B = np.array([*range(len(seam.widths)), 0], np.int64)
    shape = (len(place_B), seam.channels, seam.height, seam.width)
    z_BZHW = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    outputs_BN = onnx.run(z_BZHW, place_B)
    np.testing.assert_allclose(outputs_BN, torch.run(z_BZHW, place_B), atol=1e-3)
    for row in range(len(place_B)):
        alone = onnx.run(z_BZHW[row : row + 1], place_B[row : row + 1])
        np.testing.assert_allclose(outputs_BN[row], alone[0], atol=1e-4)


def test_what_a_device_encodes_a_worker_answers_as_the_tail_does(any_bundle: Bundle) -> None:
    """Head, quantiser, coder, wire, decoder, tail: nothing is lost but what the quantiser takes."""
    manifest, tables = any_bundle.manifest, any_bundle.tables
    head, tail = OnnxHead(any_bundle), OnnxTail(any_bundle)
    device, worker = BottleneckDevice(any_bundle, head), Worker(any_bundle, tail)
    side = manifest.photograph.height
    frame_HWC = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    looked = device.look(frame_HWC)
    for place, width in enumerate(manifest.seam.widths):
        for bits in manifest.seam.bits:
            encoded = device.encode(looked, width, bits)
            (outcome,) = worker.run([work(width, bits, encoded.codec, encoded.payloads)])
            assert outcome.error is None
            ranges = tables.ranges_at(bits)
            z_ZHW = dequantise(quantise(head.encode(looked.features, width), ranges, bits), ranges, bits)
            wide_ZHW = np.zeros((manifest.seam.channels, *z_ZHW.shape[1:]), np.float32)
            wide_ZHW[: len(z_ZHW)] = z_ZHW
            wanted_BN = tail.run(wide_ZHW[None], np.array([place], np.int64))
            np.testing.assert_allclose(outcome.outputs[0], wanted_BN[0], atol=1e-4)


def work(width: int, bits: int, codec: Codec, payloads: tuple[bytes, ...]) -> Work:
    now = time.monotonic()
    return Work(
        principal="one",
        width=width,
        bits=bits,
        codec=codec,
        payloads=payloads,
        arrived_at=now,
        deadline_at=now + 10,
    )


def test_every_point_of_the_seam_is_calibrated(any_bundle: Bundle) -> None:
    seam = any_bundle.manifest.seam
    given = {(point.width, point.bits) for point in any_bundle.calibration.points}
    assert given == {(width, bits) for width in seam.widths for bits in seam.bits}


def test_a_width_that_the_bundle_does_not_have_is_refused(any_bundle: Bundle) -> None:
    for head in heads(any_bundle):
        with pytest.raises(WidthUnsupported, match="got 3"):
            head.encode(features(any_bundle, head), 3)


# ── each form ───────────────────────────────────────────────────────────────────────────────────────


def test_a_narrow_width_of_the_onnx_head_is_a_prefix_of_the_wide_one(made: Bundle) -> None:
    head = OnnxHead(made)
    features_1FHW = features(made, head)
    np.testing.assert_array_equal(head.encode(features_1FHW, 2), head.encode(features_1FHW, 4)[:2])


def test_an_ensemble_sends_all_channels_at_every_width_in_one_chunk(ensemble: Bundle) -> None:
    seam, head = ensemble.manifest.seam, OnnxHead(ensemble)
    features_1FHW = features(ensemble, head)
    narrow_ZHW, wide_ZHW = (head.encode(features_1FHW, width) for width in (1, 2))
    assert narrow_ZHW.shape == wide_ZHW.shape == (4, seam.height, seam.width)
    assert not np.allclose(narrow_ZHW, wide_ZHW)
    assert seam.group_sizes(1) == seam.group_sizes(2) == [4]
    assert (seam.channels, seam.channels_at(1), seam.sum_channels) == (4, 4, 4)


def test_a_plain_split_sends_the_features_and_answers_almost_as_the_whole(plain: Bundle) -> None:
    head, tail = OnnxHead(plain), OnnxTail(plain)
    features_1FHW = features(plain, head)
    np.testing.assert_array_equal(head.encode(features_1FHW, 16), features_1FHW[0])
    assert plain.manifest.exits is None
    assert plain.calibration.score == "agreement"
    side = plain.manifest.photograph.height
    x_BCHW = np.random.default_rng(1).normal(size=(1, 3, side, side)).astype(np.float32)
    outputs_BN = tail.run(head.stem(x_BCHW[0]), np.zeros(1, np.int64))
    np.testing.assert_allclose(outputs_BN, tail.run_whole(x_BCHW), atol=1e-4)


# ── refused ─────────────────────────────────────────────────────────────────────────────────────────


def tampered(made: Bundle, tmp_path: Path, **changes: Any) -> Bundle:
    """The bundle with another golden sample, signed for."""
    golden, folder = load_golden(made.path("golden.npz")), tmp_path / made.folder.name
    shutil.copytree(made.folder, folder)
    dataclasses.replace(golden, **changes).save(folder / "golden.npz")
    before = made.manifest.files["golden.npz"]
    after = hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(before, after))
    return load_bundle(folder)


def test_a_golden_sample_from_elsewhere_refuses_to_start_and_says_by_how_much(made: Bundle, tmp_path: Path) -> None:
    golden = load_golden(made.path("golden.npz"))
    other = tampered(made, tmp_path, tail_KN=golden.tail_KN + 0.5, exits_EN=golden.exits_EN + 0.25)
    with pytest.raises(BundleError, match=r"tail at width 2 .* differs by 0\.5"):
        load_worker(other, ServerConfig()).check_golden()
    with pytest.raises(BundleError, match=r"exit 1 .* differs by 0\.25"):
        check_golden(other, OnnxHead(other))


@pytest.mark.parametrize("place", [0, 1])
def test_a_bottleneck_from_elsewhere_is_found_at_its_width(made: Bundle, tmp_path: Path, place: int) -> None:
    z_KZHW = load_golden(made.path("golden.npz")).z_KZHW.copy()
    z_KZHW[place, 0, 0, 0] += 0.125
    other = tampered(made, tmp_path, z_KZHW=z_KZHW)
    with pytest.raises(BundleError, match=rf"bottleneck at width {made.manifest.seam.widths[place]} .* 0\.125"):
        check_golden(other, OnnxHead(other))


def test_a_coder_that_reads_other_symbols_refuses_to_start(made: Bundle, tmp_path: Path) -> None:
    """As if the coder's library had changed since the bundle was made."""
    symbols_KZHW = load_golden(made.path("golden.npz")).symbols_KZHW.copy()
    symbols_KZHW[-1, 0, 0, 0] ^= 1
    other = tampered(made, tmp_path, symbols_KZHW=symbols_KZHW)
    with pytest.raises(BundleError, match="coded symbols .* differs by 1"):
        load_worker(other, ServerConfig()).check_golden()


@pytest.mark.parametrize("split", ["train", "tune"])
def test_a_bundle_is_not_calibrated_on_images_that_training_saw(tmp_path: Path, split: str) -> None:
    recipe = recipe_of(seam={"form": "plain", "widths": (16,), "bits": (8,)}, exits=None)
    front, back = build(recipe)
    for piece in (front, back):
        piece.eval()
    head, tail, whole = pieces.Head(front, 1, None), pieces.Tail(back, None), pieces.Whole(front, back)
    tables, images = plain_tables(head, images_of("tune", 8), recipe), images_of(split, 8)
    with pytest.raises(ConfigError, match="training did not see"):
        export_bundle(tmp_path / "tiny-1", recipe, head, tail, whole, tables, images, [], Heard())
    assert list(tmp_path.iterdir()) == []
