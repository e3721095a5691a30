"""What no server of ours sends: the link gives it to nobody, says why, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from loopback import hello, serving, to_the_server, until

import splitrt
from splitrt.bundle import Bundle
from splitrt.codec.payload import Codec
from splitrt.config import ClientConfig
from splitrt.device.client import AsyncClient
from splitrt.device.degrade import Degrade
from splitrt.device.grpc_link import GrpcLink
from splitrt.errors import BadFrame, LinkLost, SplitError
from splitrt.policy.backoff import Pace
from splitrt.policy.queue import InFlight
from splitrt.rpc.channel import server_options
from splitrt.rpc.frames import Frame, Limits, tables_prefix
from splitrt.rpc.frames import Reply as ReplyValue
from splitrt.rpc.messages import acks_to_wire, drain_to_wire, reply_to_wire, welcome_to_wire
from splitrt.rpc.v1 import split_pb2 as pb

UInt8 = npt.NDArray[np.uint8]
Talk = Callable[[Any], Awaitable[None]]

LIMITS = Limits(max_payload_bytes=1 << 20, max_deadline_ms=60_000, max_in_flight=64)
WELCOME = welcome_to_wire(LIMITS, 1).SerializeToString()
OUTPUTS = np.array([0, 0, 9, 0, 0, 0], np.float32)


def answer(seq: int) -> bytes:
    return reply_to_wire(ReplyValue(seq=seq, outputs=(OUTPUTS,))).SerializeToString()


class Impostor(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Speaks bytes: on the first connection what it is told to, on later ones as a sound server."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0

    def service(self, handler_call_details: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(self._infer)

    async def _infer(self, _: Any, context: Any) -> None:
        self.connections += 1
        await context.read()
        await (self.talk if self.connections == 1 else soundly)(context)


async def soundly(context: Any) -> None:
    await context.write(WELCOME)
    while (data := await context.read()) is not grpc.aio.EOF:
        await context.write(answer(pb.FromDevice.FromString(data).frame.seq))


@asynccontextmanager
async def impostor(talk: Talk) -> AsyncIterator[tuple[str, Impostor]]:
    server, handler = grpc.aio.server(options=server_options(8 << 20, 8)), Impostor(talk)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", handler
    finally:
        await server.stop(None)


def link_of(client: AsyncClient) -> GrpcLink:
    assert isinstance(client.link, GrpcLink)
    return client.link


async def remote_within(client: AsyncClient, frame_HWC: UInt8, seconds: float = 10) -> None:
    """The link comes back: frames are answered by the server again."""
    async with asyncio.timeout(seconds):
        while (await client.infer(frame_HWC, deadline_ms=500)).source != "remote":
            await asyncio.sleep(0.01)


async def after_the_welcome(context: Any, *data: bytes) -> None:
    await context.write(WELCOME)
    await context.read()
    for one in data:
        await context.write(one)
    await asyncio.Event().wait()


def says(*data: bytes) -> Talk:
    async def talk(context: Any) -> None:
        for one in data:
            await context.write(one)
        await asyncio.Event().wait()

    return talk


def says_to_a_frame(*data: bytes) -> Talk:
    return lambda context: after_the_welcome(context, *data)


def aborts(code: grpc.StatusCode) -> Talk:
    async def talk(context: Any) -> None:
        await context.write(WELCOME)
        await context.read()
        await context.abort(code, "go away")

    return talk


async def ends(context: Any) -> None:
    await context.write(WELCOME)
    await context.read()


TOO_LARGE = pb.FromServer(result=pb.Result(seq=1, outputs=[pb.Tensor(dtype=1, shape=[2**31, 2**31], data=b"1")]))
TALKS: dict[str, tuple[Talk, type[SplitError]]] = {
    "garbage instead of a welcome": (says(b"\xff" * 20), BadFrame),
    "nothing instead of a welcome": (says(b""), BadFrame),
    "a result instead of a welcome": (says(answer(1)), BadFrame),
    "a welcome of another protocol": (
        says(pb.FromServer(welcome=pb.Welcome(protocol=9)).SerializeToString()),
        BadFrame,
    ),
    "garbage instead of a result": (says_to_a_frame(b"\xff" * 20), BadFrame),
    "nothing instead of a result": (says_to_a_frame(b""), BadFrame),
    "an output that lies about its size": (says_to_a_frame(TOO_LARGE.SerializeToString()), BadFrame),
    "the status cancelled": (aborts(grpc.StatusCode.CANCELLED), LinkLost),
    "the status ok": (ends, LinkLost),
    "an internal error": (aborts(grpc.StatusCode.INTERNAL), LinkLost),
    "a refusal of resources": (aborts(grpc.StatusCode.RESOURCE_EXHAUSTED), LinkLost),
}


@pytest.mark.parametrize(("talk", "error"), TALKS.values(), ids=TALKS.keys())
async def test_the_link_survives(frame_HWC: UInt8, talk: Talk, error: type[SplitError]) -> None:
    async with impostor(talk) as (address, server):
        async with splitrt.connect_async(
            address, bundle="photos", connect_timeout_s=0.5, deadline_ms=300, strategy=to_the_server
        ) as client:
            assert (await client.infer(frame_HWC)).source in ("fallback", "remote")
            await remote_within(client, frame_HWC)
            assert server.connections >= 2
            last = link_of(client).last_error
            assert isinstance(last, error), last


async def test_replies_of_no_frame_and_second_replies_are_dropped_and_counted(frame_HWC: UInt8) -> None:
    async def talk(context: Any) -> None:
        await context.write(WELCOME)
        while (data := await context.read()) is not grpc.aio.EOF:
            seq = pb.FromDevice.FromString(data).frame.seq
            wrong = reply_to_wire(ReplyValue(seq=seq, outputs=(OUTPUTS[::-1],))).SerializeToString()
            for one in (answer(seq + 1), answer(seq - 1), answer(seq), wrong):
                await context.write(one)

    async with impostor(talk) as (address, _):
        async with splitrt.connect_async(
            address, bundle="photos", deadline_ms=10_000, strategy=to_the_server
        ) as client:
            for _ in range(3):
                result = await client.infer(frame_HWC)
                assert result.source == "remote"
                assert result.scores is not None
                assert int(result.scores.argmax()) == 2
            await until(lambda: link_of(client).stray_replies == 9)


async def test_a_welcome_that_allows_nothing_leaves_the_device_alone(frame_HWC: UInt8) -> None:
    nothing = Limits(max_payload_bytes=0, max_deadline_ms=0, max_in_flight=0)
    async with impostor(says(welcome_to_wire(nothing, 1).SerializeToString())) as (address, _):
        async with splitrt.connect_async(address, bundle="photos", deadline_ms=100, strategy=to_the_server) as client:
            assert (await client.infer(frame_HWC)).source == "fallback"


async def test_a_drain_notice_loses_no_frame_that_is_on_its_way(photos: Bundle) -> None:
    """The notice comes while the writer is busy: what it began is written whole, and every frame is answered."""

    async def talk(context: Any) -> None:
        await context.write(WELCOME)
        is_first = True
        while (data := await context.read()) is not grpc.aio.EOF:
            if is_first:
                await context.write(drain_to_wire(10_000).SerializeToString())
                is_first = False
            await context.write(answer(pb.FromDevice.FromString(data).frame.seq))

    async with impostor(talk) as (address, server):
        config = ClientConfig(servers=(address,), in_flight_bytes=1 << 20)
        async with GrpcLink(config, lambda epoch: hello(photos)) as link:
            async with asyncio.timeout(10):
                await link.wait_up()
                deadline_at = asyncio.get_running_loop().time() + 20
                sendings = [link.send(frame(photos, seq), deadline_at) for seq in range(1, 61)]
                replies = [await sending.reply for sending in sendings]
    assert [reply.error for reply in replies] == [None] * 60
    assert [reply.seq for reply in replies] == list(range(1, 61))
    assert server.connections <= 2


class Unsure(Degrade):
    """Every frame is sent."""

    def is_final(self, *_: object) -> bool:
        return False


async def test_a_drained_link_moves_on_when_the_deadline_ends_a_frame_that_had_its_last_answer(
    photos: Bundle, frame_HWC: UInt8
) -> None:
    """A frame in chunks is answered with those that came: of such a one nothing more is heard."""
    half_closed = asyncio.Event()

    async def talk(context: Any) -> None:
        await context.write(WELCOME)
        seq = pb.FromDevice.FromString(await context.read()).frame.seq
        for said in (
            acks_to_wire(1),
            reply_to_wire(ReplyValue(seq=seq, outputs=(OUTPUTS,), chunks=1)),
            drain_to_wire(30_000),
        ):
            await context.write(said.SerializeToString())
        while await context.read() is not grpc.aio.EOF:
            pass
        half_closed.set()

    async with (
        impostor(talk) as (address, server),
        splitrt.connect_async(address, bundle="photos", strategy=Unsure, degrade=True, deadline_ms=300) as client,
    ):
        assert (await client.infer(frame_HWC)).source == "remote"
        async with asyncio.timeout(5):
            await half_closed.wait()
            await until(lambda: server.connections == 2)
        assert client.link.is_up or link_of(client).last_error is None


async def test_the_pace_is_asked_with_what_was_on_its_way_before_the_loss_is_told(photos: Bundle) -> None:
    async def talk(context: Any) -> None:
        await context.write(WELCOME)
        await context.read()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    told: list[object] = []

    def pace(in_flight: InFlight) -> Pace:
        told.append(len(in_flight.frames))
        return Pace(outage=0.9)

    async with impostor(talk) as (address, _):
        config = ClientConfig(servers=(address,))
        async with GrpcLink(config, lambda epoch: hello(photos), told.append, pace=pace) as link:
            async with asyncio.timeout(10):
                await link.wait_up()
                sending = link.send(frame(photos, 1), asyncio.get_running_loop().time() + 20)
                with contextlib.suppress(SplitError):
                    await sending.reply
    assert told[:2] == [1, "link_lost"]


def frame(bundle: Bundle, seq: int) -> Frame:
    return Frame(
        seq=seq,
        width=8,
        bits=4,
        codec=Codec.PACKED,
        deadline_ms=0,
        tables=tables_prefix(bundle.tables.digest()),
        payloads=(bytes(1024),),
    )


async def test_a_servers_shorter_longest_deadline_is_kept_to(frame_HWC: UInt8) -> None:
    async with serving(max_deadline_ms=700) as server:
        async with splitrt.connect_async(
            server.address, bundle="photos", deadline_ms=10_000, strategy=to_the_server
        ) as client:
            assert (await client.infer(frame_HWC)).source == "remote"


async def test_a_servers_smaller_payload_cap_is_kept_to(frame_HWC: UInt8, photos: Bundle) -> None:
    from splitrt.device.strategy import Photographs

    async with serving(max_payload_bytes=1024) as server:
        noise_HWC = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        async with splitrt.connect_async(
            server.address, bundle="photos", deadline_ms=10_000, strategy=lambda _: Photographs(95)
        ) as client:
            result = await client.infer(noise_HWC)
            assert result.source == "fallback"
            assert server.metrics.registry.get_sample_value("splitrt_streams_open") == 1
            assert result.link_bytes == 0
