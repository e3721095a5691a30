from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from splitrt.netem import Netem, Shape

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def echo_behind(shape: Shape | None = None) -> AsyncIterator[Netem]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, Netem(to=f"{host}:{port}", shape=shape) as link:
        yield link


@asynccontextmanager
async def connected(link: Netem) -> AsyncIterator[Streams]:
    host, _, port = link.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(streams: Streams, payload: bytes) -> float:
    """Send, await the same bytes back, and say how long it took."""
    reader, writer = streams
    started_s = time.monotonic()
    writer.write(payload)
    assert await asyncio.wait_for(reader.readexactly(len(payload)), 5) == payload
    return time.monotonic() - started_s


async def is_silent(reader: asyncio.StreamReader, for_s: float = 0.15) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), for_s)
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize("seed", range(3))
async def test_every_byte_comes_through_any_schedule_in_order(seed: int) -> None:
    chance = random.Random(seed)
    shape = Shape(
        up_mbit=chance.uniform(5, 50),
        rtt_ms=chance.uniform(0, 30),
        jitter_ms=chance.uniform(0, 20),
        outages=((chance.uniform(0, 0.1), 0.1), (0.3, 0.05)),
        buffer_bytes=chance.choice([1, 5_000, 65_536]),
        seed=seed,
    )
    payload = chance.randbytes(200_000)
    async with echo_behind(shape) as link, connected(link) as (reader, writer):

        async def send() -> None:
            at = 0
            while at < len(payload):
                end = at + chance.randint(1, 20_000)
                writer.write(payload[at:end])
                at = end
                await asyncio.sleep(chance.uniform(0, 0.002))
                if chance.random() < 0.2:
                    link.stall()
                    await asyncio.sleep(0.005)
                    link.resume()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await asyncio.wait_for(reader.read(-1), 10) == payload
        await sending
    assert link.up_bytes == link.down_bytes == len(payload)
    assert (link.connections, link.broken) == (1, 0)


async def test_throughput_is_the_rate_of_the_shape() -> None:
    async with echo_behind(Shape(up_mbit=1)) as link, connected(link) as streams:
        await exchange(streams, b"warm")
        took_s = await exchange(streams, bytes(62_500))
    assert took_s == pytest.approx(0.5, rel=0.1)


async def test_two_connections_share_one_link() -> None:
    async with echo_behind(Shape(up_mbit=2)) as link, connected(link) as one, connected(link) as two:
        took_s = await asyncio.gather(exchange(one, bytes(62_500)), exchange(two, bytes(62_500)))
    assert max(took_s) == pytest.approx(0.5, rel=0.1)
    assert min(took_s) > 0.3


async def test_a_round_trip_is_added_once_to_an_exchange_and_once_to_a_connection() -> None:
    async with echo_behind(Shape(rtt_ms=100)) as link, connected(link) as streams:
        assert await exchange(streams, b"first") == pytest.approx(0.2, abs=0.04)
        assert await exchange(streams, b"second") == pytest.approx(0.1, abs=0.03)


async def test_an_outage_holds_bytes_and_loses_none() -> None:
    async with echo_behind(Shape(outages=((0.2, 0.5),))) as link, connected(link) as streams:
        link.restart_trace()
        assert await exchange(streams, b"before") < 0.1
        await asyncio.sleep(0.25)
        assert await exchange(streams, bytes(10_000)) == pytest.approx(0.45, abs=0.08)
        link.restart_trace()
        assert await exchange(streams, b"before the next one") < 0.1


async def test_a_stalled_link_holds_bytes_until_it_is_resumed() -> None:
    async with echo_behind() as link, connected(link) as (reader, writer):
        await exchange((reader, writer), b"before")
        link.stall()
        writer.write(b"held")
        assert await is_silent(reader)
        assert link.up_bytes == len(b"before")
        async with connected(link) as (late_reader, late_writer):
            late_writer.write(b"late")
            assert await is_silent(late_reader)
            link.resume()
            assert await asyncio.wait_for(reader.readexactly(4), 1) == b"held"
            assert await asyncio.wait_for(late_reader.readexactly(4), 1) == b"late"


