"""Captured networks served over a real stream: the module's own answer, and typed errors for everything else.

Shape letters: B batch, C channels, H W space, F features, N classes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnxscript", reason="needs the torch extra")

import torch
from loopback import RawStream, altered, frame_messages, raw_stream, serving, until
from torch import Tensor, nn

import splitrt
from splitrt.bundle import SERVER_ONLY, Bundle, load_bundle
from splitrt.codec import parts, pixels
from splitrt.codec.parts import EXACT
from splitrt.codec.payload import Codec
from splitrt.config import ClientConfig
from splitrt.device.captured import CapturedDevice
from splitrt.device.client import AsyncClient
from splitrt.device.fetch import fetch_head
from splitrt.device.result import Classes, Result
from splitrt.device.strategy import Fixed, Photographs, Strategy
from splitrt.errors import BadFrame, IntegrityError, InvalidInput, ReferenceGone, SplitError, WidthUnsupported
from splitrt.halves import Runner, open_half
from splitrt.manifest import Pixels
from splitrt.partition.bundle import Order, split_captured
from splitrt.partition.capture import capture
from splitrt.partition.cuts import cuts, find_cut
from splitrt.server.captured import CapturedWorker
from splitrt.server.serve import RunningServer
from splitrt.server.work import Work

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

Array = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]
DEADLINE_MS = 20_000.0
LABELS = ("cat", "dog", "owl")
PIXELS = Pixels(height=16, width=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class TwoInputs(nn.Module):
    """Gives two tensors, one of them of truth values."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.end = nn.Linear(4, 6), nn.Embedding(9, 6), nn.Linear(6, 3)

    def forward(self, values: Tensor, ids: Tensor) -> dict[str, Tensor]:
        hidden = self.left(values).tanh() + self.right(ids).mean(1).tanh()
        logits = self.end(hidden)
        return {"logits": logits, "high": logits > 0}


class Photograph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.end = nn.Linear(4, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        stem = self.stem(x_BCHW).relu()
        logits_BN: Tensor = self.end((self.block(stem) + stem).relu().mean((2, 3)))
        return logits_BN


class Silent:
    def line(self, text: str) -> None:
        pass

    def step(self, phase: str, done: int, total: int) -> None:
        pass


def inputs_of(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(1, 4)).astype(np.float32), rng.integers(0, 9, (1, 2))


def photograph_of(seed: int) -> UInt8:
    """Smooth, coloured, already of the size that the network takes."""
    rows, columns = np.mgrid[0:16, 0:16] / 15
    planes = [rows, columns, 0.5 + 0.5 * np.sin(3 * (seed + 1) * rows * columns)]
    return (255 * np.stack(planes, axis=-1)).astype(np.uint8)


def normalised(frame_HWC: UInt8) -> Array:
    return pixels.normalise(frame_HWC, PIXELS.mean, PIXELS.std)[None]


def written(module: nn.Module, given: tuple[Array, ...], cut: str, folder: Path, **order: Any) -> Bundle:
    captured = capture(module, tuple(torch.from_numpy(one) for one in given))
    chosen = find_cut(cuts(captured), cut)
    return load_bundle(split_captured(captured, chosen, Order(**order), folder, Silent()))


@pytest.fixture(scope="module")
def modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"pair": TwoInputs().eval(), "photograph": Photograph().eval()}


