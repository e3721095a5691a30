"""The link over gRPC: one long bidirectional stream, kept up as long as the block runs.

    outbox ── writer ──> stream ──> reader ── replies
                 └ one connection after the other, over the servers in turn, with jittered back-off

A connection ends with an error, with the server's drain notice, or with ours. Frames that were on the wire
then end with LinkLost; frames still queued stay for the next connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import grpc

from splitrt.config import ClientConfig
from splitrt.device.chunk_queue import ChunkQueue
from splitrt.device.connections import Connections, failing_as, greeted
from splitrt.device.credentials import call_metadata, open_channel
from splitrt.device.link import OnReply, Sending
from splitrt.device.outbox import Outbox
from splitrt.errors import BadFrame, ClientClosed, InvalidInput, LinkLost, SplitError
from splitrt.policy.backoff import PLAIN, Pace
from splitrt.policy.queue import InFlight
from splitrt.rpc.frames import Acks, Drain, Frame, Hello, Limits, Reply
from splitrt.rpc.messages import chunks_to_wire, from_server, hello_to_wire, link_bytes, set_deadline
from splitrt.rpc.service import open_stub

STATUS_AFTER_WRITE_S = 0.2
MOST_GRACE_S = 60.0  # of a drain, whatever the server says


class GrpcLink:
    def __init__(
        self,
        config: ClientConfig,
        hello: Callable[[int], Hello],
        on_lost: Callable[[str], None] = lambda cause: None,
        seed: int | None = None,
        queue: Outbox | ChunkQueue | None = None,
        pace: Callable[[InFlight], Pace] = lambda in_flight: PLAIN,
    ) -> None:
        """hello: the stream's first message for a session epoch; on_lost: told whenever a connection ends, of the
        error's code or `drained`; queue: that frames wait in; pace: of coming back, asked before on_lost is told.
        """
        self._config, self._hello, self._on_lost = config, hello, on_lost
        self._connections = Connections(
            config.servers,
            self._connect,
            self._ended,
            seed,
            lambda: pace(self._outbox.in_flight(asyncio.get_running_loop().time())),
        )
        self._outbox = queue or Outbox(config.in_flight_bytes)
        self._limits: Limits | None = None
        self._is_up = False
        self._changed = asyncio.Event()  # set, and replaced, whenever the link goes up or an attempt ends
        self.up_bytes = self.down_bytes = 0  # with gRPC's framing
        self.stray_replies = 0  # late, repeated or unknown: counted, never delivered

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.__aexit__(kind, error, trace)
        self._outbox.fail_all(ClientClosed("the client was closed before this frame was answered"))

    # ── the frame loop's side ───────────────────────────────────────────────────────────────────────

    @property
    def connections(self) -> int:
        """Made so far."""
        return self._connections.made

    @property
    def last_error(self) -> SplitError | None:
        return self._connections.last_error

    @property
    def is_up(self) -> bool:
        return self._is_up

    @property
    def max_payload_bytes(self) -> int:
        return self._limits.max_payload_bytes if self._limits else 0

    def send(self, frame: Frame, deadline_at: float, on_reply: OnReply | None = None) -> Sending:
        loop = asyncio.get_running_loop()
        sending = Sending(frame=frame, deadline_at=deadline_at, reply=loop.create_future(), on_reply=on_reply)
        # Framed once; the time left is set again when it goes.
        framed = replace(frame, deadline_ms=_left_ms(deadline_at, loop))
        sending.chunks = chunks_to_wire(framed, self._outbox.most_bytes)
        self._outbox.put(sending)
        return sending

    def withdraw(self, sending: Sending) -> bool:
        return self._outbox.withdraw(sending)

    def in_flight(self, now: float) -> InFlight:
        return self._outbox.in_flight(now)

    async def wait_up(self) -> None:
        """Raises the last error once every server has said that it will not have us."""
        while not self._is_up:
            if (refusal := self._connections.refusal) is not None:
                raise refusal
            await self._changed.wait()

    def _turn(self, *, is_up: bool) -> None:
        self._is_up = is_up
        self._changed.set()
        self._changed = asyncio.Event()

    # ── the connection's side ───────────────────────────────────────────────────────────────────────

    def _ended(self, server: str, error: SplitError | None, was_up: bool) -> float | None:
        """Returns the time left to the nearest deadline of a frame that waits."""
        if was_up:
            self._on_lost(error.code if error is not None else "drained")
        self._turn(is_up=False)
        self._outbox.fail_sent(LinkLost(f"the connection to {server} ended"))
        need = self._outbox.soonest_deadline()
        return None if need is None else max(0.0, need - asyncio.get_running_loop().time())

    async def _connect(self, server: str) -> None:
        """One connection from hello to end; returns when the server drained it. Raises SplitError."""
        channel = open_channel(self._config, server)
        try:
            with failing_as(server):
                call = open_stub(channel).Infer(metadata=call_metadata(self._config))
                hello = hello_to_wire(self._hello(self.connections + 1))
                welcome = _message(await greeted(call, hello, server, self._config.connect_timeout_s), server)
                if not isinstance(welcome, Limits):
                    raise BadFrame(f"{server} must begin with a welcome", reason="hello")
                self._limits = welcome
                self._connections.came_up(server)
                self._turn(is_up=True)
                await self._exchange(call, server, welcome)
        finally:
            await channel.close()

    async def _exchange(self, call: Any, server: str, limits: Limits) -> None:
        """Read and write until one of them ends: an error, or the server's goodbye."""
        self._outbox.release()
        writing = asyncio.create_task(self._write(call, limits))
        reading = asyncio.create_task(self._read(call, server))
        tasks: list[asyncio.Task[Any]] = [writing, reading]
        try:
            done, _ = await asyncio.wait([writing, reading], return_when=asyncio.FIRST_COMPLETED)
            if reading not in done:
                # The reader knows why a stream ended, the writer only that it did.
                await asyncio.wait([reading], timeout=STATUS_AFTER_WRITE_S)
                if not reading.done():
                    writing.result()
            grace_s = reading.result()
            # Not cancelled: that would end a call in the middle of a write, with every frame on it.
            self._outbox.hold()
            resting = asyncio.create_task(self._read_rest(call, server))
            # A frame that degrades may have had its last answer: then nothing more is read, and its deadline ends it.
            idling = asyncio.create_task(self._outbox.idle())
            tasks += (resting, idling)
            async with asyncio.timeout(grace_s):
                await asyncio.wait([resting, idling], return_when=asyncio.FIRST_COMPLETED)
                if resting.done():
                    resting.result()
                await writing
                await call.done_writing()
        except TimeoutError:
            raise LinkLost(f"{server} drained and did not answer everything in time") from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, call: Any, limits: Limits) -> None:
        """Until the outbox is held."""
        loop = asyncio.get_running_loop()
        while (sending := await self._outbox.next(limits.max_in_flight)) is not None:
            if sending.sent_at is None:
                sending.sent_at = loop.time()
                set_deadline(sending.due, min(_left_ms(sending.deadline_at, loop), limits.max_deadline_ms))
            self.up_bytes += link_bytes(sending.due)
            for message in sending.due:
                await call.write(message)

    async def _read(self, call: Any, server: str) -> float:
        """Replies until the server drains: the grace that it gives, in seconds."""
        while True:
            message = self._hear(await call.read(), server)
            if isinstance(message, Drain):
                self._turn(is_up=False)
                return min(MOST_GRACE_S, message.grace_ms / 1e3)
            self._take(message)

    async def _read_rest(self, call: Any, server: str) -> None:
        """Replies until none is waited for."""
        while not self._outbox.is_idle():
            self._take(self._hear(await call.read(), server))

    def _hear(self, message: Any, server: str) -> Limits | Reply | Drain | Acks:
        heard = _message(message, server)
        self.down_bytes += link_bytes([message])
        return heard

    def _take(self, message: Limits | Reply | Drain | Acks) -> None:
        if isinstance(message, Acks):
            self._outbox.acked(message.messages)
        if not isinstance(message, Reply):
            return
        # Of some of its chunks: more answers may follow.
        sending = self._outbox.sent(message.seq) if message.chunks else self._outbox.answered(message.seq)
        if sending is None:
            self.stray_replies += 1
            return
        sending.replied(message, asyncio.get_running_loop().time())


def _message(message: Any, server: str) -> Limits | Reply | Drain | Acks:
    if message is grpc.aio.EOF:
        raise LinkLost(f"{server} ended the stream")
    if message is None:  # gRPC's word for bytes that are no message
        raise BadFrame(f"{server} sent what is no splitrt.rpc.v1.FromServer", reason="malformed")
    try:
        return from_server(message)
    except InvalidInput as error:
        raise BadFrame(f"{server} sent an output that is not sound: {error}") from error


def _left_ms(deadline_at: float, loop: asyncio.AbstractEventLoop) -> int:
    return max(1, round((deadline_at - loop.time()) * 1e3))