async def test_a_cut_link_closes_connections_and_takes_none_until_it_is_resumed() -> None:
    async with echo_behind() as link:
        async with connected(link) as (reader, writer):
            await exchange((reader, writer), b"before")
            link.cut()
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 1) == b""
        async with connected(link) as (reader, _):
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 1) == b""
        assert link.connections == 1
        link.resume()
        async with connected(link) as streams:
            await exchange(streams, b"after")


async def test_bytes_held_by_a_stall_do_not_escape_when_the_link_is_cut() -> None:
    async with echo_behind() as link, connected(link) as (reader, writer):
        await exchange((reader, writer), b"before")
        link.stall()
        writer.write(b"held")
        await asyncio.sleep(0.05)
        link.cut()
        await asyncio.sleep(0.05)
        assert link.up_bytes == len(b"before")


async def test_a_half_open_link_swallows_and_says_nothing() -> None:
    async with echo_behind() as link, connected(link) as (reader, writer), connected(link) as idle:
        await exchange((reader, writer), b"before")
        await exchange(idle, b"before")
        link.half_open()
        async with connected(link) as (late_reader, late_writer):
            for end in (writer, late_writer):
                end.write(bytes(500_000))
                await asyncio.wait_for(end.drain(), 1)  # it is read, not left to pile up
            late_writer.write_eof()
            assert await is_silent(reader)
            assert await is_silent(late_reader)
            assert link.up_bytes == 2 * len(b"before")
            link.resume()
            for end_reader in (reader, late_reader):
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(end_reader.read(), 1)
        await exchange(idle, b"lost nothing, so lives")
        assert link.up_bytes == 2 * len(b"before") + len(b"lost nothing, so lives")


async def test_reset_gives_connection_reset_and_new_connections_work() -> None:
    async with echo_behind() as link:
        async with connected(link) as (reader, writer):
            await exchange((reader, writer), b"before")
            link.reset()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 1)
        async with connected(link) as streams:
            await exchange(streams, b"after")


async def test_the_end_of_a_stream_passes_and_the_other_way_stays_open() -> None:
    async with echo_behind(Shape(rtt_ms=40)) as link, connected(link) as (reader, writer):
        writer.write(b"question")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 2) == b"question"


@pytest.mark.parametrize("buffer_bytes", [8_192, 131_072])
async def test_a_sender_is_stopped_when_the_buffer_is_full(buffer_bytes: int) -> None:
    shape = Shape(up_mbit=0.01, buffer_bytes=buffer_bytes)
    async with echo_behind(shape) as link:
        host, _, port = link.address.rpartition(":")
        with socket.create_connection((host, int(port))) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
            sender.setblocking(False)
            accepted = 0
            for _ in range(10):
                with suppress(BlockingIOError):
                    while True:
                        accepted += sender.send(bytes(16_384))
                await asyncio.sleep(0.05)
    # Beside the link's own buffer: one piece over, and the two kernels' buffers (Linux doubles them).
    assert buffer_bytes <= accepted <= buffer_bytes + 4096 + 2 * (65_536 + 16_384) + 16_384


async def test_a_server_that_is_not_there_resets_the_client() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with Netem(to=f"127.0.0.1:{closed.getsockname()[1]}") as link:
            async with connected(link) as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(reader.read(), 1)
            assert link.broken == 1


@pytest.mark.parametrize("mode", ["stall", "half_open", "cut", "resume"])
async def test_closing_never_hangs_with_bytes_in_the_link(mode: str) -> None:
    async with echo_behind(Shape(up_mbit=0.001, rtt_ms=1000)) as link, connected(link) as (_, writer):
        writer.write(bytes(1_000_000))
        await asyncio.sleep(0.05)
        getattr(link, mode)()
        async with connected(link):
            await asyncio.wait_for(link.close(), 0.5)
        await link.close()
