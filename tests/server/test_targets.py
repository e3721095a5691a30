"""Which replica has which text."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from splitrt.errors import Overloaded
from splitrt.rpc import speculation
from splitrt.server.targets import Targets

KEY = ("one", b"text-a")


async def listening(address: str = "127.0.0.1:0") -> tuple[Any, str]:
    """A server that opens every stream and says nothing."""

    async def silent(_: Any, context: Any) -> None:
        await context.send_initial_metadata(())
        while await context.read() is not grpc.aio.EOF:
            pass

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    speculation.add_relay(silent, server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, f"127.0.0.1:{port}"


async def test_a_text_comes_back_to_its_replica_and_a_new_one_goes_where_fewest_are() -> None:
    bundle: Any = None
    targets = Targets(bundle, SecretStr("t"), 1 << 20)
    first, one = await listening()
    second, other = await listening()
    targets.update([one, other])
    async with targets.stream(KEY), targets.stream(("one", b"text-b")):
        assert sorted(targets._open.values()) == [1, 1]
        place = targets._places[KEY]
    for _ in range(3):
        async with targets.stream(KEY):
            assert targets._places[KEY] == place
    await targets.close()
    await asyncio.gather(first.stop(0), second.stop(0))


async def test_a_replica_that_could_not_be_reached_is_asked_again_after_a_rest() -> None:
    now = 0.0
    bundle: Any = None
    targets = Targets(bundle, SecretStr("t"), 1 << 20, lambda: now)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    targets.update([f"127.0.0.1:{port}"])
    with pytest.raises(Overloaded, match="no target is ready"):
        async with targets.stream(KEY):
            pass
    server, _ = await listening(f"127.0.0.1:{port}")
    with pytest.raises(Overloaded):
        async with targets.stream(KEY):
            pass
    now = 1.0
    async with targets.stream(KEY):
        assert targets.ready == 1
    await targets.close()
    await server.stop(0)


async def test_texts_that_come_at_once_are_spread_over_the_replicas() -> None:
    bundle: Any = None
    targets = Targets(bundle, SecretStr("t"), 1 << 20)
    first, one = await listening()
    second, other = await listening()
    targets.update([one, other])
    async with AsyncExitStack() as stack:
        streams = [targets.stream(("one", bytes([number]))) for number in range(6)]
        await asyncio.gather(*map(stack.enter_async_context, streams))
        assert targets._open == {one: 3, other: 3}
    assert targets.sessions == 0
    await targets.close()
    await asyncio.gather(first.stop(0), second.stop(0))
