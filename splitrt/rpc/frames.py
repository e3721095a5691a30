"""What crosses between a device and a server on the frame path, as checked values; messages.py has the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from splitrt.codec.payload import Codec
from splitrt.errors import SplitError

PROTOCOL = 1
SLOTS = 128  # a further chunk names its frame modulo this
MOST_BACK = 255  # a difference reaches at most so many seqs back: one byte of its checksum

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server accepts, agreed at the start of a stream."""

    max_payload_bytes: int
    max_deadline_ms: int
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    bundle: str
    version: str
    bundle_digest: bytes
    tables_digest: bytes
    session_epoch: int
    deltas: bool = False  # frames may come as differences: the server keeps the symbols of answered ones
    degrades: bool = False  # frames are answered with the chunks that have come; messages are acknowledged
    stream: int = 0  # the client's own number: the first half of its frames' trace ids
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame as a device sends it: header and one payload a chunk."""

    seq: int
    width: int
    bits: int
    codec: Codec
    deadline_ms: int
    tables: int  # first 4 bytes of the tables' digest
    payloads: tuple[bytes, ...]
    back: int = 0  # how many seqs ago the frame was that this one is the difference to; 0: a key frame

    @property
    def payload_bytes(self) -> int:
        return sum(len(payload) for payload in self.payloads)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStart:
    """A frame's first message as a server reads it: not yet checked against any bundle."""

    seq: int
    width: int
    bits: int
    codec: int
    deadline_ms: int
    tables: int
    crc32c: int
    payload: bytes
    chunks: int
    back: int = 0
    is_open: bool = False  # the first chunk goes on in the next message


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameChunk:
    slot: int
    crc32c: int
    payload: bytes
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server says of one frame: outputs or an error, and its own durations in seconds."""

    seq: int
    outputs: tuple[Array, ...] = ()
    error: SplitError | None = None
    queue_s: float = 0.0
    decode_s: float = 0.0
    tail_s: float = 0.0
    chunks: int = 0  # that this answer is of; 0: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    grace_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acks:
    """How many messages with bytes of a frame the server has had on this stream."""

    messages: int


def tables_prefix(digest: bytes) -> int:
    """The four bytes of a tables digest that every frame carries."""
    return int.from_bytes(digest[:4], "little")
