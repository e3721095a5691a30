"""Values of the frame path <-> protobuf messages, both ways.

Nothing here decides: what a peer sent is turned into checked types or refused with a typed error.
A frame's first chunk carries the header; further chunks carry seven bits of its number and a checksum
over all of it, so a chunk put to the wrong frame is caught.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from splitrt.codec import payload as codec_payload
from splitrt.codec.tensor import from_bytes, to_bytes
from splitrt.errors import BadFrame
from splitrt.rpc import status
from splitrt.rpc.frames import (
    PROTOCOL,
    SLOTS,
    Acks,
    Drain,
    Frame,
    FrameChunk,
    FrameStart,
    Hello,
    Limits,
    Reply,
)
from splitrt.rpc.v1 import split_pb2 as pb

CHUNK_HEADER_BYTES = 5  # in a further chunk: that byte, and its checksum
OPEN = 0x80  # of the byte that does: the chunk goes on in the frame's next message
MESSAGE_FRAMING_BYTES = 14  # HTTP/2 and gRPC framing of one message


# ── device to server ────────────────────────────────────────────────────────────────────────────────


def hello_to_wire(hello: Hello) -> pb.FromDevice:
    return pb.FromDevice(
        hello=pb.Hello(
            protocol=hello.protocol,
            bundle=hello.bundle,
            version=hello.version,
            bundle_digest=hello.bundle_digest,
            tables_digest=hello.tables_digest,
            session_epoch=hello.session_epoch,
            deltas=hello.deltas,
            degrades=hello.degrades,
            stream=hello.stream,
        )
    )


def frame_to_wire(frame: Frame) -> list[pb.FromDevice]:
    """The frame's messages in the order they must be written, one a chunk."""
    return [message for (message,) in chunks_to_wire(frame)]


def chunks_to_wire(frame: Frame, most_bytes: int | None = None) -> list[list[pb.FromDevice]]:
    """The messages of each chunk, in the order they must be written.

    most_bytes: payload in one message; a chunk with more goes in several. None: each goes in one.
    """
    chunks: list[list[pb.FromDevice]] = []
    index = 0
    for payload in frame.payloads:
        step = most_bytes or max(1, len(payload))
        starts = range(0, max(1, len(payload)), step)
        messages = []
        for start in starts:
            piece = payload[start : start + step]
            crc = codec_payload.checksum(frame.seq, frame.width, frame.bits, frame.codec, index, piece, frame.back)
            is_open = start != starts[-1]
            messages.append(_further(frame, piece, crc, is_open) if index else _first(frame, piece, crc, is_open))
            index += 1
        chunks.append(messages)
    return chunks


def _first(frame: Frame, piece: bytes, crc: int, is_open: bool) -> pb.FromDevice:
    return pb.FromDevice(
        frame=pb.Frame(
            seq=frame.seq,
            width=frame.width,
            bits=frame.bits,
            codec=int(frame.codec),  # type: ignore[arg-type]
            deadline_ms=frame.deadline_ms,
            crc32c=crc,
            payload=piece,
            tables=frame.tables,
            chunks=len(frame.payloads) if len(frame.payloads) > 1 else 0,
            back=frame.back,
            open=is_open,
        )
    )


def _further(frame: Frame, piece: bytes, crc: int, is_open: bool) -> pb.FromDevice:
    slot = frame.seq % SLOTS | (OPEN if is_open else 0)
    return pb.FromDevice(chunk=bytes([slot]) + piece + struct.pack("<I", crc))


def set_deadline(messages: Sequence[pb.FromDevice], deadline_ms: int) -> None:
    """Of a frame whose messages are made already."""
    messages[0].frame.deadline_ms = deadline_ms


def link_bytes(messages: Sequence[pb.FromDevice | pb.FromServer]) -> int:
    """Bytes of these messages on the link: serialised, with HTTP/2 and gRPC framing; TLS and IP not counted."""
    return sum(message.ByteSize() + MESSAGE_FRAMING_BYTES for message in messages)


def payload_bytes(message: pb.FromDevice) -> int:
    """Payload in one message of a frame."""
    is_first = message.WhichOneof("body") == "frame"
    return len(message.frame.payload) if is_first else len(message.chunk) - CHUNK_HEADER_BYTES


