"""A captured network as a bundle: what is written is what `load_bundle` takes, and both its runners are the network."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnxscript", reason="needs the torch extra")

import torch
from small_modules import made, tensors_of
from torch import Tensor, nn

from splitrt.bundle import SERVER_ONLY, Bundle, load_bundle
from splitrt.codec import parts
from splitrt.codec.parts import EXACT
from splitrt.config import ServerConfig
from splitrt.errors import BundleError, ConfigError, InvalidInput
from splitrt.golden import CapturedGolden, agree_all, load_captured_golden
from splitrt.halves import Runner, open_half
from splitrt.manifest import Pixels, parse_manifest, write_manifest
from splitrt.partition.bundle import Order, split_captured
from splitrt.partition.capture import Captured, capture
from splitrt.partition.cuts import cuts, find_cut
from splitrt.server.loading import load_worker

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
Array = npt.NDArray[Any]
RUNNERS: tuple[Runner, ...] = ("onnx", "torch")


class Lines:
    """What a watcher is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)

    def step(self, phase: str, done: int, total: int) -> None:
        pass


class Masked(nn.Module):
    """What crosses before the softmax holds minus infinity."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.full((3, 4), float("-inf")).triu(1)).softmax(-1) * 3


class Incomplete(nn.Module):
    """Has an operator that ONNX does not."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.special.i1e(x.relu()) + 1
        return found


BUNDLES: dict[str, tuple[Callable[[], tuple[nn.Module, tuple[Any, ...]]], str]] = {
    "two inputs": (lambda: made("two inputs"), "embedding"),
    "tokens": (lambda: made("tokens, channels last"), "relu_1"),
    "numbers": (lambda: made("numbers"), "mul_1"),
    "words": (lambda: made("attention"), "input"),
    "masked": (lambda: (Masked().eval(), (torch.randn(1, 3, 4),)), "add"),
    "torch only": (lambda: (Incomplete().eval(), (torch.randn(1, 3, 4),)), "relu"),
}


@functools.cache
def graph_of(name: str) -> tuple[nn.Module, Captured]:
    module, inputs = BUNDLES[name][0]()
    return module, capture(module, inputs)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Bundle, nn.Module, list[str]]]:
    """Each is made once, when first asked for: bundle, the module itself, what was said."""
    folder = tmp_path_factory.mktemp("bundles")

    @functools.cache
    def one(name: str) -> tuple[Bundle, nn.Module, list[str]]:
        module, captured = graph_of(name)
        lines = Lines()
        order = Order(name=name.replace(" ", "-"))
        written = split_captured(captured, find_cut(cuts(captured), BUNDLES[name][1]), order, folder, lines)
        return load_bundle(written), module, lines.said

    return one


Made = Callable[[str], tuple[Bundle, nn.Module, list[str]]]


def golden_of(bundle: Bundle) -> CapturedGolden:
    return load_captured_golden(bundle.path("golden.npz"))


def difference(given: tuple[Array, ...], wanted: tuple[Array, ...]) -> float:
    assert [(one.shape, one.dtype) for one in given] == [(one.shape, one.dtype) for one in wanted]
    return agree_all("outputs", given, wanted, 1e9)


# ── what is written ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_is_taken_by_a_server_with_either_runner(bundles: Made, name: str) -> None:
    bundle, _, _ = bundles(name)
    for runner in RUNNERS:
        worker = load_worker(bundle, ServerConfig(runner=runner))
        assert worker.check_golden() <= bundle.manifest.golden_tolerance


@pytest.mark.parametrize("name", BUNDLES)
def test_the_golden_sample_is_what_the_module_itself_gives(bundles: Made, name: str) -> None:
    bundle, module, _ = bundles(name)
    golden = golden_of(bundle)
    wanted = tensors_of(module, *graph_of(name)[1].inputs)
    assert len(golden.outputs) == len(wanted)
    assert all(np.array_equal(one, other.numpy()) for one, other in zip(golden.outputs, wanted, strict=True))


@pytest.mark.parametrize("name", BUNDLES)
def test_on_torch_the_halves_give_the_modules_bits_and_on_onnx_a_ten_thousandth(bundles: Made, name: str) -> None:
    bundle, module, _ = bundles(name)
    inputs = graph_of(name)[1].inputs
    seam = bundle.manifest.seam.parts
    for seed in range(3):
        torch.manual_seed(seed)
        fresh = tuple(torch.randn_like(one) if one.is_floating_point() else one for one in inputs)
        wanted = tuple(one.numpy() for one in tensors_of(module, *fresh))
        for runner in RUNNERS:
            head, tail = open_half(bundle, "head", runner=runner), open_half(bundle, "tail", runner=runner)
            sent = head.run([one.numpy() for one in fresh])
            given = tail.run(parts.decode(*parts.encode(sent, seam, EXACT, None), seam, EXACT, None))
            scale = max(1.0, *(float(np.abs(one).max()) for one in wanted))
            assert difference(given, wanted) <= (0 if runner == "torch" else 1e-4 * scale), (seed, runner)


