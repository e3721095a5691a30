"""Links that break and servers that die under a stream of frames.

The promise: every submitted frame ends exactly once, with a result or a typed error, no later than its
deadline plus 50 ms; and once the fault is over, the server answers again.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest
from loopback import ServerProcess, frame_messages, raw_stream, server_process, serving, to_the_server, until

import splitrt
from splitrt.bundle import Bundle
from splitrt.config import ServerConfig
from splitrt.device.client import AsyncClient
from splitrt.device.result import Result
from splitrt.errors import ClientClosed, InvalidInput, ServerDraining, SplitError
from splitrt.netem import Netem
from splitrt.rpc import status
from splitrt.server.serve import serve

UInt8 = npt.NDArray[np.uint8]
DEADLINE_MS = 200.0
SLACK_MS = 50 + 250  # the promise, and what a busy machine may add
FRAME_S = 0.05


@dataclass(slots=True)
class Sent:
    """A frame of the pump, and its ends: there must be one."""

    future: asyncio.Future[Result]
    ends_ms: list[float] = field(default_factory=list)

    @property
    def source(self) -> str:
        if not self.future.done():
            return "nothing"
        error = self.future.exception()
        return type(error).__name__ if error else self.future.result().source


class Pump:
    """Twenty frames a second for as long as the block runs; at its end, the promise is checked."""

    def __init__(self, client: AsyncClient, frame_HWC: UInt8) -> None:
        self.client, self.frame_HWC = client, frame_HWC
        self.sent: list[Sent] = []

    async def __aenter__(self) -> Self:
        self._pumping = asyncio.create_task(self._pump())
        await self.remote_again()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pumping.cancel()
        await asyncio.gather(self._pumping, return_exceptions=True)
        await asyncio.wait([sent.future for sent in self.sent], timeout=5)
        if kind is None:
            self.check()

    async def remote_again(self, within_s: float = 15.0) -> None:
        """A frame submitted from now on is answered by the server."""
        first = len(self.sent)
        await until(lambda: any(sent.source == "remote" for sent in self.sent[first:]), within_s)

    async def alone(self, frames: int = 4) -> None:
        """So many frames, submitted from now on, are answered by the device."""
        first = len(self.sent)
        await until(lambda: sum(sent.source == "fallback" for sent in self.sent[first:]) >= frames)

    def check(self) -> None:
        assert {sent.source for sent in self.sent} <= {"remote", "fallback", "skipped"}, self.counts()
        assert all(len(sent.ends_ms) == 1 for sent in self.sent), self.counts()
        assert max(sent.ends_ms[0] for sent in self.sent) <= DEADLINE_MS + SLACK_MS
        numbers = [sent.future.result().seq for sent in self.sent]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    def counts(self) -> Counter[str]:
        return Counter(sent.source for sent in self.sent)

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            sent = Sent(self.client.submit(self.frame_HWC))

            def ended(_: object, sent: Sent = sent, started: float = started) -> None:
                sent.ends_ms.append((loop.time() - started) * 1e3)

            sent.future.add_done_callback(ended)
            self.sent.append(sent)
            await asyncio.sleep(FRAME_S)


@asynccontextmanager
async def connected(*addresses: str, **settings: Any) -> AsyncIterator[AsyncClient]:
    async with splitrt.connect_async(
        addresses, bundle="photos", deadline_ms=DEADLINE_MS, strategy=to_the_server, **settings
    ) as client:
        yield client


def is_noticed(client: AsyncClient) -> Callable[[], bool]:
    return lambda: not client.link.is_up


# ── the link ────────────────────────────────────────────────────────────────────────────────────────


async def cut(link: Netem, pump: Pump) -> None:
    link.cut()
    await pump.alone()
    link.resume()


async def reset(link: Netem, pump: Pump) -> None:
    link.reset()
    await until(lambda: link.connections >= 2)


async def stall(link: Netem, pump: Pump) -> None:
    link.stall()
    await asyncio.sleep(1.0)
    link.resume()


async def half_open(link: Netem, pump: Pump) -> None:
    """A peer without power: only our own pings tell."""
    link.half_open()
    await until(is_noticed(pump.client), 6.0)
    await pump.alone()
    link.resume()


@pytest.mark.parametrize("fault", [cut, reset, stall, half_open], ids=lambda fault: str(fault.__name__))
async def test_a_broken_link_costs_no_frame_its_end_and_heals(
    frame_HWC: UInt8, fault: Callable[[Netem, Pump], Awaitable[None]]
) -> None:
    async with serving() as server, Netem(to=server.address) as link, connected(link.address) as client:
        async with Pump(client, frame_HWC) as pump:
            await fault(link, pump)
            await pump.remote_again()


async def test_a_link_cut_again_and_again_heals_each_time(frame_HWC: UInt8) -> None:
    async with serving() as server, Netem(to=server.address) as link, connected(link.address) as client:
        async with Pump(client, frame_HWC) as pump:
            for _ in range(5):
                link.reset()
                await pump.remote_again()


# ── the server ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_killed_server_is_missed_and_its_successor_on_the_same_port_found(frame_HWC: UInt8) -> None:
    with server_process() as first:
        async with connected(first.address) as client, Pump(client, frame_HWC) as pump:
            first.kill()
            await until(is_noticed(client), 1.0)
            await pump.alone()
            second = await asyncio.to_thread(ServerProcess, listen=first.address)
            try:
                await pump.remote_again()
            finally:
                second.close()


async def test_a_stopped_server_is_missed_and_found_again_when_it_runs_on(frame_HWC: UInt8) -> None:
    with server_process() as server:
        async with connected(server.address) as client, Pump(client, frame_HWC) as pump:
            server.send(signal.SIGSTOP)
            await until(is_noticed(client), 6.0)
            await pump.alone()
            server.send(signal.SIGCONT)
            await pump.remote_again()


async def test_a_server_stopped_for_a_moment_keeps_its_connection(frame_HWC: UInt8) -> None:
    with server_process() as server:
        async with connected(server.address) as client, Pump(client, frame_HWC) as pump:
            server.send(signal.SIGSTOP)
            await pump.alone(2)
            server.send(signal.SIGCONT)
            await pump.remote_again()


async def test_with_two_servers_the_other_takes_over(frame_HWC: UInt8) -> None:
    with server_process() as first:
        async with serving() as second, connected(first.address, second.address) as client:
            async with Pump(client, frame_HWC) as pump:
                first.kill()
                await pump.remote_again()


async def test_a_draining_server_answers_what_it_admitted_and_hands_over(frame_HWC: UInt8) -> None:
    async with serving() as second:
        async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=5.0)) as first:
            async with connected(first.address, second.address) as client, Pump(client, frame_HWC) as pump:
                first.gateway.drain()
                await pump.remote_again()
                answered = second.metrics.registry.get_sample_value
                await until(
                    lambda: bool(
                        answered("splitrt_frames_total", {"bundle": "photos", "version": "3", "outcome": "ok"})
                    )
                )


async def test_a_drain_with_frames_in_flight_loses_none(photos: Bundle) -> None:
    frames = range(1, 33)
    async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=10.0)) as server:
        async with raw_stream(server.address, photos) as stream:
            for seq in frames:
                await stream.say(*frame_messages(photos, seq))
            await until(lambda: next(iter(server.gateway.catalogue.served.values())).pool.queued() > 0)
            server.gateway.drain()
            heard = [await stream.hear() for _ in range(len(frames) + 1)]
            assert [message.WhichOneof("body") for message in heard].count("drain") == 1
            results = [message.result for message in heard if message.WhichOneof("body") == "result"]
            assert sorted(result.seq for result in results) == list(frames)
            refused = [result for result in results if result.HasField("error")]
            assert all(isinstance(status.from_wire(result.error), ServerDraining) for result in refused)
            assert len(refused) < len(frames)
            await stream.say(*frame_messages(photos, 99))
            assert isinstance(await stream.error(99), ServerDraining)
            with pytest.raises(ServerDraining):
                async with raw_stream(server.address, photos):
                    pass


async def test_a_server_that_is_not_there_yet_is_found_when_it_comes(frame_HWC: UInt8) -> None:
    async with serving() as gone:
        address = gone.address
    async with connected(address, connect_timeout_s=0.1) as client:
        assert (await client.infer(frame_HWC)).source == "fallback"
        async with serving(listen=address):
            async with Pump(client, frame_HWC):
                pass


# ── closing, threads ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_sent", [False, True])
async def test_closing_with_a_hundred_frames_under_way_ends_every_one(frame_HWC: UInt8, is_sent: bool) -> None:
    async with serving() as server, Netem(to=server.address) as link:
        async with connected(link.address, max_waiting=200) as client:
            assert (await client.infer(frame_HWC, deadline_ms=10_000)).source == "remote"
            link.stall()  # nothing more will be answered
            futures = [client.submit(frame_HWC, deadline_ms=30_000) for _ in range(100)]
            if is_sent:
                now = asyncio.get_running_loop().time
                await until(lambda: client.link.in_flight(now()).bytes > 100 * 40)
        ends = await asyncio.gather(*futures, return_exceptions=True)
    assert {type(end) for end in ends} == {ClientClosed}


def test_one_client_serves_several_threads(frame_HWC: UInt8) -> None:
    with server_process() as server:
        with splitrt.connect(
            server.address, bundle="photos", deadline_ms=20_000, max_waiting=100, strategy=to_the_server
        ) as client:
            with ThreadPoolExecutor(4) as threads:
                results = list(threads.map(lambda _: client.infer(frame_HWC), range(40)))
    assert {result.source for result in results} == {"remote"}
    assert sorted(result.seq for result in results) == list(range(1, 41))


@pytest.mark.parametrize("seed", range(6))
def test_closing_under_threads_that_submit_leaves_nobody_waiting(frame_HWC: UInt8, seed: int) -> None:
    """No server at all: the device answers. What counts is that every future ends."""
    client = splitrt.connect("127.0.0.1:1", bundle="photos", connect_timeout_s=0.01, max_waiting=100)
    futures: list[Future[Result]] = []
    begun, refused = threading.Barrier(4), [threading.Event() for _ in range(3)]

    def submit(is_refused: threading.Event) -> None:
        begun.wait(10)
        while True:
            try:
                futures.append(client.submit(frame_HWC, deadline_ms=30_000))
            except ClientClosed:
                is_refused.set()
                return

    threads = [threading.Thread(target=submit, args=(event,)) for event in refused]
    for thread in threads:
        thread.start()
    begun.wait(10)
    threading.Event().wait(0.01 * seed)
    client.close()
    client.close()
    for event in refused:
        assert event.wait(10)
    for future in futures:
        error = future.exception(timeout=10)
        assert error is None or isinstance(error, ClientClosed)


def test_closing_ends_a_stream_that_waits_for_its_source(frame_HWC: UInt8) -> None:
    asked, released = threading.Semaphore(0), threading.Event()

    def camera() -> Iterator[UInt8]:
        yield frame_HWC
        asked.release()
        released.wait(10)  # a camera that hangs

    client = splitrt.connect("127.0.0.1:1", bundle="photos", connect_timeout_s=0.01)
    ended: Future[int] = Future()

    def read() -> None:
        count = 0
        try:
            for _ in client.stream(camera()):
                count += 1
        except SplitError as error:
            ended.set_exception(error)
        else:
            ended.set_result(count)

    reader = threading.Thread(target=read)
    reader.start()
    assert asked.acquire(timeout=10)
    client.close()
    try:
        with pytest.raises(ClientClosed):
            ended.result(timeout=10)
    finally:
        released.set()
        reader.join()


def test_a_source_that_raises_is_the_callers_error_and_the_client_lives(frame_HWC: UInt8) -> None:
    def camera() -> Iterator[UInt8]:
        yield frame_HWC
        raise OSError("the camera fell off")

    with splitrt.connect("127.0.0.1:1", bundle="photos", connect_timeout_s=0.01, deadline_ms=10_000) as client:
        results = client.stream(camera())
        assert next(results).source in ("exit", "fallback")
        with pytest.raises(OSError, match="fell off"):
            next(results)
        assert client.infer(frame_HWC).source in ("exit", "fallback")


# ── frames that are none ────────────────────────────────────────────────────────────────────────────


def tensor(*shape: int, value: float = 0.5, **settings: Any) -> Callable[[], Any]:
    def make() -> Any:
        torch = pytest.importorskip("torch", reason="needs the torch extra")
        return torch.full(shape, value, **settings)

    return make


NONE_FRAMES: dict[str, Callable[[], Any]] = {
    "shape": lambda: np.zeros((8, 8), np.uint8),
    "channels": lambda: np.zeros((8, 8, 4), np.uint8),
    "empty": lambda: np.zeros((0, 8, 3), np.uint8),
    "float": lambda: np.zeros((8, 8, 3), np.float32),
    "big-endian": lambda: np.zeros((8, 8, 3), ">u2"),
    "object": lambda: np.full((8, 8, 3), None),
    "not an array": lambda: "photo.jpg",
    "NaN tensor": tensor(3, 8, 8, value=float("nan")),
    "grad tensor": tensor(3, 8, 8, requires_grad=True),
    "channels last tensor": tensor(8, 8, 3),
}


@pytest.mark.parametrize("make", NONE_FRAMES.values(), ids=NONE_FRAMES.keys())
async def test_a_frame_that_is_none_is_refused_before_anything_is_sent(
    frame_HWC: UInt8, make: Callable[[], Any]
) -> None:
    thing = make()  # before there is a link: to import torch stops the loop, and the proxy with it, for seconds
    async with serving() as server, Netem(to=server.address) as link, connected(link.address) as client:
        before = link.up_bytes
        with pytest.raises(InvalidInput):
            await client.infer(thing)
        with pytest.raises(InvalidInput):
            await anext(client.stream([thing]))
        assert link.up_bytes - before < 200  # pings of the connection, no frame
        assert (await client.infer(frame_HWC, deadline_ms=10_000)).source == "remote"
        assert (await client.infer(np.asfortranarray(frame_HWC), deadline_ms=10_000)).source == "remote"
