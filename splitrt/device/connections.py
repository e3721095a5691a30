"""One connection after the other, over the servers in turn, with jittered back-off; what fails, in our own errors."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import grpc

from splitrt.errors import (
    ConfigError,
    InvalidInput,
    LinkLost,
    ModelNotFound,
    SplitError,
    Unauthenticated,
    VersionMismatch,
)
from splitrt.policy.backoff import PLAIN, Pace, delay_s
from splitrt.rpc import status

# What fails for one of these will fail again: the caller should know.
FATAL = (ConfigError, Unauthenticated, VersionMismatch, ModelNotFound, InvalidInput)
log = logging.getLogger(__name__)


class Connections:
    """An async context manager: connections are made inside it.

    connect: one connection from opening to end; it calls `came_up`, and returns where the server ended it in peace.
    ended: told of every attempt's server, error, and whether it had come up; returns the seconds after which the next
    attempt helps nobody, or None. pace: of coming back, asked where a connection that was up failed, before `ended` is.
    """

    def __init__(
        self,
        servers: Sequence[str],
        connect: Callable[[str], Awaitable[None]],
        ended: Callable[[str, SplitError | None, bool], float | None],
        seed: int | None = None,
        pace: Callable[[], Pace] = lambda: PLAIN,
    ) -> None:
        self.made = 0
        self.last_error: SplitError | None = None
        self._servers, self._connect, self._ended, self._pace = servers, connect, ended, pace
        self._draw = random.Random(seed)
        self._refused: set[str] = set()  # servers whose last word was that they will not have us
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_up(), name="link")
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
        return self.last_error if self._refused.issuperset(self._servers) else None

    def came_up(self, server: str) -> None:
        self.made += 1
        self._refused.discard(server)

    async def _keep_up(self) -> None:
        loop, attempt, turn = asyncio.get_running_loop(), 0, 0
        pace, lost_at = PLAIN, loop.time()
        while True:
            server, made, failed = self._servers[turn % len(self._servers)], self.made, None
            try:
                await self._connect(server)
            except SplitError as error:
                self.last_error = failed = error
                (self._refused.add if isinstance(error, FATAL) else self._refused.discard)(server)
                log.info("link to %s ended: %s", server, error)
            was_up = self.made > made
            if was_up:
                attempt, lost_at = 0, loop.time()
                pace = self._pace() if failed is not None else PLAIN
            soonest_need_s = self._ended(server, failed, was_up)
            turn += 1
            await asyncio.sleep(delay_s(attempt, self._draw, soonest_need_s, pace, loop.time() - lost_at))
            attempt += 1


async def greeted(call: Any, hello: Any, server: str, timeout_s: float) -> Any:
    """The server's first message, in answer to ours. Raises LinkLost where it takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            await call.write(hello)
            return await call.read()
    except TimeoutError:
        raise LinkLost(f"{server} did not answer within {timeout_s:g} s") from None


@contextmanager
def failing_as(server: str) -> Iterator[None]:
    """What gRPC raises, as our errors that name the server."""
    try:
        yield
    except grpc.RpcError as error:
        raise status.from_grpc(error, server) from error
    except asyncio.InvalidStateError as error:  # gRPC's word for a write on a call that has just ended
        raise LinkLost(f"the connection to {server} ended") from error
