"""What splitrt is measured against: a raw TCP echo, and the same worker behind FastAPI. LitServe has a
module of its own.

Each runs in a process of its own: `python -m splitrt.bench.peers echo`, `... http BUNDLE` or `... http BUNDLE
DEADLINE_MS`; the first line printed is its port.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

ECHO_REPLY_BYTES = 64
HEADER = struct.Struct("<IHBB")  # payload bytes, width, bits, codec


def echo() -> None:
    """Blocking sockets, a length before the bytes, a short reply: the least that a frame can cost."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while header := _receive(connection, 4):
                _receive(connection, int.from_bytes(header, "little"))
                connection.sendall(bytes(ECHO_REPLY_BYTES))


class EchoClient:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def round_trip_s(self, payload: bytes) -> float:
        started = time.perf_counter()
        self._socket.sendall(len(payload).to_bytes(4, "little") + payload)
        _receive(self._socket, ECHO_REPLY_BYTES)
        return time.perf_counter() - started

    def close(self) -> None:
        self._socket.close()


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return b""
        data += piece
    return data


def http(bundle: str, deadline_ms: str = "") -> None:
    """The same worker and tail, asked by POST; runs in uvicorn's thread pool as FastAPI does with plain functions.

    deadline_ms: given, on one thread as every server's tail here, and what waited for half of it is answered 504, so
    that what is taken up can still be in time: the few lines that a careful author would write.
    """
    from concurrent.futures import ThreadPoolExecutor

    import uvicorn
    from fastapi import FastAPI, Request, Response

    from splitrt.bundle import find_bundle
    from splitrt.codec.payload import Codec
    from splitrt.config import ServerConfig
    from splitrt.server.loading import load_worker
    from splitrt.server.work import Outcome, Work

    worker, app = load_worker(find_bundle(bundle), ServerConfig()), FastAPI()
    most_s, thread = float(deadline_ms or "inf") / 1e3, ThreadPoolExecutor(1) if deadline_ms else None

    def run(work: Work) -> Outcome | None:
        return worker.run([work])[0] if time.monotonic() - work.arrived_at <= most_s / 2 else None

    async def infer(request: Request) -> Response:
        data = await request.body()
        size, width, bits, codec = HEADER.unpack_from(data)
        payload = data[HEADER.size : HEADER.size + size]
        work = Work(
            principal="",
            width=width,
            bits=bits,
            codec=Codec(codec),
            payloads=(payload,),
            arrived_at=time.monotonic(),
            deadline_at=0,
        )
        outcome = await asyncio.get_running_loop().run_in_executor(thread, run, work)
        if outcome is None:
            return Response(status_code=504)
        return Response(outcome.outputs[0].tobytes(), media_type="application/octet-stream")

    infer.__annotations__ = {"request": Request, "return": Response}  # names FastAPI must see as classes
    app.post("/infer")(infer)
    # TCP by name: asyncio turns Nagle's delay off only where the socket says which protocol it is.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        print(listening.getsockname()[1], flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        server.run(sockets=[listening])


@asynccontextmanager
async def peer_process(
    *arguments: str, module: str = "splitrt.bench.peers", python: str = sys.executable
) -> AsyncIterator[int]:
    """One of the above in a process, or another module's; gives its port."""
    process = await asyncio.create_subprocess_exec(
        python, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    draining: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
        draining = asyncio.create_task(_drain(process.stdout))  # one that prints much would stop at a full pipe
        yield port
    finally:
        with suppress(ProcessLookupError):  # with its workers, which outlive it otherwise
            os.killpg(process.pid, signal.SIGKILL)
        if draining is not None:
            await draining
        await process.wait()


async def _drain(printed: asyncio.StreamReader) -> None:
    while await printed.read(1 << 16):
        pass


if __name__ == "__main__":
    echo() if sys.argv[1] == "echo" else http(*sys.argv[2:])
