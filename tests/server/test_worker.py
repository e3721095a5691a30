"""The worker and the embedded pool: mixed batches, frames that fail alone, work that never starts."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from splitrt.bundle import Bundle
from splitrt.codec import bitpack, delta, pixels
from splitrt.codec.payload import Codec
from splitrt.codec.pixels import to_jpeg
from splitrt.codec.quantise import dequantise, quantise
from splitrt.device.head import OnnxHead
from splitrt.device.local import BottleneckDevice, Device
from splitrt.errors import BadFrame, DeadlineExceeded, RemoteFailure, ServerDraining
from splitrt.server.pool import GIVES_WAY, EmbeddedPool
from splitrt.server.tail import OnnxTail
from splitrt.server.work import Work
from splitrt.server.worker import Worker

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def device(photos: Bundle) -> Device:
    return BottleneckDevice(photos, OnnxHead(photos))


@pytest.fixture(scope="module")
def worker(photos: Bundle) -> Worker:
    return Worker(photos, OnnxTail(photos))


def work(
    device: Device, frame_HWC: UInt8, width: int, bits: int, *, for_s: float = 10.0, principal: str = "one"
) -> Work:
    encoded = device.encode(device.look(frame_HWC), width, bits)
    now = time.monotonic()
    return Work(
        principal=principal,
        width=width,
        bits=bits,
        codec=encoded.codec,
        payloads=encoded.payloads,
        arrived_at=now,
        deadline_at=now + for_s,
    )


def photograph(frame_HWC: UInt8) -> Work:
    payloads = (to_jpeg(frame_HWC, 90),)
    return Work(principal="one", width=0, bits=0, codec=Codec.JPEG, payloads=payloads, arrived_at=0.0, deadline_at=1e9)


def broken(one: Work) -> Work:
    """With a byte too many, which no coder makes."""
    return replace(one, payloads=(one.payloads[0] + b"\0",))


def test_a_batch_of_every_width_and_depth_answers_as_each_frame_alone(
    device: Device, worker: Worker, frame_HWC: UInt8
) -> None:
    seam = device.bundle.manifest.seam
    batch = [work(device, frame_HWC, width, bits) for width in seam.widths for bits in seam.bits]
    batch.insert(5, photograph(frame_HWC))
    together = worker.run(batch)
    alone = [worker.run([one])[0] for one in batch]
    for ours, wanted in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours.outputs[0], wanted.outputs[0], atol=1e-4)


def test_a_frame_that_does_not_decode_fails_alone(device: Device, worker: Worker, frame_HWC: UInt8) -> None:
    good = work(device, frame_HWC, 8, 4)
    outcomes = worker.run([good, broken(good), photograph(frame_HWC), good])
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True]
    assert isinstance(outcomes[1].error, BadFrame)


def test_a_payload_that_is_no_photograph_is_refused(worker: Worker, frame_HWC: UInt8) -> None:
    wrong = photograph(frame_HWC)
    text = Work(
        principal="one",
        width=0,
        bits=0,
        codec=Codec.JPEG,
        payloads=(b"not a photograph",),
        arrived_at=0,
        deadline_at=1e9,
    )
    assert [type(outcome.error) for outcome in worker.run([text, wrong])] == [BadFrame, type(None)]


def test_one_chunk_a_group_decodes_as_the_whole_frame(device: Device, worker: Worker, frame_HWC: UInt8) -> None:
    bundle = device.bundle
    head = OnnxHead(bundle)
    wanted = bundle.manifest.photograph
    features = head.stem(pixels.normalise(frame_HWC, wanted.mean, wanted.std))
    symbols = quantise(head.encode(features, 8), bundle.tables.ranges_at(4), 4)
    sizes = bundle.manifest.seam.group_sizes(8)
    stops = np.cumsum([0, *sizes])
    pieces = [symbols[a:b] for a, b in zip(stops[:-1], stops[1:], strict=True)]
    chunks = tuple(bitpack.pack(piece, 4) for piece in pieces)
    one = Work(principal="one", width=8, bits=4, codec=Codec.PACKED, payloads=chunks, arrived_at=0.0, deadline_at=1e9)
    whole = work(device, frame_HWC, 8, 4)
    np.testing.assert_array_equal(worker.bottleneck(one).values, worker.bottleneck(whole).values)


def test_what_the_worker_decodes_is_what_the_device_quantised(device: Device, worker: Worker, frame_HWC: UInt8) -> None:
    seam, tables = device.bundle.manifest.seam, device.bundle.tables
    for place, width in enumerate(seam.widths):
        for bits in seam.bits:
            encoded = device.encode(device.look(frame_HWC), width, bits)
            decoded = worker.bottleneck(work(device, frame_HWC, width, bits))
            assert encoded.symbols_KHW is not None
            assert decoded.symbols_ZHW is not None
            np.testing.assert_array_equal(decoded.symbols_ZHW, encoded.symbols_KHW)
            wanted_KHW = dequantise(encoded.symbols_KHW, tables.ranges_at(bits), bits)
            np.testing.assert_array_equal(decoded.values[:width], wanted_KHW)
            assert (decoded.values[width:] == 0).all()
            assert decoded.place == place


# ── differences ─────────────────────────────────────────────────────────────────────────────────────


def difference(device: Device, frame_HWC: UInt8, to_HWC: UInt8) -> Work:
    reference = device.encode(device.look(to_HWC), 8, 4).symbols_KHW
    symbols = device.encode(device.look(frame_HWC), 8, 4).symbols_KHW
    assert reference is not None
    assert symbols is not None
    payloads = (delta.encode(symbols, reference, 4),)
    plain = work(device, frame_HWC, 8, 4)
    return replace(plain, codec=Codec.DELTA, payloads=payloads, reference_ZHW=reference)


def test_a_difference_is_answered_as_the_whole_frame(device: Device, worker: Worker, frame_HWC: UInt8) -> None:
    other_HWC = np.ascontiguousarray(frame_HWC[::-1])
    whole, delta = work(device, frame_HWC, 8, 4), difference(device, frame_HWC, other_HWC)
    wanted, given = worker.run([whole, delta])
    np.testing.assert_array_equal(given.outputs[0], wanted.outputs[0])
    np.testing.assert_array_equal(worker.bottleneck(delta).values, worker.bottleneck(whole).values)


def test_a_broken_difference_fails_alone(device: Device, worker: Worker, frame_HWC: UInt8) -> None:
    delta = difference(device, frame_HWC, frame_HWC)
    outcomes = worker.run([delta, broken(delta), work(device, frame_HWC, 1, 2)])
    assert [type(outcome.error) for outcome in outcomes] == [type(None), BadFrame, type(None)]


def test_symbols_come_back_of_frames_that_ask_for_it_and_of_no_other(
    device: Device, worker: Worker, frame_HWC: UInt8
) -> None:
    plain = work(device, frame_HWC, 4, 3)
    kept, dropped, failed = worker.run([replace(plain, keep=True), plain, replace(broken(plain), keep=True)])
    wanted = device.encode(device.look(frame_HWC), 4, 3).symbols_KHW
    assert wanted is not None
    assert kept.symbols_ZHW is not None
    np.testing.assert_array_equal(kept.symbols_ZHW, wanted)
    assert dropped.symbols_ZHW is None
    assert failed.symbols_ZHW is None


# ── the pool ────────────────────────────────────────────────────────────────────────────────────────


class Slow:
    """A tail that holds until it is let go, and counts what it ran."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[int] = []
        self.fails = False

    def run(self, z_BZHW: Float32, place_B: Int64) -> Float32:
        self.go.wait(10)
        self.batches.append(len(z_BZHW))
        if self.fails:
            raise RuntimeError("broken on purpose, with /a/path in it")
        return np.zeros((len(z_BZHW), 6), np.float32)

    def run_whole(self, x_BCHW: Float32) -> Float32:
        return self.run(x_BCHW, np.zeros(len(x_BCHW), np.int64))


