"""What no client of ours sends: each is refused by name, alone, and the stream goes on."""

from __future__ import annotations

import asyncio
import io
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
import zstandard
from loopback import altered, channel_to, frame_messages, hello, raw_stream, serving, stub_on, until
from PIL import Image

from splitrt.bundle import Bundle
from splitrt.codec.payload import Codec
from splitrt.errors import (
    BadFrame,
    DeadlineExceeded,
    FrameTooLarge,
    IntegrityError,
    InvalidInput,
    LinkLost,
    ModelNotFound,
    Overloaded,
    ReferenceGone,
    SplitError,
    VersionGone,
    VersionMismatch,
    WidthUnsupported,
)
from splitrt.rpc import frames, messages
from splitrt.rpc.v1 import split_pb2 as pb

SEQ = 7
WHOLE_BYTES = 1024  # 8 channels of 16 x 16 at 4 bits
MOST_BYTES = 4096  # these servers' cap of one payload
CODECS = "1 (packed), 2 (zstd), 3 (jpeg), 4 (factorised), 5 (context), 6 (delta)"


def bomb(content_bytes: int, *, is_size_stated: bool = True, window_log: int = 0) -> bytes:
    """Zeros, compressed piece by piece."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=window_log, write_content_size=is_size_stated, write_checksum=False
    )
    size = content_bytes if is_size_stated else -1
    squeeze = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size)
    pieces = [squeeze.compress(bytes(1 << 20)) for _ in range(content_bytes >> 20)]
    return b"".join(pieces) + squeeze.compress(bytes(content_bytes % (1 << 20))) + squeeze.flush()


def jpeg(height: int, width: int) -> bytes:
    """A small file that says it is so large."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


LYING_TIB = b"\x28\xb5\x2f\xfd" + bytes([0b1110_0000]) + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
SOUND_ZSTD = zstandard.ZstdCompressor(write_checksum=False).compress(bytes(WHOLE_BYTES))
SUMMED_ZSTD = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(WHOLE_BYTES))


@dataclass(frozen=True, slots=True)
class Case:
    """How a sound frame is altered, and what its result must say."""

    changes: dict[str, Any]
    error: type[SplitError]
    says: tuple[str, ...]
    word: str | None = None  # BadFrame's reason, DeadlineExceeded's stage


def zstd_case(payload: bytes, word: str) -> Case:
    return Case({"codec": pb.CODEC_ZSTD, "payload": payload}, BadFrame, (), word)


def coded_case(codec: int, payload: bytes, word: str, **changes: Any) -> Case:
    return Case({"codec": codec, "payload": payload} | changes, BadFrame, (), word)


def photograph_case(payload: bytes, word: str, **changes: Any) -> Case:
    plain = {"codec": pb.CODEC_JPEG, "width": 0, "bits": 0, "payload": payload}
    return Case(plain | changes, BadFrame, (), word)


