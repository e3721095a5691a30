"""The stream of one text to its verifier, kept up as long as the block runs: rounds out, verdicts in.

It keeps nothing of what was sent over a connection that ended: a round is asked again by who still wants it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from splitrt.config import ClientConfig
from splitrt.device.channels import Channels
from splitrt.device.connections import Connections, failing_as, greeted
from splitrt.device.credentials import call_metadata, open_channel
from splitrt.errors import (
    BadFrame,
    LinkLost,
    SplitError,
)
from splitrt.policy.backoff import PLAIN, Pace
from splitrt.policy.queue import InFlight, Unanswered
from splitrt.rpc.rounds import Opened, Opening, Round, Verdict
from splitrt.rpc.speculation import from_verifier, link_bytes, open_stub, opening_to_wire, round_to_wire

MOST_ARRIVED = 1024  # verdicts that nobody took: more are a server's fault, and the oldest go


class GrpcVerifierLink:
    def __init__(
        self,
        config: ClientConfig,
        opening: Opening,
        channels: Channels | None = None,
        seed: int | None = None,
        pace: Callable[[InFlight], Pace] = lambda in_flight: PLAIN,
    ) -> None:
        """channels: where a connection comes from, and goes to when the text is over; None: one of its own. pace: of
        coming back, by what was on its way when the connection ended.
        """
        self._config, self._opening, self._channels = config, opening, channels
        self._connections = Connections(
            config.servers, self._connect, self._ended, seed, lambda: pace(self._in_flight())
        )
        self._unanswered: deque[Unanswered] = deque()  # the connection's, oldest first
        self._outgoing: asyncio.Queue[Round] = asyncio.Queue()
        self._arrived: deque[Verdict] = deque(maxlen=MOST_ARRIVED)
        self._stirred = asyncio.Event()
        self.opened: Opened | None = None  # of the connection that is up; None while none is
        self.up_bytes = self.down_bytes = 0

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.__aexit__(kind, error, trace)

    @property
    def connections(self) -> int:
        return self._connections.made

    @property
    def last_error(self) -> SplitError | None:
        return self._connections.last_error

    @property
    def refusal(self) -> SplitError | None:
        """Why no server will have us, once all have said so."""
        return self._connections.refusal

    def send(self, one: Round) -> int:
        """Hand a round to the connection that is up; the bytes that it takes on the link."""
        self._outgoing.put_nowait(one)
        size_bytes = link_bytes(round_to_wire(one))
        self._unanswered.append(Unanswered(link_bytes=size_bytes, sent_at=asyncio.get_running_loop().time()))
        return size_bytes

    def take(self) -> Verdict | None:
        """The oldest verdict that arrived and was not taken."""
        return self._arrived.popleft() if self._arrived else None

    @property
    def is_stirred(self) -> bool:
        return self._stirred.is_set()

    async def wait(self, most_s: float | None) -> None:
        """Until a verdict comes, the link goes up or down, or the time is over."""
        try:
            async with asyncio.timeout(most_s):
                await self._stirred.wait()
        except TimeoutError:
            pass
        self._stirred.clear()

    def settle(self) -> None:
        """What happened so far was seen."""
        self._stirred.clear()

    def _in_flight(self) -> InFlight:
        return InFlight(at=asyncio.get_running_loop().time(), frames=tuple(self._unanswered))

    def _ended(self, server: str, error: SplitError | None, was_up: bool) -> None:
        self.opened = None
        self._unanswered.clear()
        self._stirred.set()

    async def _connect(self, server: str) -> None:
        """One connection from opening to end. Raises SplitError."""
        channel = self._channels.take(server) if self._channels else open_channel(self._config, server)
        call: Any = None
        try:
            with failing_as(server):
                call = open_stub(channel).Generate(metadata=call_metadata(self._config))
                hello = opening_to_wire(self._opening)
                self.up_bytes += link_bytes(hello)
                opened = self._read(await greeted(call, hello, server, self._config.connect_timeout_s), server)
                if not isinstance(opened, Opened):
                    raise BadFrame(f"{server} must begin with an opened", reason="hello")
                while not self._outgoing.empty():
                    self._outgoing.get_nowait()
                self._unanswered.clear()
                self.opened = opened
                self._connections.came_up(server)
                self._stirred.set()
                await self._exchange(call, server)
        except asyncio.CancelledError:  # the text is over: nothing is wrong with its connection
            if self._channels is not None and call is not None:
                call.cancel()
                kept, channel = channel, None
                await self._channels.give_back(server, kept)
            raise
        finally:
            if channel is not None:
                await channel.close()

    async def _exchange(self, call: Any, server: str) -> None:
        writing = asyncio.create_task(self._write_rounds(call))
        try:
            while True:
                verdict = self._read(await call.read(), server)
                if isinstance(verdict, Verdict):
                    if self._unanswered:
                        self._unanswered.popleft()
                    self._arrived.append(verdict)
                    self._stirred.set()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write_rounds(self, call: Any) -> None:
        while True:
            message = round_to_wire(await self._outgoing.get())
            self.up_bytes += link_bytes(message)
            await call.write(message)

    def _read(self, message: Any, server: str) -> Opened | Verdict:
        if message is grpc.aio.EOF:
            raise LinkLost(f"{server} ended the stream")
        if message is None:
            raise BadFrame(f"{server} sent what is no splitrt.rpc.v1.FromVerifier", reason="malformed")
        self.down_bytes += link_bytes(message)
        return from_verifier(message)
