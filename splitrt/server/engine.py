"""Where tails run: in this process, or on a Ray cluster. The gateway is the same above either.

An engine opens tails (of a bundle) and targets (of a language bundle); what it gives runs for as long as the block.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import SecretStr

from splitrt.bundle import Bundle, find_bundle
from splitrt.config import ServerConfig
from splitrt.language.bundle import LanguageBundle, find_language
from splitrt.rpc import speculation
from splitrt.server.cluster import Cluster
from splitrt.server.fleet import Fleet
from splitrt.server.loading import load_verifier, load_worker
from splitrt.server.pool import EmbeddedPool, TailPool
from splitrt.server.targets import Targets


@dataclass(frozen=True, slots=True)
class Served:
    """One bundle version and the tails that run it."""

    bundle: Bundle
    pool: TailPool
    golden_difference: float
    ready: Callable[[], int]  # tails that take frames now


class Target(Protocol):
    """A language model that verifies, here or elsewhere."""

    @property
    def bundle(self) -> LanguageBundle: ...

    @property
    def ready(self) -> int: ...

    @property
    def sessions(self) -> int:
        """Texts that are kept."""
        ...


class Engine(Protocol):
    @property
    def cluster(self) -> str:
        """Where others join the cluster that this runs on; empty in this process."""

    def tails(self, name: str) -> AbstractAsyncContextManager[Served]:
        """Raises BundleError, ModelNotFound or EngineError where the bundle cannot be run."""

    def target(self, name: str) -> AbstractAsyncContextManager[Target]:
        """The same for a language bundle."""

    def add_speculate(self, server: Any, targets: Callable[[], Sequence[Any]], **given: Any) -> None:
        """The Speculate service of these targets, on this gRPC server; `given` is what its servicer takes."""


class Embedded:
    """In this process."""

    cluster = ""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    @asynccontextmanager
    async def tails(self, name: str) -> AsyncIterator[Served]:
        config = self._config
        worker = await asyncio.to_thread(load_worker, find_bundle(name, config.bundles_dir), config)
        difference = await asyncio.to_thread(worker.check_golden)
        async with EmbeddedPool(
            worker,
            max_queue_frames=config.max_queue_frames,
            max_batch=config.max_batch,
            max_batch_s=config.max_batch_ms / 1e3,
        ) as pool:
            yield Served(worker.bundle, pool, difference, lambda: 1)

    @asynccontextmanager
    async def target(self, name: str) -> AsyncIterator[Target]:
        with await asyncio.to_thread(load_verifier, name, self._config) as verifier:
            yield verifier

    def add_speculate(self, server: Any, targets: Callable[[], Sequence[Any]], **given: Any) -> None:
        from splitrt.server.front import Front
        from splitrt.server.speculate import SpeculateServicer

        speculation.add_servicer(SpeculateServicer(Front(targets, **given)), server)


class OnRay:
    """On a cluster, each bundle version an application of its own with replicas."""

    def __init__(self, config: ServerConfig, cluster: Cluster, credential: SecretStr) -> None:
        self._config, self._cluster, self._credential = config, cluster, credential
        self._max_message_bytes = 4 * config.max_payload_bytes

    @property
    def cluster(self) -> str:
        return self._cluster.address

    @asynccontextmanager
    async def tails(self, name: str) -> AsyncIterator[Served]:
        bundle = find_bundle(name, self._config.bundles_dir)
        async with Fleet(self._credential, self._max_message_bytes) as fleet:
            difference = await self._cluster.run(name, bundle.name, bundle.digest, fleet.update)
            try:
                await fleet.connected()
                yield Served(bundle, fleet, difference, lambda: fleet.ready)
            finally:
                self._cluster.delete(bundle.name)

    @asynccontextmanager
    async def target(self, name: str) -> AsyncIterator[Target]:
        bundle = find_language(name, self._config.bundles_dir)
        targets = Targets(bundle, self._credential, self._max_message_bytes)
        await self._cluster.run(name, bundle.name, bundle.digest, targets.update)
        try:
            yield targets
        finally:
            self._cluster.delete(bundle.name)
            await targets.close()

    def add_speculate(self, server: Any, targets: Callable[[], Sequence[Any]], **given: Any) -> None:
        from splitrt.server.front import Front
        from splitrt.server.relay import SpeculateRelay

        speculation.add_relay(SpeculateRelay(Front(targets, **given)).generate, server)


@asynccontextmanager
async def open_engine(config: ServerConfig) -> AsyncIterator[Engine]:
    """Raises EngineError where no cluster can be had."""
    if config.engine == "embedded":
        yield Embedded(config)
        return
    credential = config.replica_token or SecretStr(secrets.token_urlsafe(32))
    async with Cluster(config, credential) as cluster:
        yield OnRay(config, cluster, credential)
