"""Keepalive of both ends, as a pair: a frozen server is noticed soon, a well-behaved client is never cut off.

The server runs in a process of its own, so that it can be stopped; it is a bare gRPC server, because the
options are what is tested.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from splitrt.rpc.channel import PING_EVERY_MS, PING_TIMEOUT_MS, client_options, server_options

CAP_BYTES = 1 << 20
NOTICED_S = (PING_EVERY_MS + PING_TIMEOUT_MS) / 1e3 + 1.5  # of a busy machine's slack

ECHO = f"""
import asyncio, grpc
from splitrt.rpc.channel import server_options

async def echo(messages, context):
    async for message in messages:
        yield message

class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.stream_stream_rpc_method_handler(echo)

async def main():
    server = grpc.aio.server(options=server_options({CAP_BYTES}, 8))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


@contextmanager
def echo_server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def open_echo(channel: Any) -> Any:
    call = channel.stream_stream("/echo/Echo")()
    await call.write(b"hello")
    assert await call.read() == b"hello"
    return call


async def test_a_frozen_server_is_noticed_by_an_idle_client() -> None:
    with echo_server() as (process, address):
        async with grpc.aio.insecure_channel(address, options=client_options(CAP_BYTES)) as channel:
            call = await open_echo(channel)
            process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            async with asyncio.timeout(30):
                code = await call.code()
            assert code is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - started < NOTICED_S


async def test_a_client_that_pings_as_it_should_is_not_cut_off() -> None:
    """A server of default options says too_many_pings after four or five seconds."""
    with echo_server() as (_, address):
        async with grpc.aio.insecure_channel(address, options=client_options(CAP_BYTES)) as channel:
            call = await open_echo(channel)
            ended = asyncio.create_task(call.code())
            await asyncio.wait([ended], timeout=6.5)  # idle: nothing but pings
            assert not ended.done(), call
            await call.write(b"still here")
            assert await call.read() == b"still here"
            call.cancel()
            await ended


def test_what_the_client_pings_the_server_permits() -> None:
    client, server = dict(client_options(CAP_BYTES)), dict(server_options(CAP_BYTES, 8))
    assert client["grpc.keepalive_time_ms"] >= server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert server["grpc.keepalive_permit_without_calls"] == client["grpc.keepalive_permit_without_calls"] == 1
    for options in (client, server):  # without the third the first two do nothing for a minute
        assert options["grpc.http2.ping_timeout_ms"] <= 5_000
