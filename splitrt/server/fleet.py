"""The replicas of one bundle version as one pool of tails, wherever they run.

A frame goes to the replica with least to do; one whose replica went away under it is asked of another, once. Which
replicas there are is told by whoever runs them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from splitrt.errors import DeadlineExceeded, LinkLost, Overloaded, RemoteFailure
from splitrt.server.admission import out_of_time
from splitrt.server.upstream import Upstream
from splitrt.server.work import Outcome, Work

ASKED_AT_MOST = 2  # replicas for one frame
RETRY_AFTER_MS = 1_000.0  # a replica that died is back after about three seconds
RECONNECT_S = 0.5  # after a stream to a replica that should be there has ended
log = logging.getLogger(__name__)


class Fleet:
    """A TailPool, as an async context manager."""

    def __init__(
        self, credential: SecretStr, max_message_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._credential, self._max_message_bytes, self._clock = credential, max_message_bytes, clock
        self._upstreams: dict[str, Upstream] = {}  # by address
        self._wanted: set[str] = set()  # addresses
        self._changing: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = self._changing | self._watching
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(one.close() for one in self._upstreams.values()))

    @property
    def ready(self) -> int:
        """Replicas that take frames. Any thread may ask, as of the next two."""
        return sum(one.is_ready for one in list(self._upstreams.values()))

    def queued(self) -> int:
        return sum(one.in_flight for one in list(self._upstreams.values()))

    def oldest_s(self) -> float:
        """Of the frames that a replica has not answered: they wait there, or are being run."""
        oldest = [at for one in list(self._upstreams.values()) if (at := one.oldest_at) is not None]
        return max(0.0, self._clock() - min(oldest)) if oldest else 0.0

    async def submit(self, work: Work) -> Outcome:
        asked: list[Upstream] = []
        while len(asked) < ASKED_AT_MOST:
            upstream = self._least_loaded(asked)
            if upstream is None:
                break
            now, wait_s = self._clock(), upstream.wait_s()
            if now >= work.deadline_at:
                return Outcome(error=DeadlineExceeded("deadline passed before a replica had it", stage="queue"))
            if now + wait_s > work.deadline_at:  # as the replica would say: its bytes need not go there for that
                return Outcome(error=out_of_time(wait_s))
            asked.append(upstream)
            try:
                return await upstream.submit(work)
            except LinkLost as error:
                log.warning("%s; frame resubmitted" if len(asked) < ASKED_AT_MOST else "%s twice", error)
        if asked:
            return Outcome(error=RemoteFailure("the tail of this frame went away, and no other answered"))
        return Outcome(error=Overloaded("overloaded: no tail is ready", retry_after_ms=RETRY_AFTER_MS, reason="tails"))

    def update(self, addresses: Iterable[str]) -> None:
        """These are the replicas now. New ones are connected to; those gone finish what they have."""
        wanted = set(addresses)
        for address, upstream in list(self._upstreams.items()):
            if address not in wanted:
                upstream.is_ready = False
            if upstream.is_lost or (address not in wanted and not upstream.in_flight):
                del self._upstreams[address]
                _own(self._changing, upstream.close())
        self._wanted = wanted
        for address in wanted - set(self._upstreams):
            self._add(address)

    async def connected(self) -> None:
        """Wait until what was told of is connected to, or cannot be."""
        await asyncio.gather(*self._changing, return_exceptions=True)

    def _least_loaded(self, asked: list[Upstream]) -> Upstream | None:
        ready = [one for one in self._upstreams.values() if one.is_ready and one not in asked]
        return min(ready, key=lambda one: one.load, default=None)

    def _add(self, address: str) -> None:
        upstream = Upstream(address, self._credential, self._max_message_bytes, self._clock)
        self._upstreams[address] = upstream
        opening = _own(self._changing, self._connect(upstream))
        _own(self._watching, self._watch(upstream, opening))

    async def _connect(self, upstream: Upstream) -> None:
        try:
            await upstream.open()
        except LinkLost as error:
            log.info("%s", error)

    async def _watch(self, upstream: Upstream, opening: asyncio.Task[None]) -> None:
        """A stream may end and its replica live: whoever tells of replicas then has nothing new to tell."""
        await asyncio.wait([opening])
        await upstream.ended()
        await asyncio.sleep(RECONNECT_S)
        if self._upstreams.get(upstream.address) is upstream and upstream.address in self._wanted:
            _own(self._changing, upstream.close())
            self._add(upstream.address)


def _own(owner: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    owner.add(task)
    task.add_done_callback(owner.discard)
    return task