def test_a_manifest_says_the_names_shapes_and_dtypes_of_two_inputs(bundles: Made) -> None:
    bundle, _, _ = bundles("two inputs")
    manifest = bundle.manifest
    assert [(one.name, one.dtype, one.shape) for one in manifest.inputs] == [
        ("x_bf", "float32", (1, 4)),
        ("ids_bt", "int64", (1, 2)),
    ]
    assert manifest.pixels is None
    assert [(one.dtype, one.shape) for one in manifest.seam.tensors] == [
        ("float32", (1, 6)),
        ("float32", (1, 2, 6)),
    ]
    assert manifest.seam.widths == (12,)
    assert manifest.seam.bits == (4, 8, EXACT)
    assert parse_manifest(write_manifest(manifest)) == manifest
    with pytest.raises(InvalidInput, match="takes 2 tensors, got a photograph"):
        _ = manifest.photograph


def test_bytes_and_agreement_at_every_point_are_measured(bundles: Made) -> None:
    bundle, _, _ = bundles("two inputs")
    points = {point.bits: point for point in bundle.calibration.points}
    assert set(points) == {4, 8, EXACT}
    assert points[4].payload_bytes_mean <= 9
    assert points[8].payload_bytes_mean <= 18
    assert points[EXACT].payload_bytes_mean <= 72
    assert points[EXACT].accuracy == 1
    assert bundle.calibration.score == "agreement"


@pytest.mark.parametrize("name", ["words", "masked"])
def test_whole_numbers_and_masks_cross_at_exact_bits_only(bundles: Made, name: str) -> None:
    bundle, _, _ = bundles(name)
    assert bundle.manifest.seam.bits == (EXACT,)
    assert [point.bits for point in bundle.calibration.points] == [EXACT]


def test_a_mask_crosses_as_it_is(bundles: Made) -> None:
    bundle, _, _ = bundles("masked")
    (sent,) = golden_of(bundle).seam
    assert np.isneginf(sent).any()
    seam = bundle.manifest.seam.parts
    (came,) = parts.decode(*parts.encode([sent], seam, EXACT, None), seam, EXACT, None)
    np.testing.assert_array_equal(came, sent)


def test_numbers_cross_beside_tensors(bundles: Made) -> None:
    bundle, _, _ = bundles("numbers")
    kinds = {one.dtype for one in bundle.manifest.seam.tensors}
    assert {"py_int", "int64", "float16", "bool", "float32"} <= kinds


def test_a_half_that_onnx_has_no_operators_for_is_there_for_torch_and_says_so(bundles: Made) -> None:
    bundle, _, said = bundles("torch only")
    assert "head/graph.onnx" in bundle.manifest.files
    assert "tail.onnx" not in bundle.manifest.files
    assert bundle.has_tail
    assert any(line.startswith("tail: for torch only") and "i1e" in line for line in said)
    assert "\n" not in "".join(said)
    assert not any("head:" in line for line in bundles("two inputs")[2])


def test_a_head_half_holds_no_tail(bundles: Made, tmp_path: Path) -> None:
    bundle, _, _ = bundles("two inputs")
    folder = tmp_path / bundle.name
    for file in bundle.head_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle.folder / file, folder / file)
    half = load_bundle(folder)
    assert not half.has_tail
    assert not {path.name for path in folder.rglob("*")} & {"tail.onnx", "tail.json", "tail.safetensors"}
    assert not set(half.head_files()) & set(SERVER_ONLY)
    for runner in RUNNERS:
        sent = open_half(half, "head", runner=runner).run(golden_of(half).inputs)
        assert difference(sent, golden_of(half).seam) < 1e-5
    with pytest.raises(BundleError, match="head half"):
        load_worker(half, ServerConfig())


