"""Tasks and answers between a gateway and the replicas that run its tails, as values of ours.

Both ends are splitrt's own and share a credential; what crosses was checked at the gateway, but for its payloads, which
are as hostile here as they were there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec.payload import Codec
from splitrt.codec.tensor import from_bytes, to_bytes
from splitrt.errors import BadFrame, SplitError
from splitrt.rpc import status
from splitrt.rpc.v1 import split_pb2, tails_pb2_grpc
from splitrt.rpc.v1 import tails_pb2 as pb

Array = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]
Servicer = tails_pb2_grpc.TailsServicer
LONGEST_S = 4_000.0  # what the wire's microseconds hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A frame for a replica; the times that mean something on both sides are durations."""

    id: int
    principal: str
    width: int
    bits: int
    codec: Codec
    payloads: tuple[bytes, ...]
    left_s: float  # until its deadline
    reference_ZHW: UInt8 | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a task ended."""

    id: int
    outputs: tuple[Array, ...] = ()
    error: SplitError | None = None
    symbols_ZHW: UInt8 | None = None
    queue_s: float = 0.0
    decode_s: float = 0.0
    tail_s: float = 0.0
    waiting: int = 0  # tasks in the replica's queue
    wait_s: float = 0.0  # until one that comes now would be answered
    frame_s: float = 0.0  # of that, what one takes the tail


class Leaving:
    """The replica takes no new tasks."""


def add_servicer(servicer: Any, server: Any) -> None:
    tails_pb2_grpc.add_TailsServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]


def open_stub(channel: Any) -> Any:
    """`Run` of the replica at the channel's far end."""
    return tails_pb2_grpc.TailsStub(channel)  # type: ignore[no-untyped-call]


def task_to_wire(task: Task) -> pb.Task:
    wire = pb.Task(
        id=task.id,
        principal=task.principal,
        width=task.width,
        bits=task.bits,
        codec=int(task.codec),  # type: ignore[arg-type]
        payloads=task.payloads,
        left_us=int(min(LONGEST_S, max(0.0, task.left_s)) * 1e6),
        keep=task.keep,
    )
    if task.reference_ZHW is not None:
        wire.reference.CopyFrom(_tensor(task.reference_ZHW))
    return wire


def task_from_wire(wire: pb.Task) -> Task:
    """Raises BadFrame or InvalidInput on what no gateway of ours sends."""
    try:
        codec = Codec(wire.codec)
    except ValueError:
        raise BadFrame(
            f"codec must be one of {[one.value for one in Codec]}, got {wire.codec}", reason="codec"
        ) from None
    return Task(
        id=wire.id,
        principal=wire.principal,
        width=wire.width,
        bits=wire.bits,
        codec=codec,
        payloads=tuple(wire.payloads),
        left_s=wire.left_us / 1e6,
        reference_ZHW=_array(wire.reference) if wire.HasField("reference") else None,
        keep=wire.keep,
    )


def done_to_wire(done: Done) -> pb.FromTails:
    wire = pb.Done(
        id=done.id,
        outputs=[_tensor(array) for array in done.outputs],
        queue_us=int(done.queue_s * 1e6),
        decode_us=int(done.decode_s * 1e6),
        tail_us=int(done.tail_s * 1e6),
        waiting=done.waiting,
        wait_us=int(min(LONGEST_S, done.wait_s) * 1e6),
        frame_us=int(min(LONGEST_S, done.frame_s) * 1e6),
    )
    if done.error is not None:
        wire.error.CopyFrom(status.to_wire(done.error))
    if done.symbols_ZHW is not None:
        wire.symbols.CopyFrom(_tensor(done.symbols_ZHW))
    return pb.FromTails(done=wire)


def leaving_to_wire() -> pb.FromTails:
    return pb.FromTails(leaving=pb.Leaving())


def from_tails(message: pb.FromTails) -> Done | Leaving:
    """Raises BadFrame or InvalidInput on what no replica of ours sends."""
    if message.WhichOneof("body") == "leaving":
        return Leaving()
    if message.WhichOneof("body") != "done":
        raise BadFrame("a message must hold a done or a leaving", reason="malformed")
    wire = message.done
    return Done(
        id=wire.id,
        outputs=tuple(_array(tensor) for tensor in wire.outputs),
        error=status.from_wire(wire.error) if wire.HasField("error") else None,
        symbols_ZHW=_array(wire.symbols) if wire.HasField("symbols") else None,
        queue_s=wire.queue_us / 1e6,
        decode_s=wire.decode_us / 1e6,
        tail_s=wire.tail_us / 1e6,
        waiting=wire.waiting,
        wait_s=wire.wait_us / 1e6,
        frame_s=wire.frame_us / 1e6,
    )


def _tensor(array: Array) -> split_pb2.Tensor:
    dtype, shape, data = to_bytes(array)
    return split_pb2.Tensor(dtype=int(dtype), shape=shape, data=data)


def _array(tensor: split_pb2.Tensor) -> Array:
    return from_bytes(tensor.dtype, tuple(tensor.shape), tensor.data)
