"""Real servers and raw streams on 127.0.0.1, for the tests of this folder.

`RawStream` speaks the protocol through a stub of its own, so that it can say what no client of ours says.
`ServerProcess` is a server that can be killed, stopped and started again on the same port.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.config import ServerConfig
from splitrt.device.strategy import Fixed, Strategy
from splitrt.errors import SplitError
from splitrt.rpc import frames, messages, status
from splitrt.rpc.v1 import split_pb2 as pb
from splitrt.rpc.v1 import split_pb2_grpc
from splitrt.server.serve import RunningServer, serve

ANSWER_WITHIN_S = 10.0
UInt8 = npt.NDArray[np.uint8]


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[RunningServer]:
    """A server in this process, on a port of its own."""
    settings = {"listen": "127.0.0.1:0", "drain_grace_s": 0.5, **settings}
    async with serve(ServerConfig(**settings)) as server:
        yield server


def to_the_server(bundle: Bundle) -> Strategy:
    """Every frame is sent: no exit, whatever the link does."""
    return Fixed(8, 4)


class RawStream:
    """One Infer call, message by message."""

    def __init__(self, call: Any, bundle: Bundle) -> None:
        self.call = call
        self.bundle = bundle

    async def say(self, *messages: pb.FromDevice) -> None:
        for message in messages:
            await self.call.write(message)

    async def hear(self) -> pb.FromServer:
        """The next message. Raises the stream's typed error where it has ended."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                message = await self.call.read()
        except grpc.RpcError as error:
            raise status.from_grpc(error, "server") from error
        if message is grpc.aio.EOF:
            raise EOFError("the server ended the stream without an error")
        assert isinstance(message, pb.FromServer)
        return message

    async def result(self) -> pb.Result:
        message = await self.hear()
        assert message.WhichOneof("body") == "result", message
        return message.result

    async def error(self, seq: int) -> SplitError:
        """The next result must be this frame's, with an error."""
        result = await self.result()
        assert result.seq == seq, result
        assert result.HasField("error"), result
        return status.from_wire(result.error)

    async def greet(self, **changes: Any) -> None:
        await self.say(messages.hello_to_wire(hello(self.bundle, **changes)))
        assert (await self.hear()).WhichOneof("body") == "welcome"

    async def answers(self, seq: int) -> None:
        """A sound frame on this stream is answered with outputs: the stream is alive."""
        await self.say(*frame_messages(self.bundle, seq))
        result = await self.result()
        assert (result.seq, result.HasField("error")) == (seq, False), result
        assert len(result.outputs) == 1


@asynccontextmanager
async def channel_to(address: str, *more_options: tuple[str, int]) -> AsyncIterator[Any]:
    """A channel that sends messages of any size."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1), *more_options]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


def stub_on(channel: Any) -> split_pb2_grpc.SplitStub:
    return split_pb2_grpc.SplitStub(channel)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def raw_stream(
    address: str, bundle: Bundle, *options: tuple[str, int], greeted: bool = True
) -> AsyncIterator[RawStream]:
    async with channel_to(address, *options) as channel:
        stream = RawStream(stub_on(channel).Infer(), bundle)
        if greeted:
            await stream.greet()
        yield stream
        stream.call.cancel()


def hello(photos: Bundle, **changes: Any) -> frames.Hello:
    fields: dict[str, Any] = {
        "bundle": photos.manifest.name,
        "version": photos.manifest.version,
        "bundle_digest": photos.digest,
        "tables_digest": photos.tables.digest(),
        "session_epoch": 1,
    }
    return frames.Hello(**(fields | changes))


def symbols(bundle: Bundle, width: int, bits: int, seed: int = 0) -> UInt8:
    """Symbols that do not compress."""
    seam = bundle.manifest.seam
    shape = (width, seam.height, seam.width)
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=np.uint8)


def frame_messages(
    bundle: Bundle,
    seq: int,
    *,
    width: int = 8,
    bits: int = 4,
    codec: Codec = Codec.PACKED,
    deadline_ms: int = 20_000,
    payloads: tuple[bytes, ...] | None = None,
    chunked: bool = False,
    back: int = 0,
) -> list[pb.FromDevice]:
    """A frame with true checksums; `chunked`: one chunk a group of channels."""
    if payloads is None:
        x_CHW = symbols(bundle, width, bits)
        sizes = bundle.manifest.seam.group_sizes(width) if chunked else [width]
        stops = np.cumsum(sizes)[:-1]
        payloads = tuple(codec_payload.encode(part, bits)[1] for part in np.split(x_CHW, stops))
    frame = frames.Frame(
        seq=seq,
        width=width,
        bits=bits,
        codec=codec,
        deadline_ms=deadline_ms,
        tables=frames.tables_prefix(bundle.tables.digest()),
        payloads=payloads,
        back=back,
    )
    return messages.frame_to_wire(frame)


def altered(message: pb.FromDevice, **changes: Any) -> pb.FromDevice:
    """A frame's first message with some fields changed and its checksum made true again."""
    frame = pb.FromDevice.FromString(message.SerializeToString()).frame
    for name, value in changes.items():
        setattr(frame, name, value)
    if "crc32c" not in changes:
        header = (frame.seq, frame.width & 0xFFFF, frame.bits & 0xFF)
        codec: Any = frame.codec & 0xFF
        frame.crc32c = codec_payload.checksum(*header, codec, 0, frame.payload, frame.back)
    return pb.FromDevice(frame=frame)


async def until(claim: Callable[[], bool], within_s: float = ANSWER_WITHIN_S) -> None:
    """Let the loop run until the claim holds."""
    async with asyncio.timeout(within_s):
        while not claim():
            await asyncio.sleep(0.005)


SCRIPT = """
import asyncio, json, signal, sys
from splitrt.config import ServerConfig
from splitrt.server.serve import serve

async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with serve(ServerConfig(**json.loads(sys.argv[1]))) as server:
        print(server.address, server.cluster, flush=True)
        await ended.wait()

asyncio.run(main())
"""


class ServerProcess:
    """A server in a process of its own. Signals go to that process alone."""

    def __init__(self, listen: str = "127.0.0.1:0", **settings: Any) -> None:
        import json

        arguments = [sys.executable, "-c", SCRIPT, json.dumps({"listen": listen, **settings})]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address, _, self.cluster = self._process.stdout.readline().strip().partition(" ")
        self.pid = self._process.pid
        assert self.address, "the server must start"

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """As an operator does: it drains and ends what it started."""
        self.send(signal.SIGTERM)
        self._process.wait()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def server_process(**settings: Any) -> Iterator[ServerProcess]:
    server = ServerProcess(**settings)
    try:
        yield server
    finally:
        server.close()