@pytest.mark.parametrize("file", ["tail.json", "head/graph.json", "tail.safetensors", "head/graph.safetensors"])
def test_a_file_that_was_changed_refuses_the_bundle(bundles: Made, tmp_path: Path, file: str) -> None:
    bundle, _, _ = bundles("two inputs")
    shutil.copytree(bundle.folder, tmp_path / "b")
    data = (tmp_path / "b" / file).read_bytes()
    (tmp_path / "b" / file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{file} must have SHA-256"):
        load_bundle(tmp_path / "b")


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────


class Gives(nn.Module):
    """Something of every input, in a form that may not travel."""

    def __init__(self, what: Callable[..., Any]) -> None:
        super().__init__()
        self.what = what

    def forward(self, *given: Tensor) -> Any:
        return self.what(*given)


def split(tmp_path: Path, what: Callable[..., Any], given: tuple[Tensor, ...], cut: str = "mul", **order: Any) -> None:
    captured = capture(Gives(what).eval(), given)
    split_captured(captured, find_cut(cuts(captured), cut), Order(**{"name": "refused"} | order), tmp_path, Lines())


X = torch.randn(1, 3, 8, 8)
MANY = 66_000 // 4000 + 1
NOT_SENT: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], str, str]] = {
    "bfloat16 at the cut": (lambda x: (x.bfloat16() * 2).float(), (X,), "mul", "mul cannot be sent.*bfloat16"),
    "complex numbers at the cut": (
        lambda x: (torch.fft.fft(x) * 2).abs(),
        (X,),
        "mul",
        "mul cannot be sent.*complex64",
    ),
    "bfloat16 in": (lambda x: (x.float() * 2).relu(), (X.bfloat16(),), "mul", "cannot be sent.*bfloat16"),
    "bfloat16 out": (lambda x: (x * 2).bfloat16(), (X,), "mul", "output_0 cannot be sent.*bfloat16"),
    "double precision out": (
        lambda x: (x * 2, (x * 2).double()),
        (X,),
        "mul",
        "output 1 must be one of float32.* got float64: convert it",
    ),
    "complex numbers out": (lambda x: torch.fft.fft(x * 2), (X,), "mul", "output_0 cannot be sent.*complex64"),
    "nine dimensions": (lambda x: (x * 2).relu(), (torch.zeros((1,) * 9),), "mul", "cannot be sent.*at most 8"),
    "more channels than a frame counts": (
        lambda x: sum(one * 2 for one in [(x * n).relu() for n in range(MANY)]),
        (torch.randn(1, 4000),),
        f"relu_{MANY - 1}",
        "cannot be sent.*65535",
    ),
    "more tensors than a frame holds": (
        lambda x: torch.cat(x.split(1)) * 2,
        (torch.randn(257, 2),),
        "getitem_256",
        "cannot be sent.*256",
    ),
    "more inputs than a bundle names": (
        lambda *xs: sum(xs) * 2 + 1,
        tuple(torch.zeros(1) for _ in range(65)),
        "mul",
        "at most 64 tensors, got 65",
    ),
    "not a number": (lambda x: (x - 100).log().nan_to_num(), (X,), "log", "NaN, got it in log"),
}


@pytest.mark.parametrize(("what", "given", "cut", "says"), NOT_SENT.values(), ids=NOT_SENT.keys())
def test_what_has_no_form_on_the_wire_is_refused_before_anything_is_written(
    tmp_path: Path, what: Callable[..., Any], given: tuple[Tensor, ...], cut: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        split(tmp_path, what, given, cut)
    assert list(tmp_path.iterdir()) == []


PIXELS = Pixels(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"name": "../out"}, "a bundle must have a name"),
        ({"name": "Name"}, "a bundle must have a name"),
        ({"name": ""}, "a bundle must have a name"),
        ({"version": "1/../2"}, "a version like"),
        ({"version": ""}, "a version like"),
        ({"bits": ()}, "at least 1"),
        ({"bits": (9,)}, "1 to 8"),
        ({"bits": (0, 8)}, "1 to 8"),
        ({"kind": "classes"}, r"a classifier's first output must have shape \(1, N\), got \(1, 3, 8, 8\)"),
        ({"pixels": PIXELS.model_copy(update={"height": 9})}, r"must take one tensor \('float32', \(1, 3, 9, 8\)\)"),
    ],
)
def test_an_order_that_no_manifest_can_hold_is_refused_before_anything_is_written(
    tmp_path: Path, order: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        split(tmp_path / "out", lambda x: (x * 2).relu(), (X,), **order)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sample",
    [
        (),
        (np.zeros((2, 3, 8, 8), np.float32),),
        (np.zeros((1, 3, 8, 9), np.float32),),
        (np.zeros((1, 3, 8, 8)),),
        (np.zeros((1, 3, 8, 8), np.float32),) * 2,
    ],
)
def test_samples_of_another_form_are_refused(tmp_path: Path, sample: tuple[Array, ...]) -> None:
    with pytest.raises(InvalidInput, match="must"):
        split(tmp_path, lambda x: (x * 2).relu(), (X,), samples=[sample])
    assert list(tmp_path.iterdir()) == []


def test_a_cut_at_the_end_leaves_no_tail_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no tail"):
        split(tmp_path, lambda x: (x * 2).relu(), (X,), "output")


def test_labels_of_another_number_than_the_network_gives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must have shape \(1, 2\), got \(1, 3\)"):
        split(tmp_path, lambda x: (x * 2).mean((2, 3)), (X,), kind="classes", labels=("cat", "dog"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "refused-1").mkdir()
    (tmp_path / "refused-1" / "mine").write_text("kept")
    with pytest.raises(ConfigError, match="refused-1 already"):
        split(tmp_path, lambda x: (x * 2).relu(), (X,))
    assert (tmp_path / "refused-1" / "mine").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["refused-1"]


def test_nothing_but_the_bundle_is_left(bundles: Made) -> None:
    bundle, _, _ = bundles("two inputs")
    assert not [path for path in bundle.folder.parent.iterdir() if path.name.startswith(".")]