async def test_frames_that_wait_while_the_tail_is_busy_become_one_batch(device: Device, frame_HWC: UInt8) -> None:
    tail = Slow()
    async with EmbeddedPool(Worker(device.bundle, tail), max_batch_s=60.0) as pool:
        first = asyncio.create_task(pool.submit(work(device, frame_HWC, 8, 4)))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(pool.submit(work(device, frame_HWC, w, 2))) for w in (1, 2, 4, 8)]
        await asyncio.sleep(0.05)
        assert pool.queued() == 4
        tail.go.set()
        outcomes = await asyncio.gather(first, *rest)
    assert tail.batches == [1, 4]
    assert all(outcome.error is None for outcome in outcomes)


async def test_work_that_expires_in_the_queue_never_reaches_the_tail(device: Device, frame_HWC: UInt8) -> None:
    tail = Slow()
    async with EmbeddedPool(Worker(device.bundle, tail)) as pool:
        first = asyncio.create_task(pool.submit(work(device, frame_HWC, 8, 4)))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(pool.submit(work(device, frame_HWC, 8, 4, for_s=0.05)))
        await asyncio.sleep(0.1)
        tail.go.set()
        assert (await first).error is None
        error = (await late).error
    assert isinstance(error, DeadlineExceeded)
    assert error.stage == "queue"
    assert tail.batches == [1]