CASES = {
    "codec unspecified": Case({"codec": 0}, InvalidInput, (CODECS, "got 0")),
    "codec from the future": Case({"codec": 77}, InvalidInput, (CODECS, "got 77")),
    "width": Case({"width": 3}, WidthUnsupported, ("(1, 2, 4, 8)", "got 3")),
    "width absurd": Case({"width": 2**32 - 1}, WidthUnsupported, ("(1, 2, 4, 8)", "got 4294967295")),
    "width 0": Case({"width": 0}, WidthUnsupported, ("got 0",)),
    "bits": Case({"bits": 5}, WidthUnsupported, ("(2, 3, 4)", "got 5")),
    "bits absurd": Case({"bits": 2**31}, WidthUnsupported, ("got 2147483648",)),
    "tables": Case({"tables": 0xDEADBEEF}, VersionMismatch, ("tables digest must begin", "got deadbeef")),
    "checksum off": Case({"crc32c": 0x12345678}, IntegrityError, ("checksum must be", "got 12345678"), "checksum"),
    "deadline 0": Case({"deadline_ms": 0}, DeadlineExceeded, ("above 0 ms", "got 0"), "uplink"),
    "deadline absurd": Case({"deadline_ms": 2**32 - 1}, InvalidInput, ("1 to 60000 ms", "got 4294967295")),
    "payload over the cap": Case({"payload": bytes(MOST_BYTES + 1)}, FrameTooLarge, ("at most 4096 bytes", "got 4097")),
    "payload empty": Case({"payload": b""}, BadFrame, ("1024 bytes", "got 0"), "length"),
    "payload truncated": Case({"payload": bytes(WHOLE_BYTES - 1)}, BadFrame, ("1024 bytes", "got 1023"), "length"),
    "payload with junk": Case({"payload": bytes(WHOLE_BYTES + 1)}, BadFrame, ("1024 bytes", "got 1025"), "length"),
    "chunk count": Case({"chunks": 3}, BadFrame, ("1 or 4 chunks", "got 3"), "chunks"),
    "chunk count absurd": Case({"chunks": 2**32 - 1}, BadFrame, ("1 or 4 chunks", "got 4294967295"), "chunks"),
    "zstd bomb": zstd_case(bomb(64 << 20), "zstd_size"),
    "zstd bomb without its size": zstd_case(bomb(64 << 20, is_size_stated=False), "zstd_size"),
    "zstd header of 1 TiB": zstd_case(LYING_TIB, "zstd_size"),
    "zstd window": zstd_case(bomb(WHOLE_BYTES, is_size_stated=False, window_log=27), "zstd_size"),
    "zstd checksum of its own": zstd_case(SUMMED_ZSTD, "zstd_options"),
    "zstd two frames": zstd_case(SOUND_ZSTD + SOUND_ZSTD, "zstd"),
    "zstd with junk": zstd_case(SOUND_ZSTD + b"x", "zstd"),
    "zstd truncated": zstd_case(SOUND_ZSTD[:-1], "zstd"),
    "zstd not at all": zstd_case(b"no such thing", "zstd"),
    "factorised with a zero after it": coded_case(pb.CODEC_FACTORISED, b"\x12\x34\0", "trailing"),
    "factorised over any length": coded_case(pb.CODEC_FACTORISED, b"\x01" * MOST_BYTES, "length", width=1),
    "context with a zero after it": coded_case(pb.CODEC_CONTEXT, b"\x12\x34\0", "trailing"),
    "context over any length": coded_case(pb.CODEC_CONTEXT, b"\x01" * MOST_BYTES, "length", width=1),
    "difference to no frame": coded_case(pb.CODEC_DELTA, b"x", "malformed"),
    "difference to itself and a century ago": coded_case(pb.CODEC_DELTA, b"x", "malformed", back=2**32 - 1),
    "difference further back than a byte": coded_case(pb.CODEC_DELTA, b"x", "malformed", back=256),
    "difference in chunks": coded_case(pb.CODEC_DELTA, b"x", "malformed", back=1, chunks=4),
    "difference to a frame that never was": Case(
        {"codec": pb.CODEC_DELTA, "payload": b"x", "back": 1},
        ReferenceGone,
        (f"frame {SEQ - 1} is not kept at width 8, 4 bits",),
        "reference",
    ),
    "difference to before the beginning": Case(
        {"codec": pb.CODEC_DELTA, "payload": b"x", "back": 200}, ReferenceGone, (f"frame {SEQ - 200}",), "reference"
    ),
    "whole frame with a frame before it": Case({"back": 1}, BadFrame, (), "malformed"),
    "whole frame with a frame long before it": Case({"back": 256}, BadFrame, (), "malformed"),
    "photograph with a frame before it": photograph_case(b"", "malformed", back=1),
    "photograph not at all": photograph_case(b"no such thing", "jpeg"),
    "photograph with a width": photograph_case(b"", "malformed", width=8),
    "photograph in chunks": photograph_case(b"", "malformed", chunks=4),
    "photograph of 4 billion pixels": photograph_case(jpeg(65_535, 65_535), "jpeg_size"),
    "photograph of 100 million pixels": photograph_case(jpeg(10_000, 10_000), "jpeg_size"),
    "photograph of a strip without its data": photograph_case(jpeg(65_535, 1), "jpeg"),
    "photograph without its data": photograph_case(jpeg(2_000, 2_000)[:200], "jpeg"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_bad_frame_gets_its_own_typed_error_and_the_stream_lives(photos: Bundle, case: Case) -> None:
    async with serving(max_payload_bytes=MOST_BYTES) as server, raw_stream(server.address, photos) as stream:
        await stream.say(altered(frame_messages(photos, SEQ)[0], **case.changes))
        error = await stream.error(SEQ)
        assert type(error) is case.error, error
        for words in case.says:
            assert words in str(error)
        if isinstance(error, BadFrame):
            assert error.reason == case.word
        elif isinstance(error, DeadlineExceeded):
            assert error.stage == case.word
        await stream.answers(SEQ + 1)


async def test_a_flipped_bit_never_reaches_the_tail(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        message = frame_messages(photos, SEQ)[0]
        payload = bytearray(message.frame.payload)
        payload[500] ^= 0x10
        message.frame.payload = bytes(payload)
        await stream.say(message)
        assert isinstance(await stream.error(SEQ), IntegrityError)
        await stream.answers(SEQ + 1)


async def test_bombs_leave_memory_flat(photos: Bundle) -> None:
    def peak_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    bombs = [bomb(1 << 30), bomb(1 << 30, is_size_stated=False), LYING_TIB]
    async with serving() as server, raw_stream(server.address, photos) as stream:
        await stream.answers(1)
        before = peak_bytes()
        for seq, payload in enumerate(bombs, start=2):
            await stream.say(altered(frame_messages(photos, seq)[0], codec=pb.CODEC_ZSTD, payload=payload))
            assert isinstance(await stream.error(seq), BadFrame)
        thin = altered(frame_messages(photos, 9)[0], codec=pb.CODEC_JPEG, width=0, bits=0, payload=long_photograph())
        await stream.say(thin)
        assert (await stream.result()).seq == 9
        assert peak_bytes() - before < 64 << 20


def long_photograph() -> bytes:
    """A true JPEG of 1 x 65000 pixels: scaled until it covers a square, it would take gigabytes."""
    file = io.BytesIO()
    Image.new("RGB", (65_000, 1)).save(file, "JPEG")
    return file.getvalue()


async def test_a_frame_that_does_not_decode_fails_alone_in_its_batch(photos: Bundle) -> None:
    file = io.BytesIO()
    Image.new("RGB", (128, 128)).save(file, "JPEG")
    sound = {"codec": pb.CODEC_JPEG, "width": 0, "bits": 0}
    bad = {7: b"junk", 9: jpeg(65_535, 65_535), 11: jpeg(65_535, 1)}
    async with serving() as server, raw_stream(server.address, photos) as stream:
        for seq in range(6, 13):
            payload = bad.get(seq, file.getvalue())
            await stream.say(altered(frame_messages(photos, seq)[0], payload=payload, **sound))
        results = [await stream.result() for _ in range(6, 13)]
    assert {result.seq for result in results if result.HasField("error")} == set(bad)
    assert sorted(result.seq for result in results) == list(range(6, 13))


# ── chunks ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_frame_in_chunks_is_answered_as_the_whole_one_is(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        outputs = []
        for seq, chunked in ((1, False), (2, True)):
            await stream.say(*frame_messages(photos, seq, chunked=chunked))
            result = await stream.result()
            assert not result.HasField("error"), result.error
            outputs.append(np.frombuffer(result.outputs[0].data, np.float32))
        np.testing.assert_array_equal(outputs[0], outputs[1])


async def test_chunks_of_two_frames_may_interleave(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        one, other = (frame_messages(photos, seq, chunked=True) for seq in (1, 2))
        await stream.say(*(message for pair in zip(one, other, strict=True) for message in pair))
        results = [await stream.result() for _ in range(2)]
        assert sorted(result.seq for result in results) == [1, 2]
        assert not any(result.HasField("error") for result in results)


async def test_a_chunk_put_to_another_frame_fails_that_frame_alone(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        one, other = (frame_messages(photos, seq, chunked=True) for seq in (1, 2))
        astray = pb.FromDevice(chunk=one[1].chunk[:1] + other[1].chunk[1:])
        await stream.say(one[0], other[0], astray)
        assert isinstance(await stream.error(1), IntegrityError)
        await stream.say(*other[1:])
        result = await stream.result()
        assert (result.seq, result.HasField("error")) == (2, False)
        await stream.answers(3)


async def test_missing_chunks_are_waited_for_until_the_deadline_and_no_longer(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        await stream.say(*frame_messages(photos, 1, chunked=True, deadline_ms=100)[:3])
        error = await stream.error(1)
        assert isinstance(error, DeadlineExceeded)
        assert error.stage == "assembly"
        assert "3 of 4 chunks" in str(error)
        await stream.answers(2)


@pytest.mark.parametrize("size", [0, 3])
async def test_a_chunk_too_short_for_its_checksum_fails_its_frame_alone(photos: Bundle, size: int) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        await stream.say(frame_messages(photos, 1, chunked=True)[0])
        await stream.say(pb.FromDevice(chunk=b"\1" + bytes(size)))
        assert isinstance(await stream.error(1), IntegrityError)
        await stream.answers(2)


async def test_chunks_of_no_frame_and_of_a_refused_frame_are_dropped(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        first, *rest = frame_messages(photos, 1, chunked=True)
        await stream.say(*rest, altered(first, tables=1), *rest)
        assert isinstance(await stream.error(1), VersionMismatch)
        await stream.answers(2)


async def test_chunks_together_may_not_pass_the_cap(photos: Bundle) -> None:
    async with serving(max_payload_bytes=1024) as server, raw_stream(server.address, photos) as stream:
        payloads = (bytes(128), bytes(128), bytes(256), bytes(513))
        await stream.say(*frame_messages(photos, 1, payloads=payloads))
        error = await stream.error(1)
        assert isinstance(error, FrameTooLarge)
        assert "at most 1024 bytes, got 1025" in str(error)
        await stream.answers(2)


async def test_a_frame_in_the_slot_of_an_unfinished_one_ends_it(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        await stream.say(*frame_messages(photos, 1, chunked=True)[:2])
        await stream.say(*frame_messages(photos, 1 + frames.SLOTS, chunked=True))
        error = await stream.error(1)
        assert isinstance(error, DeadlineExceeded)
        result = await stream.result()
        assert (result.seq, result.HasField("error")) == (1 + frames.SLOTS, False)


async def test_a_device_that_says_goodbye_gets_every_answer(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        await stream.say(*frame_messages(photos, 1), *frame_messages(photos, 2, chunked=True)[:2])
        await stream.call.done_writing()
        ends = {result.seq: result.HasField("error") for result in (await stream.result(), await stream.result())}
        assert ends == {1: False, 2: True}
        with pytest.raises(EOFError):
            await stream.hear()


# ── numbers and bounds ──────────────────────────────────────────────────────────────────────────────


async def test_a_number_under_way_cannot_be_used_again(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        first, *rest = frame_messages(photos, SEQ, chunked=True)
        await stream.say(first, *frame_messages(photos, SEQ))
        error = await stream.error(SEQ)
        assert isinstance(error, BadFrame)
        assert error.reason == "duplicate"
        assert f"seq {SEQ}" in str(error)
        await stream.say(*rest)
        result = await stream.result()
        assert (result.seq, result.HasField("error")) == (SEQ, False)
        await stream.answers(SEQ)  # answered: the number is free


async def test_numbers_in_any_order_are_each_answered_once(photos: Bundle) -> None:
    numbers = [2**32 - 1, 0, 5, 3, 2**21]
    async with serving() as server, raw_stream(server.address, photos) as stream:
        for seq in numbers:
            await stream.say(*frame_messages(photos, seq))
        assert sorted([(await stream.result()).seq for _ in numbers]) == sorted(numbers)
        await stream.answers(1)


async def test_frames_beyond_max_in_flight_are_refused_and_the_others_are_not(photos: Bundle) -> None:
    async with serving(max_in_flight=2) as server, raw_stream(server.address, photos) as stream:
        one, other = (frame_messages(photos, seq, chunked=True) for seq in (1, 2))
        await stream.say(one[0], other[0], *frame_messages(photos, 3))
        error = await stream.error(3)
        assert isinstance(error, Overloaded)
        assert "2 frames of this stream" in str(error)
        assert error.retry_after_ms > 0
        await stream.say(*one[1:], *other[1:])
        assert sorted([(await stream.result()).seq for _ in range(2)]) == [1, 2]
        await stream.answers(3)


async def test_streams_beyond_max_streams_are_refused_until_one_ends(photos: Bundle) -> None:
    async with serving(max_streams=2) as server, raw_stream(server.address, photos) as first:
        async with raw_stream(server.address, photos) as second:
            async with raw_stream(server.address, photos, greeted=False) as third:
                await third.say(messages.hello_to_wire(hello(photos)))
                with pytest.raises(Overloaded, match="at most 2 streams"):
                    await third.hear()
            await second.call.done_writing()
            with pytest.raises(EOFError):
                await second.hear()
        async with raw_stream(server.address, photos) as fourth:
            await fourth.answers(1)
        await first.answers(1)


async def test_a_message_over_the_transport_cap_ends_that_stream_alone(photos: Bundle) -> None:
    async with serving(max_payload_bytes=MOST_BYTES) as server, channel_to(server.address) as channel:
        async with raw_stream(server.address, photos) as other:
            greedy = stub_on(channel).Infer()
            sibling = stub_on(channel).Infer()
            for call in (greedy, sibling):
                await call.write(messages.hello_to_wire(hello(photos)))
                await call.read()
            await greedy.write(altered(frame_messages(photos, 1)[0], payload=bytes(1 << 20)))
            with pytest.raises(grpc.RpcError) as caught:
                await greedy.read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await sibling.write(frame_messages(photos, 2)[0])
            assert (await sibling.read()).result.seq == 2
            sibling.cancel()
            await other.answers(1)


async def test_a_stream_that_never_reads_is_stopped_and_the_others_are_not(photos: Bundle) -> None:
    # The device's own transport would read megabytes ahead, if it were let.
    narrow = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1))
    async with serving() as server:
        async with raw_stream(server.address, photos, *narrow) as lazy, raw_stream(server.address, photos) as other:
            refused = altered(frame_messages(photos, 1)[0], crc32c=1)
            assert await flood(lazy.call, refused, 16 << 20) < 8 << 20
            await other.answers(1)


async def flood(call: Any, message: pb.FromDevice, most_bytes: int) -> int:
    """Write until nothing more is taken: the bytes that were."""
    taken_bytes = 0
    try:
        while taken_bytes < most_bytes:
            async with asyncio.timeout(1.0):
                await call.write(message)
            taken_bytes += message.ByteSize()
    except TimeoutError:
        pass
    return taken_bytes


# ── hello ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_without_a_hello_is_ended_in_time(photos: Bundle) -> None:
    async with serving(hello_timeout_s=0.1) as server, raw_stream(server.address, photos) as other:
        async with raw_stream(server.address, photos, greeted=False) as silent:
            with pytest.raises(BadFrame, match=r"a hello within 0\.1 s"):
                await silent.hear()
        await other.answers(1)


HELLOS: dict[str, tuple[Callable[[Bundle], dict[str, Any]], type[SplitError], str]] = {
    "protocol": (lambda photos: {"protocol": 99}, VersionMismatch, "protocol must be 1, got 99"),
    "bundle": (lambda photos: {"bundle": "cats"}, ModelNotFound, "one of photos, got 'cats'"),
    "long bundle": (lambda photos: {"bundle": "x" * 5000}, ModelNotFound, "one of photos, got 'x{64}'"),
    "version": (lambda photos: {"version": "0"}, VersionGone, "one of .*, got '0'"),
    "digest": (lambda photos: {"bundle_digest": bytes(32)}, VersionMismatch, "digest of .* got 0000000000000000"),
    "empty digest": (lambda photos: {"bundle_digest": b""}, VersionMismatch, "digest of .* must be"),
    "tables": (lambda photos: {"tables_digest": bytes(32)}, VersionMismatch, "tables digest .* got 00000000"),
}


@pytest.mark.parametrize(("changes", "error", "says"), HELLOS.values(), ids=HELLOS.keys())
async def test_a_hello_for_something_else_is_refused_by_name(
    photos: Bundle, changes: Callable[[Bundle], dict[str, Any]], error: type[SplitError], says: str
) -> None:
    async with serving() as server, raw_stream(server.address, photos, greeted=False) as stream:
        await stream.say(messages.hello_to_wire(hello(photos, **changes(photos))))
        with pytest.raises(error, match=says) as caught:
            await stream.hear()
        assert type(caught.value) is error


async def test_a_second_hello_ends_the_stream(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos) as stream:
        await stream.say(messages.hello_to_wire(hello(photos)))
        with pytest.raises(BadFrame, match="a second one"):
            await stream.hear()


A_CHUNK = pb.FromDevice(chunk=b"").SerializeToString()
GARBAGE = {"not protobuf": b"\xff" * 40, "empty": b"", "lying length": b"\x0a\xff\xff\xff\xff\x0f"}


@pytest.mark.parametrize(
    ("garbage", "is_greeted"),
    [(A_CHUNK, False), *((garbage, is_greeted) for garbage in GARBAGE.values() for is_greeted in (False, True))],
)
async def test_garbage_ends_its_own_stream_with_a_typed_error(
    photos: Bundle, garbage: bytes, is_greeted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as server, raw_stream(server.address, photos) as other, channel_to(server.address) as channel:
        call = channel.stream_stream("/splitrt.rpc.v1.Split/Infer")()
        if is_greeted:
            await call.write(messages.hello_to_wire(hello(photos)).SerializeToString())
            await call.read()
        await call.write(garbage)
        with pytest.raises(grpc.RpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "must" in (caught.value.details() or "")
        await other.answers(1)
    assert "Traceback" not in caplog.text


async def test_a_device_that_vanishes_frees_its_stream_without_a_traceback(
    photos: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(max_streams=1) as server:
        for seq in range(5):
            async with raw_stream(server.address, photos) as stream:
                await stream.say(*frame_messages(photos, seq))  # its answer is never read
            await until(lambda: server.metrics.registry.get_sample_value("splitrt_streams_open") == 0)
    assert "Traceback" not in caplog.text


async def test_a_client_told_of_a_lost_stream_knows_why(photos: Bundle) -> None:
    async with channel_to("127.0.0.1:1") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await stub_on(channel).Describe(pb.DescribeRequest(), timeout=5)
    from splitrt.rpc import status

    assert isinstance(status.from_grpc(caught.value, "server"), LinkLost)


def test_every_codec_number_of_the_wire_is_known_here() -> None:
    named = {value.number for value in pb.Codec.DESCRIPTOR.values} - {pb.CODEC_UNSPECIFIED}
    assert named == {codec.value for codec in Codec}
