"""The gateway: which bundles are served, who may open a stream, what is known of this server.

The wire's side of it is the servicer; frames of a stream are the session's. The gateway itself holds the
bundles with their pools, the caps, and the one-way switch to draining.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

from splitrt.bundle import Bundle
from splitrt.config import ServerConfig
from splitrt.errors import ModelNotFound, Overloaded, ServerDraining, VersionGone, VersionMismatch
from splitrt.language.bundle import LanguageBundle
from splitrt.metrics import ServerMetrics
from splitrt.rpc.frames import PROTOCOL, Hello, Limits, Reply
from splitrt.server.catalogue import Catalogue
from splitrt.server.engine import Served
from splitrt.server.session import Session


class Gateway:
    def __init__(
        self,
        config: ServerConfig,
        catalogue: Catalogue,
        metrics: ServerMetrics,
    ) -> None:
        self.reconfigure(config)
        self.metrics = metrics
        self.catalogue = catalogue
        self.draining = asyncio.Event()
        self._sessions: dict[Session, ExitStack] = {}
        metrics.ready.set_function(lambda: float(not self.draining.is_set() and catalogue.is_ready))
        metrics.queue_limit.set_function(lambda: self.config.max_queue_frames)
        metrics.streams_limit.set_function(lambda: self.config.max_streams)
        catalogue.show(metrics)

    async def offer(self, names: Sequence[str]) -> None:
        """These bundles and no others from now on; a version that goes ends with its last stream.

        Raises what opening one raises: then nothing has changed.
        """
        await self.catalogue.offer(names)
        for one in self.catalogue.served.values():
            self.metrics.of(one.bundle.manifest.name, one.bundle.manifest.version)

    def reconfigure(self, config: ServerConfig) -> None:
        """Calls look here for what holds. A stream keeps the limits that its welcome told."""
        self.config = config
        self.limits = Limits(
            max_payload_bytes=config.max_payload_bytes,
            max_deadline_ms=config.max_deadline_ms,
            max_in_flight=config.max_in_flight,
        )

    def open(
        self,
        hello: Hello,
        principal: str,
        write: Callable[[Reply], Awaitable[None]],
        acknowledge: Callable[[int], Awaitable[None]],
    ) -> Session:
        """A session for this hello; `close` it. Raises a SplitError that names what was wanted."""
        if self.draining.is_set():
            raise ServerDraining("the server is draining and takes no new streams")
        if len(self.catalogue.uses) >= self.config.max_streams:  # streams of texts among them
            raise Overloaded(
                f"at most {self.config.max_streams} streams may be open", retry_after_ms=1_000, reason="streams"
            )
        one = self._find(hello)
        session = Session(
            one.bundle,
            one.pool,
            self.limits,
            principal,
            write,
            self.metrics,
            deltas=hello.deltas,
            acknowledge=acknowledge if hello.degrades else None,
            stream=hello.stream,
        )
        with ExitStack() as stack:
            stack.enter_context(self.catalogue.uses.of(one.bundle.name))
            self._sessions[session] = stack.pop_all()
        self.metrics.opened.inc()
        self.metrics.streams.set(len(self._sessions))
        return session

    def close(self, session: Session) -> None:
        session.abandon()
        self._sessions.pop(session).close()
        self.metrics.streams.set(len(self._sessions))

    def drain(self) -> None:
        """From now on: no new streams, no new frames; what was admitted is answered."""
        self.draining.set()
        for session in self._sessions:
            session.draining = True

    def by_digest(self, digest: bytes) -> Bundle | LanguageBundle:
        """Raises ModelNotFound."""
        for bundle in self.catalogue.bundles:
            if bundle.digest == digest:
                return bundle
        raise ModelNotFound(f"no bundle here has digest {digest[:8].hex()}..")

    def _find(self, hello: Hello) -> Served:
        if hello.protocol != PROTOCOL:
            raise VersionMismatch(f"protocol must be {PROTOCOL}, got {hello.protocol}")
        served = self.catalogue.served.values()
        named = [one for one in served if one.bundle.manifest.name == hello.bundle]
        if not named:
            known = ", ".join(sorted({one.bundle.manifest.name for one in served}))
            raise ModelNotFound(f"bundle must be one of {known}, got {hello.bundle[:64]!r}")
        versions = [one for one in named if one.bundle.manifest.version == hello.version]
        if not versions:
            known = ", ".join(sorted(one.bundle.manifest.version for one in named))
            raise VersionGone(f"version of {hello.bundle} must be one of {known}, got {hello.version[:20]!r}")
        one = versions[0]
        if hello.bundle_digest != one.bundle.digest:
            wanted, given = one.bundle.digest[:8].hex(), hello.bundle_digest[:8].hex()
            raise VersionMismatch(f"digest of {one.bundle.name} must be {wanted}.., got {given}..")
        wanted_tables = one.bundle.tables.digest()
        if hello.tables_digest != wanted_tables:
            wanted, given = wanted_tables[:8].hex(), hello.tables_digest[:8].hex()
            raise VersionMismatch(f"tables digest of {one.bundle.name} must be {wanted}.., got {given}..")
        return one
