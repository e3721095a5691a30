"""Replicas behind ports of their own and the pool a gateway makes of them, without any cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from pydantic import SecretStr

from splitrt.bundle import Bundle
from splitrt.codec import delta
from splitrt.codec import payload as codec_payload
from splitrt.config import ServerConfig
from splitrt.errors import DeadlineExceeded, Overloaded, RemoteFailure, SplitError
from splitrt.rpc import tails
from splitrt.rpc.tails import Done
from splitrt.rpc.v1 import split_pb2
from splitrt.rpc.v1 import tails_pb2 as pb
from splitrt.server.auth import bearer
from splitrt.server.fleet import Fleet
from splitrt.server.loading import load_worker
from splitrt.server.replica import RunningReplica, serve_replica
from splitrt.server.work import Work

CREDENTIAL = SecretStr("of-the-gateway")
CAP = 4 << 20


@asynccontextmanager
async def replicas(count: int, **settings: Any) -> AsyncIterator[list[tuple[RunningReplica, AsyncExitStack]]]:
    """So many of the shipped bundle, each to be ended by its own stack."""
    config = ServerConfig(drain_grace_s=2.0, **settings)
    async with AsyncExitStack() as all_of_them:
        given = []
        for _ in range(count):
            stack = await all_of_them.enter_async_context(AsyncExitStack())
            given.append((await stack.enter_async_context(serve_replica("photos", config, CREDENTIAL)), stack))
        yield given


@asynccontextmanager
async def fleet_of(*addresses: str, credential: SecretStr = CREDENTIAL) -> AsyncIterator[Fleet]:
    async with Fleet(credential, CAP) as fleet:
        fleet.update(addresses)
        await fleet.connected()
        yield fleet


def work(bundle: Bundle, seed: int = 0, deadline_s: float = 20.0, **changes: Any) -> Work:
    seam = bundle.manifest.seam
    symbols_ZHW = np.random.default_rng(seed).integers(0, 16, (8, seam.height, seam.width), dtype=np.uint8)
    codec, payload = codec_payload.encode(symbols_ZHW, 4)
    now = time.monotonic()
    fields: dict[str, Any] = {
        "principal": "one", "width": 8, "bits": 4, "codec": codec, "payloads": (payload,), "arrived_at": now,
        "deadline_at": now + deadline_s,
    }  # fmt: skip
    return Work(**(fields | changes))


async def until(claim: Any, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not claim():
            await asyncio.sleep(0.005)


async def test_a_fleet_answers_what_the_worker_answers(photos: Bundle) -> None:
    worker = load_worker(photos, ServerConfig())
    async with replicas(2) as running, fleet_of(*(one.address for one, _ in running)) as fleet:
        assert running[0][0].digest == photos.digest
        works = [work(photos, seed) for seed in range(6)]
        for one, outcome in zip(works, await asyncio.gather(*map(fleet.submit, works)), strict=True):
            assert outcome.error is None
            np.testing.assert_allclose(outcome.outputs[0], worker.run([one])[0].outputs[0], atol=1e-5)


async def test_symbols_come_back_where_they_are_to_be_kept_and_go_out_as_a_reference(photos: Bundle) -> None:
    async with replicas(1) as running, fleet_of(running[0][0].address) as fleet:
        first = await fleet.submit(work(photos, keep=True))
        assert first.symbols_ZHW is not None
        moved_ZHW = (first.symbols_ZHW + 1) % 16
        found = delta.encode(moved_ZHW, first.symbols_ZHW, 4)
        second_work = work(
            photos, codec=codec_payload.Codec.DELTA, payloads=(found,), reference_ZHW=first.symbols_ZHW, keep=True
        )
        second = await fleet.submit(second_work)
        assert second.symbols_ZHW is not None
        assert (second.symbols_ZHW == moved_ZHW).all()


async def test_frames_of_a_replica_that_dies_are_answered_once_by_another(photos: Bundle) -> None:
    async with replicas(2) as running, fleet_of(*(one.address for one, _ in running)) as fleet:
        await fleet.submit(work(photos))
        asked = [asyncio.create_task(fleet.submit(work(photos, seed))) for seed in range(40)]
        await asyncio.sleep(0)
        for upstream in list(fleet._upstreams.values())[:1]:
            upstream._call.cancel()  # as a connection that breaks
        outcomes = await asyncio.gather(*asked)
        assert [one.error for one in outcomes] == [None] * 40
        assert fleet.ready == 1


async def test_a_frame_is_asked_of_two_replicas_at_most(photos: Bundle) -> None:
    async with replicas(1) as running, fleet_of(running[0][0].address) as fleet:
        asked = asyncio.create_task(fleet.submit(work(photos)))
        await asyncio.sleep(0)
        assert fleet.queued() == 1
        next(iter(fleet._upstreams.values()))._call.cancel()
        assert isinstance((await asked).error, RemoteFailure)
        assert isinstance((await fleet.submit(work(photos))).error, Overloaded)  # at once: nobody is there


async def test_without_a_replica_frames_are_refused_at_once_with_a_time_to_come_back(photos: Bundle) -> None:
    async with fleet_of() as fleet:
        error = (await fleet.submit(work(photos))).error
        assert isinstance(error, Overloaded)
        assert error.retry_after_ms > 0


async def test_a_replica_that_leaves_answers_what_it_has_and_gets_nothing_more(photos: Bundle) -> None:
    async with replicas(2) as running, fleet_of(*(one.address for one, _ in running)) as fleet:
        asked = [asyncio.create_task(fleet.submit(work(photos, seed))) for seed in range(40)]
        await asyncio.sleep(0)
        started = time.monotonic()
        await running[0][1].aclose()
        assert time.monotonic() - started < 2.0, "it ends when it has answered, not when its grace is over"
        assert all(one.error is None for one in await asyncio.gather(*asked))
        await until(lambda: fleet.ready == 1)
        assert (await fleet.submit(work(photos))).error is None


async def test_a_replica_that_comes_back_at_its_address_is_connected_to_again(photos: Bundle) -> None:
    async with replicas(1) as running, fleet_of(running[0][0].address) as fleet:
        next(iter(fleet._upstreams.values()))._call.cancel()
        await until(lambda: fleet.ready == 0)
        fleet.update([running[0][0].address])  # the broken one goes, the next time it is told of it comes
        fleet.update([running[0][0].address])
        await until(lambda: fleet.ready == 1)
        assert (await fleet.submit(work(photos))).error is None


async def test_frames_go_where_least_waits(photos: Bundle) -> None:
    async with replicas(2) as running, fleet_of(*(one.address for one, _ in running)) as fleet:
        asked = [asyncio.create_task(fleet.submit(work(photos, seed))) for seed in range(20)]
        await asyncio.sleep(0)
        assert [one.in_flight for one in fleet._upstreams.values()] == [10, 10]
        await asyncio.gather(*asked)


async def test_a_frame_for_which_a_replica_has_no_time_is_refused_without_going_there(photos: Bundle) -> None:
    async with replicas(1) as running, fleet_of(running[0][0].address) as fleet:
        upstream = next(iter(fleet._upstreams.values()))
        before = asyncio.create_task(fleet.submit(work(photos)))
        await asyncio.sleep(0)
        upstream._hear(Done(id=0, wait_s=5.0, frame_s=1.0))
        error = (await fleet.submit(work(photos, deadline_s=4.0))).error
        assert isinstance(error, Overloaded)
        assert error.reason == "time"
        assert 4_000 <= error.retry_after_ms <= 5_000
        assert upstream.in_flight == 1
        later = asyncio.create_task(fleet.submit(work(photos, deadline_s=6.0)))
        await asyncio.sleep(0)
        assert isinstance((await fleet.submit(work(photos, deadline_s=5.5))).error, Overloaded)  # one more is ahead
        assert [(await one).error for one in (before, later)] == [None, None]
        upstream._hear(Done(id=0, wait_s=5.0, frame_s=1.0))
        assert (await fleet.submit(work(photos, deadline_s=4.0))).error is None, "only work brings it another word"


async def test_a_replica_tells_how_long_a_frame_would_wait(photos: Bundle) -> None:
    async with replicas(1, max_batch=1) as running, fleet_of(running[0][0].address) as fleet:
        upstream = next(iter(fleet._upstreams.values()))
        await fleet.submit(work(photos))
        asked = [asyncio.create_task(fleet.submit(work(photos, seed))) for seed in range(20)]
        await asyncio.sleep(0)
        waits_s = [upstream.wait_s()]
        await asked[0]
        waits_s.append(upstream.wait_s())
        await asyncio.gather(*asked)
        assert all(one > 0 for one in waits_s)
        assert upstream.wait_s() == 0


async def test_a_deadline_that_has_passed_costs_no_replica_anything(photos: Bundle) -> None:
    async with replicas(1) as running, fleet_of(running[0][0].address) as fleet:
        outcome = await fleet.submit(work(photos, deadline_s=-1.0))
        assert isinstance(outcome.error, DeadlineExceeded)
        assert outcome.tail_s == 0.0


async def test_a_port_of_a_replica_demands_the_gateways_credential(photos: Bundle) -> None:
    async with replicas(1) as running:
        async with fleet_of(running[0][0].address, credential=SecretStr("guessed")) as fleet:
            await asyncio.sleep(0)
            await until(lambda: not fleet.ready)
            assert isinstance((await fleet.submit(work(photos))).error, Overloaded | RemoteFailure)


@pytest.mark.parametrize(
    "wire",
    [
        pb.Task(id=7, codec=99),  # type: ignore[arg-type]
        pb.Task(id=7, codec=split_pb2.CODEC_PACKED, width=8, bits=4, payloads=[b"short"], left_us=10**7),
        pb.Task(
            id=7, codec=split_pb2.CODEC_DELTA, reference=split_pb2.Tensor(dtype=5, shape=[1 << 31], data=b""), bits=4
        ),
    ],
    ids=["codec", "payload", "reference"],
)
async def test_a_bad_task_fails_alone(photos: Bundle, wire: pb.Task) -> None:
    async with replicas(1) as running, grpc.aio.insecure_channel(running[0][0].address) as channel:
        call = tails.open_stub(channel).Run(metadata=bearer(CREDENTIAL))
        await call.write(wire)
        done = tails.from_tails(await call.read())
        assert isinstance(done, tails.Done)
        assert done.id == 7
        assert isinstance(done.error, SplitError)
        await call.write(tails.task_to_wire(_task(8, photos)))
        sound = tails.from_tails(await call.read())
        assert isinstance(sound, tails.Done)
        assert sound.error is None
        call.cancel()


def _task(number: int, photos: Bundle) -> tails.Task:
    one = work(photos)
    return tails.Task(id=number, principal="one", width=8, bits=4, codec=one.codec, payloads=one.payloads, left_s=20.0)


async def test_a_device_that_leaves_while_its_frame_is_written_ends_nobody_elses(photos: Bundle) -> None:
    async with replicas(1) as running, fleet_of(running[0][0].address) as fleet:
        await fleet.submit(work(photos))
        [upstream] = fleet._upstreams.values()
        large = work(photos, payloads=(bytes(3 << 20),))  # more than the replica's window: its write takes a while
        leaving = [asyncio.create_task(fleet.submit(large)) for _ in range(4)]
        staying = asyncio.create_task(fleet.submit(work(photos)))
        for _ in range(3):
            await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        assert (await staying).error is None
        assert list(fleet._upstreams.values()) == [upstream]
        assert upstream.is_ready


async def test_a_stream_that_ends_under_a_replica_that_lives_is_opened_again(
    photos: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitrt.server.fleet.RECONNECT_S", 0.01)
    async with replicas(1) as running, fleet_of(running[0][0].address) as fleet:
        [first] = fleet._upstreams.values()
        first._call.cancel()
        await until(lambda: not first.is_ready)
        await until(lambda: fleet.ready == 1)
        assert (await fleet.submit(work(photos))).error is None


def test_metrics_look_at_a_fleet_from_their_thread_while_replicas_come() -> None:
    fleet = Fleet(CREDENTIAL, CAP)
    known: dict[str, Any] = fleet._upstreams

    class Upstream:
        """Another comes in the very moment that this one is looked at."""

        @property
        def in_flight(self) -> int:
            known[f"replica {len(known)}"] = Upstream()
            return 1

        is_ready = in_flight

    known["first"] = Upstream()
    assert fleet.queued() == 1
    assert fleet.ready == 2
