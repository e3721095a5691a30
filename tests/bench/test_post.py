from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from splitrt.bench.load import End
from splitrt.bench.post import Poster
from splitrt.bench.stream import Payload
from splitrt.bundle import Bundle


@asynccontextmanager
async def server(status: int, delay_s: float = 0.0) -> AsyncIterator[tuple[int, list[int]]]:
    """One that answers every request so; gives its port, and a count a connection of requests."""
    requests: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(requests)
        requests.append(0)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(head.lower().partition("content-length: ")[2].split()[0]))
                requests[place] += 1
                await asyncio.sleep(delay_s)
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok".encode())
        except asyncio.IncompleteReadError:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], requests
    finally:
        listening.close()


@pytest.mark.parametrize(
    ("status", "end"), [(200, End.OUTPUTS), (503, End.REFUSED), (504, End.EXPIRED), (500, End.FAILED)]
)
async def test_a_status_says_how_a_request_ended(photos: Bundle, status: int, end: End) -> None:
    async with server(status) as (port, requests):
        poster = Poster(port, Payload.of(photos))
        assert [(await poster.ask(0, 5.0)).end for _ in range(3)] == [end] * 3
        assert requests == [3]  # one connection, kept
        await poster.close()


async def test_a_request_that_is_late_is_given_up_with_its_connection(photos: Bundle) -> None:
    async with server(200, delay_s=0.2) as (port, requests):
        poster = Poster(port, Payload.of(photos), is_json=True)
        assert (await poster.ask(0, 0.05)).end is End.NONE
        assert (await poster.ask(0, 5.0)).end is End.OUTPUTS
        assert requests == [1, 1]
        await poster.close()
