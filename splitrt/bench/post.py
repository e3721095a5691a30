"""Frames by HTTP POST, as the peers take them: HTTP/1.1 with connections kept open, on plain asyncio streams.

Lighter than a client library, so that the generator takes as little as it can of a machine that the server shares. A
request that is not answered in time is given up with its connection, as a client with a deadline would.
"""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress

from splitrt.bench.load import Answer, End
from splitrt.bench.peers import HEADER
from splitrt.bench.stream import Payload
from splitrt.codec.payload import Codec

REFUSALS = {429, 503}
EXPIRED = 504
HEAD_LIMIT_BYTES = 64 << 10

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Poster:
    """`ask` of an open loop: any client's frame, over any connection that is free."""

    def __init__(self, port: int, payload: Payload, is_json: bool = False) -> None:
        """is_json: in base64 under `frame`, for a server that takes no bytes."""
        body = HEADER.pack(len(payload.data), payload.width, payload.bits, Codec.PACKED) + payload.data
        if is_json:
            body = json.dumps({"frame": base64.b64encode(body).decode()}).encode()
        kind = "application/json" if is_json else "application/octet-stream"
        head = f"POST /infer HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._port, self._request = port, head.encode() + body
        self._free: list[Connection] = []

    async def ask(self, client: int, left_s: float) -> Answer:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(left_s):
                connection = await self._connection()
                connection[1].write(self._request)
                status = await _status(connection[0])
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError):
            if connection is not None:
                connection[1].close()
            return Answer(End.NONE)
        self._free.append(connection)
        if status in REFUSALS:
            return Answer(End.REFUSED)
        return Answer(End.OUTPUTS if status == 200 else End.EXPIRED if status == EXPIRED else End.FAILED)

    async def close(self) -> None:
        for _, writer in self._free:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if not connection[0].at_eof():
                return connection
        return await asyncio.open_connection("127.0.0.1", self._port, limit=HEAD_LIMIT_BYTES)


async def _status(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status, _, rest = head.partition("\r\n")
    size = next(int(line.partition(":")[2]) for line in rest.splitlines() if line.startswith("content-length:"))
    await reader.readexactly(size)
    return int(status.split()[1])
