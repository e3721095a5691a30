"""One device's stream as the wire has it, with no device behind it: frames made before, each asked once.

What a client of ours would do about a late or lost reply is not done here: a benchmark of a server wants to see them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
import numpy as np

from splitrt.bundle import Bundle
from splitrt.codec import bitpack
from splitrt.codec.payload import Codec
from splitrt.errors import LinkLost
from splitrt.rpc import service
from splitrt.rpc.channel import client_options
from splitrt.rpc.frames import Frame, Hello, Reply, tables_prefix
from splitrt.rpc.messages import frame_to_wire, from_server, hello_to_wire

MAX_MESSAGE_BYTES = 8 << 20
STREAMS_PER_CONNECTION = 125  # a server of ours takes 128
OPENED_S = 30.0


@dataclass(frozen=True, slots=True)
class Payload:
    """Symbols of one frame at the widest, packed; drawn at random, so nothing compresses them."""

    bundle: Bundle
    width: int
    bits: int
    data: bytes

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        seam = bundle.manifest.seam
        width, bits = max(seam.widths), max(seam.bits)
        shape = (seam.channels_at(width), seam.height, seam.width)
        symbols_ZHW = np.random.default_rng(0).integers(0, 2**bits, shape, dtype=np.uint8)
        return cls(bundle, width, bits, bitpack.pack(symbols_ZHW, bits))


class FrameStream:
    """One Infer call. Every reply is counted; a second one to the same frame is a duplicate."""

    def __init__(self, channel: Any, payload: Payload) -> None:
        self._payload, self._call = payload, service.open_stub(channel).Infer()
        self._tables = tables_prefix(payload.bundle.tables.digest())
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._answered: set[int] = set()
        self._one_at_a_time = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self.duplicates = 0
        self.asked = 0

    async def open(self) -> None:
        """Raises LinkLost where the server says anything but welcome."""
        bundle = self._payload.bundle
        hello = Hello(
            bundle=bundle.manifest.name,
            version=bundle.manifest.version,
            bundle_digest=bundle.digest,
            tables_digest=bundle.tables.digest(),
            session_epoch=1,
        )
        try:
            async with asyncio.timeout(OPENED_S):
                await self._call.write(hello_to_wire(hello))
                from_server(await self._call.read())
        except (grpc.RpcError, TimeoutError) as error:
            raise LinkLost(f"a stream could not be opened: {error}") from error

    async def ask(self, deadline_s: float, patience_s: float) -> Reply | None:
        """The next frame's reply, None where there is none within `patience_s`. Raises LinkLost where the stream ends.

        Do not cancel it: gRPC ends a call whose write is cancelled.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        seq, self.asked = self.asked, self.asked + 1
        frame = Frame(
            seq=seq,
            width=self._payload.width,
            bits=self._payload.bits,
            codec=Codec.PACKED,
            deadline_ms=max(1, round(deadline_s * 1e3)),
            tables=self._tables,
            payloads=(self._payload.data,),
        )
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[seq] = reply
        try:
            async with self._one_at_a_time:
                await self._call.write(frame_to_wire(frame)[0])
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            reply.cancel()
            raise LinkLost("the stream ended") from error
        try:
            async with asyncio.timeout(patience_s):
                return await reply
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                reply = from_server(message)
                if isinstance(reply, Reply):
                    self._hear(reply)
        except grpc.RpcError:
            pass
        finally:
            for one in self._waiting.values():
                if not one.done():
                    one.set_exception(LinkLost("the stream ended"))

    def _hear(self, reply: Reply) -> None:
        if reply.seq in self._answered:
            self.duplicates += 1
        self._answered.add(reply.seq)
        waiting = self._waiting.pop(reply.seq, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)


@asynccontextmanager
async def streams(
    address: str, payload: Payload, count: int, per_connection: int = 1
) -> AsyncIterator[list[FrameStream]]:
    """So many, opened. per_connection: on one connection; devices have one each."""
    async with AsyncExitStack() as stack:
        made: list[FrameStream] = []
        for start in range(0, count, per_connection):
            options = client_options(MAX_MESSAGE_BYTES)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            here = [FrameStream(channel, payload) for _ in range(min(per_connection, count - start))]
            for one in here:
                stack.push_async_callback(one.close)
            await asyncio.gather(*(one.open() for one in here))
            made += here
        yield made
