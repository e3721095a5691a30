"""Gates on a device: what they stop is answered here and costs nothing further, whatever link and strategy do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnxscript", reason="needs the torch extra")

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from splitrt.bundle import Bundle, load_bundle
from splitrt.calibration import GateRecord
from splitrt.config import ClientConfig
from splitrt.device.client import AsyncClient
from splitrt.device.gate import GateRow
from splitrt.device.head import OnnxHead
from splitrt.device.link import ScriptedLink
from splitrt.device.local import BottleneckDevice
from splitrt.device.result import Nothing, Result
from splitrt.device.strategy import Adaptive, Fixed, Strategy
from splitrt.errors import BundleError, ConfigError
from splitrt.golden import load_gate_golden
from splitrt.manifest import Gate
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.frames import Frame, Reply
from splitrt.train.gate import attach

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
RECORD = GateRecord(recall=0.9, delta=0.1, positives=30, lost=0, negatives=0, stopped=0, digest="0" * 64)
DARK: UInt8 = np.zeros((128, 128, 3), np.uint8)
BRIGHT: UInt8 = np.full((128, 128, 3), 255, np.uint8)


class Brightness(nn.Module):
    """Odds that rise with the mean of what it reads."""

    def __init__(self, gain: float, lift: float = 0.0) -> None:
        super().__init__()
        self.gain, self.lift = gain, lift

    def forward(self, x_1CHW: Tensor) -> Tensor:
        return self.gain * x_1CHW.mean((1, 2, 3)) + self.lift


def gated(photos: Bundle, folder: Path, reads: Sequence[Any], graphs: Sequence[nn.Module], threshold: float) -> Bundle:
    rule = Gate(reads=tuple(reads), threshold=threshold, answer="dark", positives=("bright",))
    shapes = {"frame": (1, 3, 128, 128), "carried": (1, 3, 128, 128), "features": (1, 24, 32, 32)}
    inputs = [torch.rand(shapes[one]) for one in reads]
    return load_bundle(attach(photos.folder, folder / "gated-1", rule, RECORD, graphs, inputs))


@pytest.fixture(scope="module")
def by_brightness(photos: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Frames darker than grey are nothing."""
    return gated(photos, tmp_path_factory.mktemp("gated"), ["frame"], [Brightness(5.0)], 0.9)


class Untouched(OnnxHead):
    """A head that must not be asked for anything."""

    def stem(self, x_CHW: Float32) -> Float32:
        raise AssertionError("the stem ran for a frame that a gate before it stops")


@asynccontextmanager
async def client_of(
    bundle: Bundle, *, strategy: Strategy | None = None, head: OnnxHead | None = None, is_up: bool = True
) -> AsyncIterator[tuple[AsyncClient, ScriptedLink]]:
    def answered(frame: Frame) -> tuple[float, Reply | None]:
        return 0.0, Reply(seq=frame.seq, outputs=(np.eye(6, dtype=np.float32)[1],))

    async with ScriptedLink(answered, is_up=is_up) as link:
        device = BottleneckDevice(bundle, head or OnnxHead(bundle))
        config = ClientConfig(deadline_ms=5_000)
        client = AsyncClient(device, link, LinkEstimate(), config=config, strategy=strategy or Fixed(8, 4))
        try:
            yield client, link
        finally:
            await client.aclose()


def check_stopped(result: Result) -> None:
    assert (result.source, result.label, result.degraded) == ("gate", "dark", False)
    assert (result.payload_bytes, result.link_bytes, result.width) == (0, 0, 0)
    assert isinstance(result.output, Nothing)
    assert result.output.certainty >= 0.9


@pytest.mark.parametrize("is_up", [True, False])
async def test_a_stopped_frame_is_answered_here_and_nothing_is_sent(by_brightness: Bundle, is_up: bool) -> None:
    async with client_of(by_brightness, is_up=is_up) as (client, link):
        check_stopped(await client.infer(DARK))
    assert link.sent == []


@pytest.mark.parametrize("adaptive", [True, False])
async def test_no_strategy_sends_what_a_gate_stops(by_brightness: Bundle, adaptive: bool) -> None:
    strategy: Strategy = Adaptive(by_brightness) if adaptive else Fixed(8, 4)
    async with client_of(by_brightness, strategy=strategy) as (client, link):
        check_stopped(await client.infer(DARK))
    assert link.sent == []


async def test_a_frame_that_its_first_gate_stops_costs_no_stem(by_brightness: Bundle) -> None:
    async with client_of(by_brightness, head=Untouched(by_brightness)) as (client, _):
        check_stopped(await client.infer(DARK))


async def test_a_frame_that_passes_is_answered_as_without_a_gate(by_brightness: Bundle) -> None:
    async with client_of(by_brightness) as (client, link):
        result = await client.infer(BRIGHT)
    assert (result.source, result.label) == ("remote", "forest")
    assert len(link.sent) == 1


async def test_a_gate_on_features_stops_after_the_stem(photos: Bundle, tmp_path: Path) -> None:
    bundle = gated(photos, tmp_path, ["frame", "features"], [Brightness(5.0), Brightness(0.0, -5.0)], 0.9)
    async with client_of(bundle) as (client, link):
        check_stopped(await client.infer(BRIGHT))
    assert link.sent == []


