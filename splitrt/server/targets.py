"""The replicas of one language bundle, and which text is on which.

A text stays where its keys and values are, for its stream's life and across reconnects, as long as that replica lives;
others do not move when a replica is replaced. The table is this gateway's own and may forget: a text that comes to
another replica is read there anew from the tokens that its device holds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from pydantic import SecretStr

from splitrt.errors import Overloaded
from splitrt.language.bundle import LanguageBundle
from splitrt.rpc import speculation
from splitrt.rpc.channel import client_options
from splitrt.server.auth import ON_BEHALF_OF, bearer
from splitrt.server.sessions import Key

CONNECT_S = 5.0
MOST_TEXTS = 1 << 16  # whose place is remembered
RETRY_AFTER_MS = 1_000.0
REST_S = 0.5


class Targets:
    def __init__(
        self,
        bundle: LanguageBundle,
        credential: SecretStr,
        max_message_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundle, self._clock = bundle, clock
        self._credential, self._options = credential, client_options(max_message_bytes)
        self._channels: dict[str, Any] = {}  # by address; of replicas that take new streams
        self._resting: dict[str, float] = {}  # until when one that could not be reached is not asked
        self._open: Counter[str] = Counter()  # streams by address
        self._places: OrderedDict[Key, str] = OrderedDict()  # longest unused first

    @property
    def ready(self) -> int:
        return len(self._channels)

    @property
    def sessions(self) -> int:
        """Texts with an open stream: which others replicas keep is not told."""
        return self._open.total()

    def update(self, addresses: Iterable[str]) -> None:
        """These are the replicas now. Streams on one that is gone end with it."""
        wanted = set(addresses)
        for address in set(self._channels) - wanted:
            self._forget(address)
        for address in wanted - set(self._channels):
            self._channels[address] = grpc.aio.insecure_channel(address, options=self._options)

    async def close(self) -> None:
        channels, self._channels = list(self._channels.values()), {}
        await asyncio.gather(*(channel.close() for channel in channels))

    @asynccontextmanager
    async def stream(self, key: Key) -> AsyncIterator[Any]:
        """A call of serialised messages on the replica that has this text, or else on the one with fewest.

        Raises Overloaded where none can be reached.
        """
        asked: set[str] = set()
        while (address := self._place(key, asked)) is not None:
            asked.add(address)
            metadata = (*bearer(self._credential), (ON_BEHALF_OF, key[0].encode()))
            call = speculation.open_bytes(self._channels[address])(metadata=metadata)
            self._open[address] += 1  # before it is: of many that come at once none would see the others
            try:
                try:
                    async with asyncio.timeout(CONNECT_S):
                        await call.wait_for_connection()
                except (TimeoutError, grpc.RpcError):
                    self._rest(address)
                    continue
                yield call
            finally:
                self._open[address] -= 1
                call.cancel()
            return
        raise Overloaded("overloaded: no target is ready", retry_after_ms=RETRY_AFTER_MS)

    def _place(self, key: Key, asked: set[str]) -> str | None:
        now = self._clock()
        awake = [one for one in self._channels if self._resting.get(one, 0.0) <= now and one not in asked]
        address = self._places.pop(key, None)
        if address not in awake:
            address = min(awake, key=lambda one: self._open[one], default=None)
        if address is not None:
            self._places[key] = address
            while len(self._places) > MOST_TEXTS:
                self._places.popitem(last=False)
        return address

    def _rest(self, address: str) -> None:
        """Whoever tells of replicas has nothing new to tell where one lives and only its connection broke."""
        if address in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=self._options)
            self._resting[address] = self._clock() + REST_S

    def _forget(self, address: str) -> None:
        # Streams hold the channel until they end; it closes when the last is gone.
        self._channels.pop(address, None)
        self._resting.pop(address, None)