async def test_a_tail_that_fails_names_a_request_and_nothing_of_its_inside(device: Device, frame_HWC: UInt8) -> None:
    tail = Slow()
    tail.fails = True
    tail.go.set()
    async with EmbeddedPool(Worker(device.bundle, tail)) as pool:
        error = (await pool.submit(work(device, frame_HWC, 8, 4))).error
        tail.fails = False
        again = await pool.submit(work(device, frame_HWC, 8, 4))
    assert isinstance(error, RemoteFailure)
    assert error.request_id
    assert "path" not in str(error)
    assert again.error is None


async def test_payloads_that_do_not_decode_teach_nothing_about_how_long_frames_take(
    device: Device, frame_HWC: UInt8
) -> None:
    names: list[str] = []

    class Takes5ms(Slow):
        def run(self, z_BZHW: Float32, place_B: Int64) -> Float32:
            names.append(threading.current_thread().name)
            time.sleep(0.005)
            return super().run(z_BZHW, place_B)

    tail = Takes5ms()
    tail.go.set()
    sound = work(device, frame_HWC, 8, 4)
    async with EmbeddedPool(Worker(device.bundle, tail)) as pool:
        await pool.submit(sound)
        for _ in range(80):
            assert isinstance((await pool.submit(replace(sound, payloads=(b"xx",)))).error, BadFrame)
        assert pool.wait_s()[1] >= 0.005
        await asyncio.gather(*(pool.submit(sound) for _ in range(4)))
    assert all(name.startswith("tail") for name in names)  # never on the event loop


async def test_closing_a_pool_answers_everything_that_waits(device: Device, frame_HWC: UInt8) -> None:
    tail = Slow()
    async with EmbeddedPool(Worker(device.bundle, tail)) as pool:
        tasks = [asyncio.create_task(pool.submit(work(device, frame_HWC, 8, 4))) for _ in range(30)]
        await asyncio.sleep(0.05)
        tail.go.set()
    outcomes = await asyncio.gather(*tasks)
    assert all(one.error is None or isinstance(one.error, ServerDraining) for one in outcomes)
    assert any(isinstance(one.error, ServerDraining) for one in outcomes)


async def test_the_tail_goes_on_with_what_waits_while_the_event_loop_is_busy(device: Device, frame_HWC: UInt8) -> None:
    tail = Slow()
    async with EmbeddedPool(Worker(device.bundle, tail), max_batch=1) as pool:
        tasks = [asyncio.create_task(pool.submit(work(device, frame_HWC, 8, 4))) for _ in range(5)]
        await asyncio.sleep(0.05)
        tail.go.set()
        until = time.monotonic() + 10
        while len(tail.batches) < 5 and time.monotonic() < until:  # the loop runs nothing else meanwhile
            time.sleep(0.001)  # noqa: ASYNC251
        assert tail.batches == [1] * 5
        assert not any(task.done() for task in tasks)
        assert all(outcome.error is None for outcome in await asyncio.gather(*tasks))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has threads of different priority in one process")
async def test_the_tails_thread_gives_way_to_the_event_loops(device: Device, frame_HWC: UInt8) -> None:
    seen: list[int] = []

    class Looks(Slow):
        def run(self, z_BZHW: Float32, place_B: Int64) -> Float32:
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return super().run(z_BZHW, place_B)

    tail = Looks()
    tail.go.set()
    async with EmbeddedPool(Worker(device.bundle, tail)) as pool:
        await pool.submit(work(device, frame_HWC, 8, 4))
    assert seen[0] == min(19, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + GIVES_WAY)