@pytest.mark.parametrize(("frame", "share"), [(DARK, 1.0), (BRIGHT, 0.0)])
async def test_a_stream_of_one_kind_alone_ends_as_any_other(by_brightness: Bundle, frame: UInt8, share: float) -> None:
    async with client_of(by_brightness) as (client, link):
        results = [await client.infer(frame) for _ in range(12)]
        assert client.metrics.share(by_brightness.manifest.name, "gate") == share
        assert client.metrics.share(by_brightness.manifest.name, "remote") == 1 - share
    assert {result.source for result in results} == {"gate" if share else "remote"}
    assert len(link.sent) == 12 * (1 - share)


@pytest.mark.parametrize(("odds", "stops"), [(np.nan, False), (-np.inf, True), (np.inf, False), (-900.0, True)])
def test_only_a_number_stops_a_frame(photos: Bundle, tmp_path: Path, odds: float, stops: bool) -> None:
    bundle = gated(photos, tmp_path, ["frame"], [Brightness(0.0, float(odds))], 0.5)
    found = GateRow(bundle).stop("frame", np.zeros((1, 3, 128, 128), np.float32))
    assert (found is not None) == stops


def test_a_threshold_above_one_stops_nothing(photos: Bundle, tmp_path: Path) -> None:
    bundle = gated(photos, tmp_path, ["frame"], [Brightness(0.0, -900.0)], 1.01)
    assert GateRow(bundle).stop("frame", np.zeros((1, 3, 128, 128), np.float32)) is None


def test_a_bundle_without_a_gate_stops_nothing(photos: Bundle) -> None:
    row = GateRow(photos)
    assert row.stop("features", np.zeros((1, 24, 32, 32), np.float32)) is None
    assert row.check_golden() == 0


def test_a_gate_that_computes_something_else_here_is_refused(by_brightness: Bundle, tmp_path: Path) -> None:
    path = by_brightness.path("head/gate_golden.npz")
    golden = load_gate_golden(path, 1)
    before = path.read_bytes()
    try:
        with path.open("wb") as file:
            np.savez(file, inputs_0=golden.inputs[0], odds_0=golden.odds[0] + 1)
        with pytest.raises(BundleError, match="gate 1 on this machine differs by 1"):
            GateRow(by_brightness).check_golden()
        with path.open("wb") as file:
            np.savez(file, inputs_0=golden.inputs[0])
        with pytest.raises(BundleError, match="must hold"):
            GateRow(by_brightness).check_golden()
    finally:
        path.write_bytes(before)


class Carrying(nn.Module):
    """Odds that stop nothing, and the frame's negative for the next gate to read."""

    def forward(self, x_1CHW: Tensor) -> tuple[Tensor, Tensor]:
        return x_1CHW.mean((1, 2, 3)) * 0 + 9.0, -x_1CHW


def test_a_gate_reads_what_the_one_before_carries_on(photos: Bundle, tmp_path: Path) -> None:
    row = GateRow(gated(photos, tmp_path, ["frame", "carried"], [Carrying(), Brightness(5.0)], 0.9))
    assert row.check_golden() < 1e-4
    assert row.stop("frame", np.ones((1, 3, 128, 128), np.float32)) is not None
    assert row.stop("frame", -np.ones((1, 3, 128, 128), np.float32)) is None
    assert row.stop("features", np.ones((1, 24, 32, 32), np.float32)) is None


def test_a_gate_that_carries_nothing_on_for_the_next_is_refused(photos: Bundle, tmp_path: Path) -> None:
    made = gated(photos, tmp_path, ["frame", "frame"], [Brightness(5.0), Brightness(5.0)], 0.9)
    manifest = made.folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('["frame", "frame"]', '["frame", "carried"]'))
    with pytest.raises(BundleError, match="gate 1 must give 2 tensors"):
        GateRow(load_bundle(made.folder))


def test_no_row_begins_with_what_a_gate_before_carries_on() -> None:
    with pytest.raises(ValidationError, match="must not begin"):
        Gate(reads=("carried",), threshold=0.5)


def test_gates_run_from_the_frame_on() -> None:
    with pytest.raises(ValidationError, match="frames before features"):
        Gate(reads=("features", "frame"), threshold=0.5)


def test_beside_a_built_in_bundle_a_gated_one_holds_only_what_is_its_own(
    photos: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitrt.train.gate.built_in_folder", lambda: tmp_path)
    photos.copy(tmp_path / photos.name)
    bundle = gated(load_bundle(tmp_path / photos.name), tmp_path, ["frame"], [Brightness(5.0)], 0.9)
    own = {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()}
    assert own == {"manifest.toml", "README.md", "calibration.json", "head/gate_1.onnx", "head/gate_golden.npz"}
    assert bundle.manifest.base == photos.name
    assert bundle.has_tail


def test_a_second_row_of_gates_is_refused(by_brightness: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has a gate already"):
        attach(by_brightness.folder, tmp_path / "twice-1", Gate(reads=("frame",), threshold=0.5), RECORD, [], [])
