"""Frames as differences to answered ones, over a real stream: smaller, exact, and never to what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from loopback import altered, frame_messages, hello, raw_stream, serving, symbols, until

import splitrt
from splitrt.bundle import Bundle
from splitrt.codec import delta
from splitrt.codec.payload import Codec
from splitrt.config import ClientConfig
from splitrt.device.client import AsyncClient
from splitrt.device.grpc_link import GrpcLink
from splitrt.device.head import OnnxHead
from splitrt.device.local import BottleneckDevice
from splitrt.device.result import Result
from splitrt.device.strategy import Fixed, Strategy
from splitrt.errors import BadFrame, IntegrityError, ReferenceGone
from splitrt.netem import Netem
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.v1 import split_pb2 as pb
from splitrt.server.serve import RunningServer
from splitrt.server.session import REFERENCES

pytestmark = [pytest.mark.torch, pytest.mark.slow]  # the bundle is made with torch

UInt8 = npt.NDArray[np.uint8]
WIDTH, BITS = 4, 8
DEADLINE_MS = 20_000.0


def at_the_widest(bundle: Bundle) -> Strategy:
    return Fixed(WIDTH, BITS)


@asynccontextmanager
async def connected(address: str, made: Bundle, **settings: Any) -> AsyncIterator[AsyncClient]:
    settings = {"deltas": True, "deadline_ms": DEADLINE_MS} | settings
    async with splitrt.connect_async(address, bundle=str(made.folder), strategy=at_the_widest, **settings) as client:
        yield client


@asynccontextmanager
async def serving_made(made: Bundle, **settings: Any) -> AsyncIterator[RunningServer]:
    async with serving(bundles=(str(made.folder),), **settings) as server:
        yield server


def counted(server: RunningServer, codec: str) -> float:
    """Frames that came so coded."""
    return server.metrics.registry.get_sample_value("splitrt_frame_bytes_count", {"codec": codec}) or 0.0


def ended(server: RunningServer, outcome: str) -> float:
    labels = {"bundle": "made", "version": "1", "outcome": outcome}
    return server.metrics.registry.get_sample_value("splitrt_frames_total", labels) or 0.0


def scores(result: Result) -> npt.NDArray[np.float32]:
    assert result.source == "remote", result
    assert result.scores is not None
    return result.scores


def moved(frame_HWC: UInt8) -> UInt8:
    """A small bright thing has appeared."""
    other_HWC = frame_HWC.copy()
    other_HWC[60:70, 60:70] = 255
    return other_HWC


# ── client and server ───────────────────────────────────────────────────────────────────────────────


async def test_a_still_scene_is_sent_as_small_differences_with_the_same_answer(made: Bundle, frame_HWC: UInt8) -> None:
    async with serving_made(made) as server, connected(server.address, made) as client:
        key, *rest = [await client.infer(frame_HWC) for _ in range(4)]
        await until(lambda: counted(server, "delta") == 3)
    for result in rest:
        assert result.payload_bytes < key.payload_bytes / 4
        np.testing.assert_array_equal(scores(result), scores(key))


async def test_a_changing_scene_is_answered_as_if_every_frame_came_whole(made: Bundle, frame_HWC: UInt8) -> None:
    frames = [frame_HWC, moved(frame_HWC), frame_HWC, np.roll(moved(frame_HWC), 2, axis=1)]
    async with serving_made(made) as server:
        async with connected(server.address, made) as client:
            given = [await client.infer(frame) for frame in frames]
            await until(lambda: ended(server, "ok") == len(frames))
            assert counted(server, "delta") > 0
        async with connected(server.address, made, deltas=False) as client:
            before = counted(server, "delta")
            wanted = [await client.infer(frame) for frame in frames]
            await until(lambda: ended(server, "ok") == 2 * len(frames))
            assert counted(server, "delta") == before
    for one, other in zip(given, wanted, strict=True):
        np.testing.assert_array_equal(scores(one), scores(other))
        assert one.payload_bytes <= other.payload_bytes


async def test_after_a_lost_connection_the_next_frame_is_sent_whole(made: Bundle, frame_HWC: UInt8) -> None:
    async with serving_made(made) as server, Netem(to=server.address) as link:
        async with connected(link.address, made) as client:
            key, difference = await client.infer(frame_HWC), await client.infer(frame_HWC)
            await until(lambda: counted(server, "delta") == 1)
            connections = link.connections
            link.reset()
            await until(lambda: link.connections > connections and client.link.is_up)
            again = await client.infer(frame_HWC)
            after = await client.infer(frame_HWC)
            await until(lambda: ended(server, "ok") == 4)
            assert counted(server, "delta") == 2
    assert ended(server, "reference_gone") == 0
    assert again.payload_bytes == key.payload_bytes
    assert after.payload_bytes == difference.payload_bytes
    np.testing.assert_array_equal(scores(again), scores(key))


async def test_a_reference_that_the_server_does_not_hold_costs_one_more_try(made: Bundle, frame_HWC: UInt8) -> None:
    """Its hello did not ask for differences, so nothing is kept; the client sends them all the same."""
    config = ClientConfig(bundle="made", deltas=True, deadline_ms=DEADLINE_MS)
    device, estimate = BottleneckDevice(made, OnnxHead(made)), LinkEstimate()
    async with serving_made(made) as server:
        config = config.model_copy(update={"servers": (server.address,)})
        async with GrpcLink(config, lambda epoch: hello(made, session_epoch=epoch)) as link:
            await asyncio.wait_for(link.wait_up(), 10)
            client = AsyncClient(device, link, estimate, config=config, strategy=at_the_widest(made))
            key, again = await client.infer(frame_HWC), await client.infer(frame_HWC)
            await client.aclose()
        await until(lambda: ended(server, "ok") == 2)
        assert ended(server, "reference_gone") == 1
    np.testing.assert_array_equal(scores(again), scores(key))
    assert again.payload_bytes == key.payload_bytes


# ── the server alone ────────────────────────────────────────────────────────────────────────────────


def key_frame(made: Bundle, seq: int, width: int = WIDTH) -> list[pb.FromDevice]:
    return frame_messages(made, seq, width=width, bits=BITS)


def delta_frame(made: Bundle, seq: int, back: int, width: int = WIDTH) -> pb.FromDevice:
    """The symbols of a key frame, as the difference to those of a key frame: nothing."""
    x_CHW = symbols(made, width, BITS)
    payloads = (delta.encode(x_CHW, x_CHW, BITS),)
    kind = {"width": width, "bits": BITS, "codec": Codec.DELTA}
    (message,) = frame_messages(made, seq, payloads=payloads, back=back, **kind)  # type: ignore[arg-type]
    return message


async def test_a_difference_may_be_to_a_difference_and_to_a_frame_in_chunks(made: Bundle) -> None:
    async with serving_made(made) as server, raw_stream(server.address, made, greeted=False) as stream:
        await stream.greet(deltas=True)
        outputs = []
        chunked = frame_messages(made, 1, width=WIDTH, bits=BITS, chunked=True)
        for sent in (chunked, [delta_frame(made, 2, 1)], [delta_frame(made, 3, 1)], key_frame(made, 4)):
            await stream.say(*sent)
            result = await stream.result()
            assert not result.HasField("error"), result.error
            outputs.append(result.outputs[0].data)
        assert len(set(outputs)) == 1


async def test_a_flipped_bit_of_how_far_back_is_caught_by_the_checksum(made: Bundle) -> None:
    async with serving_made(made) as server, raw_stream(server.address, made, greeted=False) as stream:
        await stream.greet(deltas=True)
        for seq in range(1, 5):
            await stream.say(*key_frame(made, seq))
            assert not (await stream.result()).HasField("error")
        message = delta_frame(made, 5, 1)
        for back in (2, 3, 4):
            await stream.say(altered(message, back=back, crc32c=message.frame.crc32c))
            assert isinstance(await stream.error(5), IntegrityError)
        for back in (0, 257):
            await stream.say(altered(message, back=back, crc32c=message.frame.crc32c))
            assert isinstance(await stream.error(5), BadFrame)
        await stream.say(message)
        assert not (await stream.result()).HasField("error")


async def test_only_the_last_few_answered_frames_are_kept(made: Bundle) -> None:
    async with serving_made(made) as server, raw_stream(server.address, made, greeted=False) as stream:
        await stream.greet(deltas=True)
        for seq in range(1, REFERENCES + 2):
            await stream.say(*key_frame(made, seq))
            assert not (await stream.result()).HasField("error")
        next_seq = REFERENCES + 2
        await stream.say(delta_frame(made, next_seq, REFERENCES + 1))
        error = await stream.error(next_seq)
        assert isinstance(error, ReferenceGone)
        assert "frame 1 is not kept" in str(error)
        await stream.say(delta_frame(made, next_seq, REFERENCES))
        assert not (await stream.result()).HasField("error")


async def test_a_frame_of_another_width_or_that_failed_is_no_reference(made: Bundle) -> None:
    async with serving_made(made) as server, raw_stream(server.address, made, greeted=False) as stream:
        await stream.greet(deltas=True)
        await stream.say(*key_frame(made, 1, width=2))
        assert not (await stream.result()).HasField("error")
        await stream.say(delta_frame(made, 2, 1))
        assert isinstance(await stream.error(2), ReferenceGone)
        await stream.say(altered(key_frame(made, 3)[0], payload=b"junk"))
        assert isinstance(await stream.error(3), BadFrame)
        await stream.say(delta_frame(made, 4, 1))
        assert isinstance(await stream.error(4), ReferenceGone)
        await stream.say(delta_frame(made, 5, 4, width=2))
        assert not (await stream.result()).HasField("error")


async def test_another_stream_s_frames_are_no_references(made: Bundle) -> None:
    async with serving_made(made) as server:
        async with raw_stream(server.address, made, greeted=False) as one:
            async with raw_stream(server.address, made, greeted=False) as other:
                for stream in (one, other):
                    await stream.greet(deltas=True)
                await one.say(*key_frame(made, 1))
                assert not (await one.result()).HasField("error")
                await other.say(delta_frame(made, 2, 1))
                assert isinstance(await other.error(2), ReferenceGone)


async def test_a_difference_that_does_not_decode_fails_alone(made: Bundle) -> None:
    async with serving_made(made) as server, raw_stream(server.address, made, greeted=False) as stream:
        await stream.greet(deltas=True)
        await stream.say(*key_frame(made, 1))
        assert not (await stream.result()).HasField("error")
        await stream.say(altered(delta_frame(made, 2, 1), payload=b"\xff no delta"))
        error = await stream.error(2)
        assert isinstance(error, BadFrame)
        assert error.reason == "delta"
        await stream.say(delta_frame(made, 3, 2))
        assert not (await stream.result()).HasField("error")
