"""Frames in chunks over real streams: answered with what has come, acknowledged, and never lost for a late chunk."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from loopback import frame_messages, raw_stream, serving, symbols

import splitrt
from splitrt.bundle import Bundle
from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.device.degrade import Degrade, Ladder
from splitrt.errors import ConfigError, IntegrityError, SplitError
from splitrt.netem import Netem, Shape
from splitrt.rpc import frames, messages, status
from splitrt.rpc.v1 import split_pb2 as pb

UInt8 = npt.NDArray[np.uint8]
GROUPS = 4  # of photos at its widest


class Unsure(Degrade):
    """Every frame is sent."""

    def is_final(self, *_: object) -> bool:
        return False


async def heard(stream: object) -> tuple[pb.Result, int]:
    """A frame's last result, and how many messages were acknowledged: as many as it had."""
    last, acked = None, 0
    while last is None or acked < GROUPS:
        message = await stream.hear()  # type: ignore[attr-defined]
        if message.WhichOneof("body") == "acks":
            acked = message.acks.messages
        elif message.result.chunks == 0:
            last = message.result
    return last, acked


async def test_a_frame_is_answered_with_some_of_its_chunks_and_then_with_all(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos, greeted=False) as stream:
        await stream.greet(degrades=True)
        first, *rest = frame_messages(photos, 1, chunked=True, deadline_ms=400)
        await stream.say(first)
        while (message := await stream.hear()).WhichOneof("body") == "acks":
            assert message.acks.messages == 1
        assert (message.result.seq, message.result.chunks) == (1, 1)
        assert not message.result.HasField("error")
        await stream.say(*rest)
        last, acked = await heard(stream)
        assert (last.seq, last.chunks, acked) == (1, 0, GROUPS)
        # The answer of all chunks is that of a frame that was never divided.
        await stream.say(*frame_messages(photos, 2))
        whole = await stream.hear()
        while whole.WhichOneof("body") == "acks":
            whole = await stream.hear()
        assert whole.result.outputs[0].data == last.outputs[0].data


async def test_an_answer_of_some_chunks_is_that_of_the_narrower_width(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos, greeted=False) as stream:
        await stream.greet(degrades=True)
        widths = photos.manifest.seam.widths
        first, second, *_ = frame_messages(photos, 1, chunked=True, deadline_ms=400)
        await stream.say(first, second)
        while (message := await stream.hear()).WhichOneof("body") == "acks":
            continue
        assert message.result.chunks == 2
        narrow_CHW = symbols(photos, 8, 4)[: widths[1]]
        payload = codec_payload.encode(narrow_CHW, 4)[1]
        codec = Codec.PACKED if len(payload) == narrow_CHW.size // 2 else Codec.ZSTD
        await stream.say(*frame_messages(photos, 2, width=widths[1], codec=codec, payloads=(payload,)))
        found = message.result
        while (message := await stream.hear()).WhichOneof("body") == "acks" or message.result.seq == 1:
            continue
        assert message.result.outputs[0].data == found.outputs[0].data


async def test_a_broken_chunk_after_an_answer_costs_width_and_before_one_the_frame(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos, greeted=False) as stream:
        await stream.greet(degrades=True)
        first, second, *_ = frame_messages(photos, 1, chunked=True, deadline_ms=400)
        broken = pb.FromDevice(chunk=second.chunk[:-1] + bytes([second.chunk[-1] ^ 1]))
        await stream.say(first)
        while (message := await stream.hear()).WhichOneof("body") == "acks":
            continue
        assert message.result.chunks == 1
        await stream.say(broken)  # no second answer, and no error for a frame that has one
        first = frame_messages(photos, 2, chunked=True, deadline_ms=20_000)[0]
        wrong = pb.FromDevice(chunk=bytes([2]) + second.chunk[1:])
        await stream.say(first, wrong)
        while (message := await stream.hear()).WhichOneof("body") == "acks":
            continue
        assert message.result.seq == 2
        assert isinstance(status.from_wire(message.result.error), IntegrityError)


async def test_streams_that_do_not_degrade_are_answered_once_and_not_acknowledged(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        await stream.say(*frame_messages(photos, 1, chunked=True, deadline_ms=2_000))
        assert (await stream.result()).chunks == 0


async def test_on_a_fast_link_a_real_client_is_answered_from_all_that_is_worth_sending(
    photos: Bundle, frame_HWC: UInt8
) -> None:
    widest = Ladder.of(photos).width
    async with (
        serving() as server,
        splitrt.connect_async(
            server.address, bundle="photos", strategy=Unsure, degrade=True, deadline_ms=2_000
        ) as client,
    ):
        noisy = [np.random.default_rng(n).integers(0, 256, frame_HWC.shape, dtype=np.uint8) for n in range(8)]
        results = [await client.infer(frame) for frame in noisy]
        assert {(result.source, result.width) for result in results} == {("remote", widest)}
        assert all(0 < result.payload_bytes < result.link_bytes for result in results)


async def test_no_acknowledgement_of_a_server_breaks_a_client(photos: Bundle) -> None:
    """It claims more than was sent, less than before, and the largest number there is."""
    from splitrt.device.degrade import chunk_queue
    from splitrt.policy.link import LinkEstimate

    queue = chunk_queue(Ladder.of(photos), LinkEstimate(), asyncio.get_running_loop().time)
    for claim in (0, 5, 2, 0xFFFFFFFF, 0):
        queue.acked(claim)
    assert queue.is_idle()
    assert queue.in_flight(0.0).frames == ()


def test_a_message_of_a_chunk_says_whether_the_chunk_goes_on() -> None:
    frame = frames.Frame(
        seq=300, width=4, bits=8, codec=Codec.PACKED, deadline_ms=9, tables=1, payloads=(b"a" * 10, b"b" * 7)
    )
    chunks = messages.chunks_to_wire(frame, most_bytes=4)
    assert [len(chunk) for chunk in chunks] == [3, 2]
    parsed = [messages.from_device(message) for chunk in chunks for message in chunk]
    assert [one.is_open for one in parsed] == [True, True, False, True, False]  # type: ignore[union-attr]
    assert [one.slot for one in parsed[1:]] == [300 % 128] * 4  # type: ignore[union-attr]
    assert sum(messages.payload_bytes(message) for chunk in chunks for message in chunk) == 17


async def test_a_frame_keeps_its_best_answer_when_the_link_dies_under_it(photos: Bundle, frame_HWC: UInt8) -> None:
    """At 20 kbit/s a photograph's later chunks are seconds away: what was answered before the cut is the result."""
    noise_HWC = np.random.default_rng(3).integers(0, 256, frame_HWC.shape, dtype=np.uint8)
    async with (
        serving() as server,
        Netem(to=server.address, shape=Shape(rtt_ms=5)) as link,
        splitrt.connect_async(link.address, bundle="photos", degrade=True, deadline_ms=3_000) as client,
    ):
        result = await client.infer(noise_HWC)
        assert result.source in ("remote", "exit")
        answering = client.submit(noise_HWC, 600)
        await asyncio.sleep(0)
        link.cut()
        try:
            assert (await answering).source in ("remote", "exit", "fallback")
        except SplitError as error:  # pragma: no cover - a frame with an exit has an answer
            raise AssertionError(error) from error


def test_a_bundle_in_which_no_width_beats_the_device_is_refused(photos: Bundle) -> None:
    curve = photos.calibration.exit
    assert curve is not None
    sure = photos.calibration.model_copy(update={"exit": curve.model_copy(update={"unsure": 1.0})})
    with pytest.raises(ConfigError, match="photos has none"):
        Ladder.of(replace(photos, calibration=sure))
