"""Values of ours to the wire and back, and what our share of a message costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt import errors
from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.errors import BadFrame, IntegrityError, InvalidInput, SplitError
from splitrt.rpc import messages, status
from splitrt.rpc.frames import (
    MOST_BACK,
    SLOTS,
    Drain,
    Frame,
    FrameChunk,
    FrameStart,
    Hello,
    Limits,
    Reply,
    tables_prefix,
)
from splitrt.rpc.messages import (
    drain_to_wire,
    frame_to_wire,
    from_device,
    from_server,
    hello_to_wire,
    link_bytes,
    reply_to_wire,
    welcome_to_wire,
)
from splitrt.rpc.v1 import split_pb2 as pb

UINT32 = st.integers(0, 2**32 - 1)
FIRST_BYTES = 32  # of ours with a frame's first chunk, at most
FURTHER_BYTES = 10  # with each further one


def frames() -> st.SearchStrategy[Frame]:
    return st.builds(
        Frame,
        seq=UINT32,
        width=st.integers(0, 4096),
        bits=st.integers(0, 8),
        codec=st.sampled_from(Codec),
        deadline_ms=UINT32,
        tables=UINT32,
        payloads=st.lists(st.binary(max_size=64), min_size=1, max_size=16).map(tuple),
    ) | st.builds(
        Frame,
        seq=UINT32,
        width=st.integers(1, 4096),
        bits=st.integers(1, 8),
        codec=st.just(Codec.DELTA),
        deadline_ms=UINT32,
        tables=UINT32,
        payloads=st.tuples(st.binary(max_size=64)),
        back=st.integers(1, MOST_BACK),
    )


def over_the_wire(message: pb.FromDevice) -> pb.FromDevice:
    return pb.FromDevice.FromString(message.SerializeToString())


@given(frames())
def test_a_frame_comes_back_as_it_was_sent(frame: Frame) -> None:
    start, *chunks = (from_device(over_the_wire(message)) for message in frame_to_wire(frame))
    assert isinstance(start, FrameStart)
    payloads = [start.payload]
    for chunk in chunks:
        assert isinstance(chunk, FrameChunk)
        assert chunk.slot == frame.seq % SLOTS
        payloads.append(chunk.payload)
    assert tuple(payloads) == frame.payloads
    assert start.chunks == len(frame.payloads)
    for name in ("seq", "width", "bits", "codec", "deadline_ms", "tables", "back"):
        assert getattr(start, name) == getattr(frame, name), name


@given(frames())
def test_every_chunk_passes_its_own_checksum_and_under_another_number_fails(frame: Frame) -> None:
    for index, message in enumerate(frame_to_wire(frame)):
        part = from_device(message)
        assert isinstance(part, FrameStart | FrameChunk)

        def crc(seq: int, index: int = index, payload: bytes = part.payload, back: int = frame.back) -> int:
            return codec_payload.checksum(seq, frame.width, frame.bits, frame.codec, index, payload, back)

        codec_payload.check(part.crc32c, crc(frame.seq))
        # Another frame of the same slot: only the checksum can tell them apart.
        with pytest.raises(IntegrityError):
            codec_payload.check(part.crc32c, crc((frame.seq + SLOTS) % 2**32))
        with pytest.raises(IntegrityError):
            codec_payload.check(part.crc32c, crc(frame.seq, index + 1))
        with pytest.raises(IntegrityError):
            codec_payload.check(part.crc32c, crc(frame.seq, back=frame.back ^ 1))


@given(
    seq=st.integers(0, 2**21 - 1),
    width=st.integers(1, 128),
    bits=st.integers(1, 8),
    codec=st.sampled_from(Codec),
    deadline_ms=st.integers(1, 16_383),
    first_bytes=st.integers(1, 16_300),
    further=st.lists(st.integers(1, 16_300), max_size=15),
)
def test_our_share_of_a_frame_stays_within_its_budget(
    seq: int, width: int, bits: int, codec: Codec, deadline_ms: int, first_bytes: int, further: list[int]
) -> None:
    sizes = [first_bytes, *further]
    frame = Frame(
        seq=seq,
        width=width,
        bits=bits,
        codec=codec,
        deadline_ms=deadline_ms,
        tables=0xFFFFFFFF,
        payloads=tuple(bytes(size) for size in sizes),
    )
    first, *rest = frame_to_wire(frame)
    assert first.ByteSize() - first_bytes <= FIRST_BYTES
    for size, message in zip(further, rest, strict=True):
        assert message.ByteSize() - size <= FURTHER_BYTES
    ours = sum(message.ByteSize() for message in (first, *rest)) - sum(sizes)
    framing = messages.MESSAGE_FRAMING_BYTES * len(sizes)
    assert link_bytes([first, *rest]) == sum(sizes) + ours + framing


@given(
    seq=st.integers(0, 2**21 - 1),
    width=st.integers(1, 128),
    bits=st.integers(1, 8),
    deadline_ms=st.integers(1, 16_383),
    size=st.integers(1, 16_300),
    back=st.integers(1, MOST_BACK),
)
def test_our_share_of_a_difference_stays_within_its_budget(
    seq: int, width: int, bits: int, deadline_ms: int, size: int, back: int
) -> None:
    frame = Frame(
        seq=seq,
        width=width,
        bits=bits,
        codec=Codec.DELTA,
        deadline_ms=deadline_ms,
        tables=0xFFFFFFFF,
        payloads=(bytes(size),),
        back=back,
    )
    (message,) = frame_to_wire(frame)
    assert message.ByteSize() - size <= FIRST_BYTES


def test_a_frame_of_one_chunk_spends_nothing_on_chunks() -> None:
    plain = Frame(seq=1, width=8, bits=4, codec=Codec.PACKED, deadline_ms=100, tables=1, payloads=(b"abc",))
    (message,) = frame_to_wire(plain)
    assert message.frame.chunks == 0


@given(
    st.builds(
        Hello,
        bundle=st.text(max_size=20),
        version=st.text(max_size=20),
        bundle_digest=st.binary(max_size=32),
        tables_digest=st.binary(max_size=32),
        session_epoch=st.integers(0, 2**64 - 1),
        deltas=st.booleans(),
        protocol=UINT32,
    )
)
def test_a_hello_comes_back_as_it_was_sent(hello: Hello) -> None:
    assert from_device(over_the_wire(hello_to_wire(hello))) == hello


@given(st.builds(Limits, max_payload_bytes=UINT32, max_deadline_ms=UINT32, max_in_flight=UINT32))
def test_a_welcome_gives_its_limits(limits: Limits) -> None:
    wire = pb.FromServer.FromString(welcome_to_wire(limits, 3).SerializeToString())
    assert wire.welcome.session_epoch == 3
    assert from_server(wire) == limits


def test_a_drain_notice_comes_back() -> None:
    assert from_server(drain_to_wire(1500)) == Drain(grace_ms=1500)


def test_a_reply_comes_back_with_outputs_and_durations() -> None:
    outputs = (np.arange(6, dtype=np.float32), np.array([[1, 2]], np.int64))
    reply = Reply(seq=2**32 - 1, outputs=outputs, queue_s=0.001, decode_s=0.0002, tail_s=1.5)
    back = from_server(pb.FromServer.FromString(reply_to_wire(reply).SerializeToString()))
    assert isinstance(back, Reply)
    assert (back.seq, back.queue_s, back.decode_s, back.tail_s) == (reply.seq, 0.001, 0.0002, 1.5)
    assert back.error is None
    assert [output.dtype for output in back.outputs] == [np.float32, np.int64]
    for got, sent in zip(back.outputs, outputs, strict=True):
        np.testing.assert_array_equal(got, sent)


EVERY_ERROR: list[SplitError] = [
    errors.InvalidInput("bits must be 4, got 5"),
    errors.BadFrame("no", reason="zstd_size"),
    errors.IntegrityError("no"),
    errors.ReferenceGone("no"),
    errors.FrameTooLarge("no"),
    errors.WidthUnsupported("no"),
    errors.ModelNotFound("no"),
    errors.VersionMismatch("no"),
    errors.VersionGone("no"),
    errors.Unauthenticated("no"),
    errors.Overloaded("no", retry_after_ms=12.0),
    errors.DeadlineExceeded("no", stage="assembly"),
    errors.ServerDraining("no"),
    errors.RemoteFailure("no", request_id="abc"),
]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: str(error.code))
def test_an_error_comes_back_as_itself(error: SplitError) -> None:
    back = from_server(reply_to_wire(Reply(seq=1, error=error)))
    assert isinstance(back, Reply)
    assert type(back.error) is type(error)
    assert str(back.error) == str(error)
    for name in ("reason", "stage", "retry_after_ms", "request_id", "retryable"):
        assert getattr(back.error, name, None) == getattr(error, name, None), name


def test_every_code_of_the_wire_has_an_error_and_an_example_here() -> None:
    numbers = {value.number for value in pb.ErrorCode.DESCRIPTOR.values} - {pb.ERROR_CODE_UNSPECIFIED}
    assert {status.to_wire(error).code for error in EVERY_ERROR} == numbers


def test_an_error_of_no_code_tells_a_peer_nothing() -> None:
    wire = status.to_wire(errors.ConfigError("/etc/secret must be readable"))
    assert wire.code == pb.ERROR_CODE_REMOTE_FAILURE
    assert wire.detail == "internal error"


def test_a_code_from_a_newer_server_is_a_remote_failure() -> None:
    newer = pb.FrameError(code=200, detail="a new thing")  # type: ignore[arg-type]
    assert isinstance(status.from_wire(newer), errors.RemoteFailure)


def test_an_endless_detail_is_cut() -> None:
    assert len(status.to_wire(InvalidInput("x" * 10_000)).detail) == status.MAX_DETAIL_CHARS


@pytest.mark.parametrize(
    "message",
    [pb.FromServer(), pb.FromServer(welcome=pb.Welcome(protocol=2))],
    ids=["empty", "protocol"],
)
def test_what_no_server_of_ours_sends_is_refused(message: pb.FromServer) -> None:
    with pytest.raises(BadFrame):
        from_server(message)


def test_an_output_that_lies_about_its_size_is_refused() -> None:
    result = pb.Result(outputs=[pb.Tensor(dtype=1, shape=[2**31, 2**31], data=b"1234")])
    with pytest.raises(InvalidInput):
        from_server(pb.FromServer(result=result))


def test_an_empty_message_of_a_device_is_refused() -> None:
    with pytest.raises(BadFrame, match="a hello, a frame or a chunk"):
        from_device(pb.FromDevice())


@given(st.binary(max_size=3))
def test_a_chunk_too_short_for_a_checksum_never_passes_one(data: bytes) -> None:
    chunk = from_device(pb.FromDevice(chunk=b"\1" + data))
    assert isinstance(chunk, FrameChunk)
    assert chunk.payload == b""
    with pytest.raises(IntegrityError):
        codec_payload.check(chunk.crc32c, codec_payload.checksum(1, 8, 4, Codec.PACKED, 1, b""))


def test_the_bytes_of_the_wire_are_these() -> None:
    frame = Frame(
        seq=2**21 - 1, width=128, bits=4, codec=Codec.ZSTD, deadline_ms=50, tables=0xDEADBEEF, payloads=(b"abc",)
    )
    (message,) = frame_to_wire(frame)
    assert message.SerializeToString(deterministic=True).hex() == (
        "121c"  # FromDevice.frame, 28 bytes
        "08ffff7f" "108001" "1804" "2002" "2832"  # seq, width, bits, codec, deadline
        "35124a85b7" "3a03616263" "45efbeadde"  # checksum, payload, tables
    )  # fmt: skip


def test_a_difference_adds_two_bytes_that_say_to_which_frame() -> None:
    key = Frame(seq=9, width=8, bits=4, codec=Codec.DELTA, deadline_ms=50, tables=1, payloads=(b"abc",))
    (before,), (after,) = frame_to_wire(key), frame_to_wire(replace(key, back=2))
    assert after.ByteSize() == before.ByteSize() + 2
    assert after.SerializeToString(deterministic=True).hex().endswith("4501000000" "5002")  # fmt: skip


def test_the_prefix_of_a_digest_is_its_first_four_bytes() -> None:
    assert tables_prefix(b"\x01\x02\x03\x04\x05") == 0x04030201