def from_device(message: pb.FromDevice) -> Hello | FrameStart | FrameChunk:
    """Raises BadFrame on a message without a body. A chunk too short for a checksum gets one that fails its frame."""
    body = message.WhichOneof("body")
    if body == "frame":
        start = message.frame
        return FrameStart(
            seq=start.seq,
            width=start.width,
            bits=start.bits,
            codec=start.codec,
            deadline_ms=start.deadline_ms,
            tables=start.tables,
            crc32c=start.crc32c,
            payload=start.payload,
            chunks=max(1, start.chunks),
            back=start.back,
            is_open=start.open,
        )
    if body == "chunk":
        slot, data = message.chunk[:1], message.chunk[1:]
        crc = int.from_bytes(data[-4:], "little")
        named = int.from_bytes(slot, "little")
        return FrameChunk(slot=named % SLOTS, crc32c=crc, payload=data[:-4], is_open=named >= OPEN)
    if body == "hello":
        hello = message.hello
        return Hello(
            protocol=hello.protocol,
            bundle=hello.bundle,
            version=hello.version,
            bundle_digest=hello.bundle_digest,
            tables_digest=hello.tables_digest,
            session_epoch=hello.session_epoch,
            deltas=hello.deltas,
            degrades=hello.degrades,
            stream=hello.stream,
        )
    raise BadFrame("a message must hold a hello, a frame or a chunk", reason="malformed")


# ── server to device ────────────────────────────────────────────────────────────────────────────────


def welcome_to_wire(limits: Limits, session_epoch: int) -> pb.FromServer:
    wire = pb.Welcome(protocol=PROTOCOL, limits=limits_to_wire(limits), session_epoch=session_epoch)
    return pb.FromServer(welcome=wire)


def drain_to_wire(grace_ms: int) -> pb.FromServer:
    return pb.FromServer(drain=pb.Drain(grace_ms=grace_ms))


def acks_to_wire(messages: int) -> pb.FromServer:
    return pb.FromServer(acks=pb.Acks(messages=messages & 0xFFFFFFFF))


def reply_to_wire(reply: Reply) -> pb.FromServer:
    result = pb.Result(
        seq=reply.seq,
        queue_us=int(reply.queue_s * 1e6),
        decode_us=int(reply.decode_s * 1e6),
        tail_us=int(reply.tail_s * 1e6),
        chunks=reply.chunks,
    )
    for array in reply.outputs:
        dtype, shape, data = to_bytes(array)
        result.outputs.append(pb.Tensor(dtype=int(dtype), shape=shape, data=data))
    if reply.error is not None:
        result.error.CopyFrom(status.to_wire(reply.error))
    return pb.FromServer(result=result)


def from_server(message: pb.FromServer) -> Limits | Reply | Drain | Acks:
    """A welcome gives its limits. Raises BadFrame or InvalidInput on what no server of ours sends."""
    body = message.WhichOneof("body")
    if body == "result":
        return _reply(message.result)
    if body == "welcome":
        if message.welcome.protocol != PROTOCOL:
            raise BadFrame(f"protocol must be {PROTOCOL}, got {message.welcome.protocol}", reason="protocol")
        return limits_from_wire(message.welcome.limits)
    if body == "drain":
        return Drain(grace_ms=message.drain.grace_ms)
    if body == "acks":
        return Acks(messages=message.acks.messages)
    raise BadFrame("a message must hold a welcome, a result, acks or a drain notice", reason="malformed")


def _reply(result: pb.Result) -> Reply:
    outputs = tuple(from_bytes(tensor.dtype, tuple(tensor.shape), tensor.data) for tensor in result.outputs)
    return Reply(
        seq=result.seq,
        outputs=outputs,
        error=status.from_wire(result.error) if result.HasField("error") else None,
        queue_s=result.queue_us / 1e6,
        decode_s=result.decode_us / 1e6,
        tail_s=result.tail_us / 1e6,
        chunks=result.chunks,
    )


def limits_to_wire(limits: Limits) -> pb.Limits:
    return pb.Limits(
        max_payload_bytes=limits.max_payload_bytes,
        max_deadline_ms=limits.max_deadline_ms,
        max_in_flight=limits.max_in_flight,
    )


def limits_from_wire(limits: pb.Limits) -> Limits:
    return Limits(
        max_payload_bytes=limits.max_payload_bytes,
        max_deadline_ms=limits.max_deadline_ms,
        max_in_flight=limits.max_in_flight,
    )
