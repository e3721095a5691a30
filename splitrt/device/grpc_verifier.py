"""The stream of one text to its verifier, kept up as long as the block runs: rounds out, verdicts in.

It keeps nothing of what was sent over a connection that ended: a round is asked again by who still wants it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from types import TracebackType
from typing import Any, Self

import grpc

from splitrt.config import ClientConfig
from splitrt.device.channels import Channels
from splitrt.device.credentials import call_metadata, open_channel
from splitrt.errors import (
    BadFrame,
    ConfigError,
    InvalidInput,
    LinkLost,
    ModelNotFound,
    SplitError,
    Unauthenticated,
    VersionMismatch,
)
from splitrt.policy.backoff import delay_s
from splitrt.rpc import status
from splitrt.rpc.rounds import Opened, Opening, Round, Verdict
from splitrt.rpc.speculation import from_verifier, link_bytes, open_stub, opening_to_wire, round_to_wire

FATAL = (ConfigError, Unauthenticated, VersionMismatch, ModelNotFound, InvalidInput)
MOST_ARRIVED = 1024  # verdicts that nobody took: more are a server's fault, and the oldest go
log = logging.getLogger(__name__)


class GrpcVerifierLink:
    def __init__(
        self, config: ClientConfig, opening: Opening, channels: Channels | None = None, seed: int | None = None
    ) -> None:
        """channels: where a connection comes from, and goes to when the text is over; None: one of its own."""
        self._config, self._opening, self._channels = config, opening, channels
        self._draw = random.Random(seed)
        self._outgoing: asyncio.Queue[Round] = asyncio.Queue()
        self._arrived: deque[Verdict] = deque(maxlen=MOST_ARRIVED)
        self._stirred = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._refused: set[str] = set()
        self.opened: Opened | None = None  # of the connection that is up; None while none is
        self.connections = 0
        self.up_bytes = self.down_bytes = 0
        self.last_error: SplitError | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_up(), name="verifier link")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    @property
    def refusal(self) -> SplitError | None:
        """Why no server will have us, once all have said so."""
        return self.last_error if self._refused.issuperset(self._config.servers) else None

    def send(self, one: Round) -> int:
        """Hand a round to the connection that is up; the bytes that it takes on the link."""
        self._outgoing.put_nowait(one)
        return link_bytes(round_to_wire(one))

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

    async def _keep_up(self) -> None:
        attempt = turn = 0
        while True:
            server, connections = self._config.servers[turn % len(self._config.servers)], self.connections
            try:
                await self._connect(server)
            except SplitError as error:
                self.last_error = error
                (self._refused.add if isinstance(error, FATAL) else self._refused.discard)(server)
                log.info("link to %s ended: %s", server, error)
            self.opened = None
            self._stirred.set()
            attempt = 0 if self.connections > connections else attempt + 1
            turn += 1
            await asyncio.sleep(delay_s(attempt, self._draw))

    async def _connect(self, server: str) -> None:
        """One connection from opening to end. Raises SplitError."""
        channel = self._channels.take(server) if self._channels else open_channel(self._config, server)
        call: Any = None
        try:
            call = open_stub(channel).Generate(metadata=call_metadata(self._config))
            try:
                async with asyncio.timeout(self._config.connect_timeout_s):
                    await self._write(call, opening_to_wire(self._opening))
                    opened = self._read(await call.read(), server)
            except TimeoutError:
                raise LinkLost(f"{server} did not answer within {self._config.connect_timeout_s:g} s") from None
            if not isinstance(opened, Opened):
                raise BadFrame(f"{server} must begin with an opened", reason="hello")
            while not self._outgoing.empty():
                self._outgoing.get_nowait()
            self.opened, self.connections = opened, self.connections + 1
            self._refused.discard(server)
            self._stirred.set()
            await self._exchange(call, server)
        except grpc.RpcError as error:
            raise status.from_grpc(error, server) from error
        except asyncio.InvalidStateError as error:
            raise LinkLost(f"the connection to {server} ended") from error
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
                    self._arrived.append(verdict)
                    self._stirred.set()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write_rounds(self, call: Any) -> None:
        while True:
            await self._write(call, round_to_wire(await self._outgoing.get()))

    async def _write(self, call: Any, message: Any) -> None:
        self.up_bytes += link_bytes(message)
        await call.write(message)

    def _read(self, message: Any, server: str) -> Opened | Verdict:
        if message is grpc.aio.EOF:
            raise LinkLost(f"{server} ended the stream")
        if message is None:
            raise BadFrame(f"{server} sent what is no splitrt.rpc.v1.FromVerifier", reason="malformed")
        self.down_bytes += link_bytes(message)
        return from_verifier(message)