@pytest.fixture(scope="module")
def pair(modules: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    samples = [inputs_of(seed) for seed in range(32)]
    folder = tmp_path_factory.mktemp("served")
    return written(modules["pair"], samples[0], "embedding", folder, name="pair", samples=samples, bits=(8, EXACT))


@pytest.fixture(scope="module")
def photographed(modules: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    samples = [(normalised(photograph_of(seed)),) for seed in range(8)]
    order = {"name": "photographed", "kind": "classes", "labels": LABELS, "pixels": PIXELS, "samples": samples}
    return written(modules["photograph"], samples[0], "relu", tmp_path_factory.mktemp("served"), **order)


def answer_of(module: nn.Module, *given: Array) -> list[Array]:
    with torch.inference_mode():
        found = module(*(torch.from_numpy(one) for one in given))
    return [one.numpy() for one in (found.values() if isinstance(found, dict) else [found])]


def outputs_of(result: Result) -> Sequence[Array]:
    assert result.source == "remote", result
    assert isinstance(result.output, tuple)
    return result.output


@asynccontextmanager
async def connected(
    bundle: Bundle, bits: int = EXACT, runner: Runner = "onnx", strategy: Strategy | None = None
) -> AsyncIterator[tuple[AsyncClient, RunningServer]]:
    chosen = strategy or Fixed(bundle.manifest.seam.widths[-1], bits)
    async with serving(bundles=(str(bundle.folder),), runner=runner) as server:
        async with splitrt.connect_async(
            server.address,
            bundle=str(bundle.folder),
            deadline_ms=DEADLINE_MS,
            runner=runner,
            strategy=lambda _: chosen,
        ) as client:
            yield client, server


def frames(server: RunningServer, outcome: str) -> float:
    labels = {"bundle": "pair", "version": "1", "outcome": outcome}
    return server.metrics.registry.get_sample_value("splitrt_frames_total", labels) or 0.0


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────


async def test_on_torch_at_32_bits_the_answer_is_the_modules_own_bit_for_bit(
    pair: Bundle, modules: dict[str, nn.Module]
) -> None:
    async with connected(pair, runner="torch") as (client, _):
        for seed in range(5):
            values, ids = inputs_of(seed)
            logits, high = outputs_of(await client.infer((values, ids)))
            wanted, wanted_high = answer_of(modules["pair"], values, ids)
            assert logits.tobytes() == wanted.tobytes()
            assert (logits.dtype.name, logits.shape) == ("float32", (1, 3))
            np.testing.assert_array_equal(high, wanted_high)  # truth values are sent back as bytes
            assert high.dtype == np.uint8


@pytest.mark.parametrize(("bits", "off"), [(EXACT, 1e-6), (8, 0.05)])
async def test_on_onnx_the_answer_is_as_near_as_its_bits(
    pair: Bundle, modules: dict[str, nn.Module], bits: int, off: float
) -> None:
    async with connected(pair, bits) as (client, _):
        for seed in range(5):
            values, ids = inputs_of(seed)
            result = await client.infer((values, ids))
            logits, _ = outputs_of(result)
            wanted, _ = answer_of(modules["pair"], values, ids)
            np.testing.assert_allclose(logits, wanted, atol=off)
            assert (result.bits, result.width) == (bits, pair.manifest.seam.widths[0])
            assert result.payload_bytes <= sum(part.bytes_at(bits) for part in pair.manifest.seam.parts)


@pytest.mark.parametrize(("bits", "off"), [(EXACT, 1e-5), (8, 0.05)])
async def test_a_photograph_is_answered_by_its_class(
    photographed: Bundle, modules: dict[str, nn.Module], bits: int, off: float
) -> None:
    async with connected(photographed, bits) as (client, _):
        for seed in range(3):
            result = await client.infer(photograph_of(seed))
            (logits,) = answer_of(modules["photograph"], normalised(photograph_of(seed)))
            wanted = torch.from_numpy(logits[0]).softmax(-1).numpy()
            assert isinstance(result.output, Classes)
            assert result.source == "remote"
            np.testing.assert_allclose(result.output.scores, wanted, atol=off)
            assert result.output.labels == LABELS


async def test_a_photograph_may_come_whole_to_both_halves_on_the_server(
    photographed: Bundle, modules: dict[str, nn.Module]
) -> None:
    async with connected(photographed, strategy=Photographs(95)) as (client, _):
        result = await client.infer(photograph_of(0))
    (logits,) = answer_of(modules["photograph"], normalised(photograph_of(0)))
    assert isinstance(result.output, Classes)
    np.testing.assert_allclose(result.output.scores, torch.from_numpy(logits[0]).softmax(-1).numpy(), atol=0.05)


async def test_inputs_may_come_by_name_in_any_order_as_tensors_of_torch_and_as_wider_numbers(
    pair: Bundle, modules: dict[str, nn.Module]
) -> None:
    values, ids = inputs_of(1)
    (wanted, _) = answer_of(modules["pair"], values, ids)
    turned = np.asfortranarray(np.repeat(values, 2, 0))[::2]
    same: list[Any] = [
        {"ids": ids, "values": values},
        [values.tolist(), ids.tolist()],
        (torch.from_numpy(values).requires_grad_(), torch.from_numpy(ids)),
        (values.astype(np.float64), ids.astype(np.int32)),
        (turned, ids[:, ::-1][:, ::-1]),
    ]
    async with connected(pair, runner="torch") as (client, _):
        for given in same:
            logits, _ = outputs_of(await client.infer(given))
            assert logits.tobytes() == wanted.tobytes()


async def test_a_stream_of_inputs_by_name_is_answered_in_order(pair: Bundle, modules: dict[str, nn.Module]) -> None:
    """Each is given when the one before is answered: nothing is skipped, and nobody waits for a clock."""
    answered = asyncio.Event()
    answered.set()

    async def source() -> AsyncIterator[dict[str, Array]]:
        for seed in range(4):
            await answered.wait()
            answered.clear()
            values, ids = inputs_of(seed)
            yield {"ids": ids, "values": values}

    found: list[Array] = []
    async with connected(pair, runner="torch") as (client, _):
        async for result in client.stream(source()):
            found.append(outputs_of(result)[0])
            answered.set()
    wanted = [answer_of(modules["pair"], *inputs_of(seed))[0] for seed in range(4)]
    assert [one.tobytes() for one in found] == [one.tobytes() for one in wanted]


# ── inputs that are none ────────────────────────────────────────────────────────────────────────────

VALUES, IDS = inputs_of(0)
WRONG: dict[str, tuple[Any, str]] = {
    "a batch of two": ((VALUES.repeat(2, 0), IDS), r"values must have shape \(1, 4\), got \(2, 4\)"),
    "no batch": ((VALUES[0], IDS), r"values must have shape \(1, 4\), got \(4,\)"),
    "another shape": ((VALUES[:, :3], IDS), r"values must have shape \(1, 4\), got \(1, 3\)"),
    "a longer text": ((VALUES, np.zeros((1, 3), np.int64)), r"ids must have shape \(1, 2\), got \(1, 3\)"),
    "numbers of another kind": ((VALUES.astype(np.int64), IDS), "values must be float32, got int64"),
    "parts of numbers": ((VALUES, IDS.astype(np.float32)), "ids must be int64, got float32"),
    "truth values": ((VALUES, IDS > 3), "ids must be int64, got bool"),
    "numbers without a sign": ((VALUES, IDS.astype(np.uint8)), "ids must be int64, got uint8"),
    "complex numbers": ((VALUES + 1j, IDS), "values must be float32, got complex"),
    "numbers beyond what is held": ((np.full((1, 4), 1e300), IDS), "values must be float32, got float64 beyond"),
    "half of them": ((VALUES,), "must be 2 tensors .values, ids., got 1"),
    "too many": ((VALUES, IDS, IDS), "must be 2 tensors .values, ids., got 3"),
    "one alone": (VALUES, "must be 2 tensors .values, ids., got 1"),
    "none": ((), "must be 2 tensors .values, ids., got 0"),
    "no such name": ({"values": VALUES, "words": IDS}, "must be values, ids, got values, words"),
    "a name too many": ({"values": VALUES, "ids": IDS, "mask": IDS}, "must be values, ids, got values, ids, mask"),
    "a name too few": ({"values": VALUES}, "must be values, ids, got values"),
    "swapped": ((IDS, VALUES), "values must have shape"),
    "rows of different lengths": (([[1.0, 2.0], [3.0]], IDS), "values must be float32"),
    "bfloat16": ((torch.zeros(1, 4, dtype=torch.bfloat16), IDS), "values must be float32"),
    "nothing": ((None, IDS), "values must have shape"),
    "text": (("text", IDS), "values must have shape"),
    "a photograph": (np.zeros((16, 16, 3), np.uint8), "must be 2 tensors .values, ids., got 1"),
}


async def test_inputs_that_are_none_are_refused_before_anything_is_sent(pair: Bundle) -> None:
    async with connected(pair) as (client, server):
        for name, (given, says) in WRONG.items():
            with pytest.raises(InvalidInput, match=says):
                await client.infer(given)
            assert frames(server, "ok") == 0, name
        await client.infer((VALUES, IDS))
        await until(lambda: frames(server, "ok") == 1)


@pytest.mark.parametrize("given", [(VALUES, IDS), {"values": VALUES}, np.zeros((4, 4), np.float32), "text", None])
async def test_a_photographs_bundle_takes_photographs_only(photographed: Bundle, given: Any) -> None:
    device = CapturedDevice(photographed, open_half(photographed, "head"))
    with pytest.raises(InvalidInput, match="must be"):
        device.take(given)


async def test_nan_is_refused_at_8_bits_and_crosses_at_32(pair: Bundle) -> None:
    broken = (np.full((1, 4), np.nan, np.float32), IDS)
    async with connected(pair, 8) as (client, server):
        with pytest.raises(InvalidInput, match="NaN"):
            await client.infer(broken)
        assert frames(server, "ok") == 0
    async with connected(pair, EXACT) as (client, _):
        logits, _ = outputs_of(await client.infer(broken))
        assert np.isnan(logits).all()


async def test_a_number_that_no_embedding_has_fails_by_itself(pair: Bundle) -> None:
    """The head's runtime refuses it; the client goes on."""
    runners: tuple[Runner, ...] = ("onnx", "torch")
    for runner in runners:
        async with connected(pair, runner=runner) as (client, server):
            with pytest.raises(InvalidInput, match=r"that the head can run: .*(?i:ind)"):
                await client.infer((VALUES, np.array([[3, 1_000_000]])))
            assert frames(server, "ok") == 0
            await client.infer((VALUES, IDS))


# ── frames that no client of ours sends ─────────────────────────────────────────────────────────────


def sound(bundle: Bundle, bits: int = EXACT) -> tuple[Codec, bytes]:
    device = CapturedDevice(bundle, open_half(bundle, "head"))
    given = (VALUES, IDS) if bundle.manifest.inputs else photograph_of(0)
    encoded = device.encode(device.look(device.take(given)), bundle.manifest.seam.widths[0], bits)
    return encoded.codec, encoded.payloads[0]


def frame(bundle: Bundle, seq: int, codec: Codec, payload: bytes, **fields: Any) -> Any:
    """A frame's one message with a true checksum."""
    about = {"width": bundle.manifest.seam.widths[0], "bits": EXACT} | fields
    (message,) = frame_messages(bundle, seq, codec=codec, payloads=(payload,), **about)
    return message


async def assert_alive(stream: RawStream, seq: int) -> None:
    codec, payload = sound(stream.bundle)
    await stream.say(frame(stream.bundle, seq, codec, payload))
    result = await stream.result()
    assert (result.seq, result.HasField("error")) == (seq, False), result


async def test_frames_that_are_no_tensors_of_the_seam_get_a_typed_error_and_the_stream_goes_on(pair: Bundle) -> None:
    codec, payload = sound(pair)
    size = sum(part.bytes_at(EXACT) for part in pair.manifest.seam.parts)
    cases: list[tuple[Any, type[SplitError], str]] = [
        (
            frame(pair, 1, Codec.JPEG, b"\xff\xd8\xff", width=0, bits=0),
            InvalidInput,
            "takes 2 tensors, got a photograph",
        ),
        (frame(pair, 2, Codec.DELTA, b"x", back=1), ReferenceGone, "frame 1 is not kept"),
        (frame(pair, 3, Codec.FACTORISED, b"x"), BadFrame, "packed or zstd, got factorised"),
        (frame(pair, 4, Codec.CONTEXT, b"x"), BadFrame, "packed or zstd, got context"),
        (frame(pair, 5, Codec.PACKED, payload[:-1]), BadFrame, f"must take {size} bytes"),
        (frame(pair, 6, Codec.PACKED, b""), BadFrame, f"must take {size} bytes, got 0"),
        (frame(pair, 7, Codec.ZSTD, b"no such thing"), BadFrame, "zstd"),
        (frame(pair, 8, codec, payload, width=1), WidthUnsupported, r"width must be one of \(12,\), got 1"),
        (frame(pair, 9, codec, payload, bits=5), WidthUnsupported, r"bits must be one of \(8, 32\), got 5"),
        (frame(pair, 10, codec, payload, bits=0), WidthUnsupported, "got 0"),
        (altered(frame(pair, 11, codec, payload), chunks=2), BadFrame, "1 or 1 chunks, got 2"),
        (altered(frame(pair, 12, codec, payload), crc32c=1), IntegrityError, "checksum"),
    ]
    async with serving(bundles=(str(pair.folder),)) as server, raw_stream(server.address, pair) as stream:
        for message, kind, says in cases:
            await stream.say(message)
            error = await stream.error(message.frame.seq)
            assert type(error) is kind, (message.frame.seq, error)
            with pytest.raises(kind, match=says):
                raise error
        await assert_alive(stream, 99)


async def test_a_difference_to_an_answered_frame_is_refused_too_where_the_device_says_it_sends_some(
    pair: Bundle,
) -> None:
    async with serving(bundles=(str(pair.folder),)) as server:
        async with raw_stream(server.address, pair, greeted=False) as stream:
            await stream.greet(deltas=True)
            await assert_alive(stream, 1)
            await stream.say(frame(pair, 2, Codec.DELTA, b"x", back=1))
            assert isinstance(await stream.error(2), ReferenceGone)
            await assert_alive(stream, 3)


async def test_a_client_that_may_send_differences_sends_whole_frames(pair: Bundle) -> None:
    width = pair.manifest.seam.widths[0]
    async with serving(bundles=(str(pair.folder),)) as server:
        async with splitrt.connect_async(
            server.address,
            bundle=str(pair.folder),
            deadline_ms=DEADLINE_MS,
            deltas=True,
            strategy=lambda _: Fixed(width, EXACT),
        ) as client:
            first, second = [outputs_of(await client.infer((VALUES, IDS)))[0] for _ in range(2)]
            assert first.tobytes() == second.tobytes()
        assert server.metrics.registry.get_sample_value("splitrt_frame_bytes_count", {"codec": "delta"}) is None


class Recorder:
    """A half that counts what reaches it."""

    def __init__(self) -> None:
        self.came: list[tuple[Array, ...]] = []

    def run(self, tensors: Sequence[Array]) -> tuple[Array, ...]:
        self.came.append(tuple(tensors))
        return (np.zeros((1, 3), np.float32),)


def work(payload: bytes, codec: Codec, bits: int = EXACT) -> Work:
    return Work(principal="", width=12, bits=bits, codec=codec, payloads=(payload,), arrived_at=0.0, deadline_at=1.0)


def test_a_damaged_payload_does_not_reach_the_tail(pair: Bundle) -> None:
    head, tail = Recorder(), Recorder()
    worker = CapturedWorker(pair, head, tail)
    seam = pair.manifest.seam.parts
    for bits in (8, EXACT):
        codec, payload = sound(pair, bits)
        size = sum(part.bytes_at(bits) for part in seam)
        damaged = [work(payload[:cut], codec, bits) for cut in range(len(payload))]
        damaged += [work(payload + b"\0", codec, bits), work(bytes(size + 1), Codec.PACKED, bits)]
        damaged += [work(payload, other, bits) for other in (Codec.CONTEXT, Codec.DELTA, Codec.FACTORISED, Codec.JPEG)]
        outcomes = worker.run(damaged)
        assert all(isinstance(one.error, BadFrame | InvalidInput) for one in outcomes)
        assert all(one.outputs == () for one in outcomes)
    assert head.came == tail.came == []
    (outcome,) = worker.run([work(payload, codec)])
    assert outcome.error is None
    assert len(tail.came) == 1
    for given, wanted in zip(tail.came[0], parts.decode(codec, payload, seam, EXACT, None), strict=True):
        np.testing.assert_array_equal(given, wanted)


def test_a_tail_that_fails_fails_its_frame_alone(pair: Bundle) -> None:
    class Fails(Recorder):
        def run(self, tensors: Sequence[Array]) -> tuple[Array, ...]:
            if not self.came:
                self.came.append(tuple(tensors))
                raise RuntimeError("of the runtime's own")
            return super().run(tensors)

    codec, payload = sound(pair)
    first, second = CapturedWorker(pair, Recorder(), Fails()).run([work(payload, codec)] * 2)
    assert first.error is not None
    assert first.error.code == "remote_failure"
    assert "runtime" not in str(first.error)
    assert second.error is None


@pytest.mark.parametrize("outputs", [(), (np.zeros(3, np.float32),), (np.float32(1).reshape(()),)])
def test_answers_of_another_form_are_a_bad_frame(photographed: Bundle, outputs: tuple[Array, ...]) -> None:
    device = CapturedDevice(photographed, open_half(photographed, "head"))
    with pytest.raises(BadFrame, match="outputs must"):
        device.read(outputs)


# ── a device that has no bundle ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("runner", ["onnx", "torch"])
async def test_a_head_half_fetched_by_digest_runs_and_holds_no_file_of_the_tail(
    pair: Bundle, modules: dict[str, nn.Module], tmp_path: Path, runner: Runner
) -> None:
    kept = tmp_path / "device"
    async with serving(bundles=(pair.manifest.name,), bundles_dir=pair.folder.parent) as server:
        config = ClientConfig(
            servers=(server.address,),
            bundle=pair.manifest.name,
            bundles_dir=kept,
            deadline_ms=DEADLINE_MS,
            runner=runner,
        )
        folder = await fetch_head(config, server.address, kept)
        fetched = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert fetched == {"manifest.toml", *pair.manifest.files} - set(SERVER_ONLY)
        assert load_bundle(folder).digest == pair.digest
        assert not load_bundle(folder).has_tail
        width = pair.manifest.seam.widths[0]
        async with splitrt.connect_async(config=config, strategy=lambda _: Fixed(width, EXACT)) as client:
            assert client.bundle.folder == folder
            logits, _ = outputs_of(await client.infer((VALUES, IDS)))
    np.testing.assert_allclose(logits, answer_of(modules["pair"], VALUES, IDS)[0], atol=1e-6)
