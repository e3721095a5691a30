"""What every Speculate stream goes through before its rounds, whoever answers those: who opens it, of which bundle.

Whatever ends a stream then becomes its call's status here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError

from splitrt.config import ServerConfig
from splitrt.errors import BadFrame, ModelNotFound, Overloaded, ServerDraining, SplitError, VersionGone
from splitrt.language.bundle import LanguageBundle
from splitrt.metrics import ServerMetrics
from splitrt.rpc import status
from splitrt.rpc.rounds import Opening
from splitrt.server.sessions import Key
from splitrt.server.uses import Uses

UNREAD_S = 30.0


class Offered(Protocol):
    bundle: LanguageBundle


T = TypeVar("T", bound=Offered)


@dataclass(slots=True)
class TextStream(Generic[T]):
    """A stream that was let in. is_open: set once it is answered; what ends it before that counts as refused."""

    target: T
    key: Key
    opening: Opening
    is_open: bool = False


class Front(Generic[T]):
    def __init__(
        self,
        targets: Callable[[], Sequence[T]],
        metrics: ServerMetrics,
        *,
        settings: Callable[[], ServerConfig],
        principal: Callable[[Any], str],
        is_draining: Callable[[], bool],
        uses: Uses,
    ) -> None:
        """targets, settings: those that hold now, asked for at every call. principal: whose a call is, or it raises
        Unauthenticated. uses: is told which bundles have open streams.
        """
        self.metrics = metrics
        self._targets, self._settings = targets, settings
        self._principal, self._is_draining, self._uses = principal, is_draining, uses

    @asynccontextmanager
    async def stream(self, context: Any, read: Callable[[], Awaitable[Opening | None]]) -> AsyncIterator[TextStream[T]]:
        """read: the stream's first message, None where that is no opening. An error ends the call with its status."""
        stream: TextStream[T] | None = None
        try:
            principal = self._principal(context)
            opening = await self._opening(read)
            self._admit()
            target = self._find(opening)
            with self._uses.of(target.bundle.name), self.metrics.text_streams.track_inprogress():
                stream = TextStream(target, (principal, opening.session), opening)
                yield stream
        except SplitError as error:
            if stream is None or not stream.is_open:
                self.metrics.refused_streams.labels(error.code).inc()
            await status.abort(context, error)
        except TimeoutError:
            unread = f"verdicts must be read within {UNREAD_S:g} s"
            await status.abort(context, Overloaded(unread, retry_after_ms=1_000, reason="unread"))

    def _admit(self) -> None:
        """With nothing awaited until the stream is counted: calls that wait for their opening are not."""
        if self._is_draining():
            raise ServerDraining("the server is draining and takes no new streams")
        if len(self._uses) >= (most := self._settings().max_streams):
            raise Overloaded(f"at most {most} streams may be open", retry_after_ms=1_000, reason="streams")

    async def _opening(self, read: Callable[[], Awaitable[Opening | None]]) -> Opening:
        seconds = self._settings().hello_timeout_s
        try:
            async with asyncio.timeout(seconds):
                opening = await read()
        except TimeoutError:
            raise BadFrame(f"a stream must begin with an opening within {seconds:g} s", reason="hello") from None
        except DecodeError:
            raise BadFrame("a message must be a splitrt.rpc.v1.FromDrafter", reason="malformed") from None
        if opening is None:
            raise BadFrame("a stream must begin with an opening", reason="hello")
        return opening

    def _find(self, opening: Opening) -> T:
        """The version asked for; everything else that must agree is the target's to check."""
        targets = self._targets()
        named = [one for one in targets if one.bundle.manifest.name == opening.bundle]
        if not named:
            known = ", ".join(sorted({one.bundle.manifest.name for one in targets}))
            raise ModelNotFound(f"bundle must be one of {known}, got {opening.bundle[:64]!r}")
        for one in named:
            if one.bundle.manifest.version == opening.version:
                return one
        known = ", ".join(sorted(one.bundle.manifest.version for one in named))
        raise VersionGone(f"version of {opening.bundle} must be one of {known}, got {opening.version[:20]!r}")
