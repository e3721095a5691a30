"""A TCP proxy that behaves like a link: paced by a `Shape`, broken on command.

    client -> read <= 4 KiB -> Pipe "up"   -> held until it arrives -> write -> server
    client <- write <- held until it arrives <- Pipe "down" <- read <= 4 KiB <- server

It adds no headers, and of a connection that it keeps it loses no bytes. A new connection crosses the
link and back before its first byte does, as a real one; the client's own `connect` returns at once.
Timers are the event loop's, good to about a millisecond. It is for tests: it authenticates nobody.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

from splitrt.netem import sockets
from splitrt.netem.playback import Playback
from splitrt.netem.shape import Shape
from splitrt.netem.sockets import Connection
from splitrt.netem.trace import Direction

PIECE_BYTES = 4096  # read at once, so that a large write is paced like packets
PIECES = 1024  # in the link, for one direction of one connection; at the bound its sender waits
CONTROL_BYTES = 40  # a SYN or a FIN
ACCEPT_RETRY_S = 0.05  # after a failed accept: out of file descriptors, for one
_Pieces = asyncio.Queue[tuple[float, bytes]]  # (due on the clock, bytes); no bytes end the stream


class Mode(enum.Enum):
    FLOW = "flow"
    STALL = "stall"
    CUT = "cut"
    HALF_OPEN = "half_open"


class Netem:
    """`async with Netem(to="127.0.0.1:7070", shape=Shape(up_mbit=5)) as link: connect(link.address)`.

    Its commands (`stall`, `cut` and so on) are for the event loop's thread. `stall`, `cut`, `half_open`
    and `resume` each replace the one before. The trace begins at the start, or at `restart_trace`.
    """

    def __init__(
        self,
        *,
        to: str,
        listen: str = "127.0.0.1:0",
        shape: Shape | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.up_bytes = 0  # written to the server
        self.down_bytes = 0  # written to the client
        self.connections = 0  # accepted since the start
        self.broken = 0  # of those, ended by a socket's error: reset, or a server not there
        self._to, self._listen = to, listen
        self._clock = clock
        self._link = Playback(Shape() if shape is None else shape, clock)
        self._mode = Mode.FLOW
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: dict[Connection, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None
        self._runner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def address(self) -> str:
        """`host:port` where clients connect; known once started."""
        assert self._listener is not None, "start() comes first"
        return sockets.write(self._listener.getsockname()[:2])

    async def start(self) -> None:
        server = await sockets.resolve(self._to, "netem.to")
        self._listener = sockets.bind(await sockets.resolve(self._listen, "netem.listen"), "netem.listen")
        self._link.restart()
        self._runner = asyncio.create_task(self._accept(self._listener, server), name="netem")

    async def close(self) -> None:
        """Close every connection at once: bytes still in the link are gone. Twice does no harm."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        runner.cancel()
        await asyncio.wait([runner])
        if not runner.cancelled():
            runner.result()  # a defect of ours must not pass unseen

    def restart_trace(self) -> None:
        """The trace's time zero is now. Bytes already in the link keep the arrival they were given."""
        self._link.restart()

    def stall(self) -> None:
        """Hold the bytes of both directions; connections stay. What is held leaves at `resume`."""
        self._enter(Mode.STALL)

    def cut(self) -> None:
        """Close all connections now, and new ones as they come."""
        self._enter(Mode.CUT)
        self._end(self._open)

    def half_open(self) -> None:
        """Accept, read and discard both ways, and say nothing: a peer that lost its power."""
        self._enter(Mode.HALF_OPEN)

    def resume(self) -> None:
        """Carry bytes again. A connection that lost some is reset: a byte stream has no holes."""
        self._enter(Mode.FLOW)
        holed = [connection for connection in self._open if connection.has_hole]
        for connection in holed:
            connection.reset_on_close()
        self._end(holed)

    def reset(self) -> None:
        """RST to both ends of every connection; new ones are carried."""
        for connection in self._open:
            connection.reset_on_close()
        self._end(self._open)

    def _enter(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.STALL:
            self._flowing.clear()
        else:
            self._flowing.set()

    def _end(self, connections: Iterable[Connection]) -> None:
        for connection in connections:
            self._open[connection].cancel()

    async def _accept(self, listener: socket.socket, server: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        client, _ = await loop.sock_accept(listener)
                    except OSError:
                        self.broken += 1
                        await asyncio.sleep(ACCEPT_RETRY_S)
                        continue
                    if self._mode is Mode.CUT:
                        client.close()
                        continue
                    self.connections += 1
                    connection = Connection(client)
                    task = group.create_task(self._carry(connection, server))
                    self._open[connection] = task
                    # A callback, for a task cancelled before its first step runs no `finally`.
                    task.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: Connection, _: asyncio.Task[None]) -> None:
        del self._open[connection]
        connection.close()

    async def _carry(self, connection: Connection, server: tuple[str, int]) -> None:
        try:
            await self._until(self._link.due_s("up", CONTROL_BYTES))  # SYN
            await self._until(self._link.due_s("down", CONTROL_BYTES))  # SYN-ACK
            if self._mode is Mode.HALF_OPEN:
                connection.has_hole = True
                while await asyncio.get_running_loop().sock_recv(connection.client, PIECE_BYTES):
                    pass
                await asyncio.Event().wait()  # to close would be an answer
            client, far = connection.client, await connection.dial(server)
            async with asyncio.TaskGroup() as group:
                up: _Pieces = asyncio.Queue(PIECES)
                down: _Pieces = asyncio.Queue(PIECES)
                group.create_task(self._read(client, "up", up))
                group.create_task(self._write(connection, far, "up", up))
                group.create_task(self._read(far, "down", down))
                group.create_task(self._write(connection, client, "down", down))
        except* OSError:
            self.broken += 1
            connection.reset_on_close()

    async def _read(self, source: socket.socket, direction: Direction, pieces: _Pieces) -> None:
        loop, link = asyncio.get_running_loop(), self._link
        piece = b"more"
        while piece:
            await self._flowing.wait()
            while (wait_s := link.wait_s(direction)) > 0:
                await asyncio.sleep(wait_s)
            piece = await loop.sock_recv(source, PIECE_BYTES)
            await pieces.put((link.due_s(direction, len(piece) or CONTROL_BYTES), piece))
            await asyncio.sleep(0)  # connections take turns: a full socket would never yield

    async def _write(self, connection: Connection, sink: socket.socket, direction: Direction, pieces: _Pieces) -> None:
        loop = asyncio.get_running_loop()
        piece = b"more"
        while piece:
            due_s, piece = await pieces.get()
            await self._until(due_s)
            # Cancelling takes a turn of the loop: a connection that is over may still come by here.
            if connection.has_hole or self._mode in (Mode.HALF_OPEN, Mode.CUT):
                connection.has_hole = True
            elif not piece:
                sink.shutdown(socket.SHUT_WR)
            else:
                await loop.sock_sendall(sink, piece)
                self.up_bytes += len(piece) if direction == "up" else 0
                self.down_bytes += len(piece) if direction == "down" else 0

    async def _until(self, due_s: float) -> None:
        await self._flowing.wait()
        while (wait_s := due_s - self._clock()) > 0:
            await asyncio.sleep(wait_s)
            await self._flowing.wait()
