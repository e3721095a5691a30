"""Speculate streams between devices and the replicas that hold their texts: bytes both ways, as they come.

Only the opening is read here, for whose text it is and of which bundle; rounds and verdicts are looked at to be counted
and passed on as they were. A replica that goes away ends its streams as a lost link does: the device opens another and
sends its committed tokens again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from splitrt.config import ServerConfig
from splitrt.errors import BadFrame, ModelNotFound, Overloaded, ServerDraining, SplitError, VersionGone
from splitrt.metrics import ServerMetrics
from splitrt.rpc import speculation, status
from splitrt.rpc.rounds import Opening, Verdict
from splitrt.server.targets import Targets
from splitrt.server.uses import Uses

UNREAD_S = 30.0


class SpeculateRelay:
    def __init__(
        self,
        targets: Callable[[], Sequence[Targets]],
        metrics: ServerMetrics,
        *,
        settings: Callable[[], ServerConfig],
        principal: Callable[[Any], str],
        is_draining: Callable[[], bool],
        uses: Uses,
    ) -> None:
        """As SpeculateServicer's, with targets elsewhere."""
        self._targets, self._metrics, self._settings = targets, metrics, settings
        self._principal, self._is_draining, self._uses = principal, is_draining, uses

    async def generate(self, _: Any, context: Any) -> None:
        """One text's stream; messages are bytes."""
        is_open = False
        try:
            principal = self._principal(context)
            if self._is_draining():
                raise ServerDraining("the server is draining and takes no new streams")
            if len(self._uses) >= (most := self._settings().max_streams):
                raise Overloaded(f"at most {most} streams may be open", retry_after_ms=1_000, reason="streams")
            first, opening = await self._opening(context)
            targets = self._find(opening)
            with self._uses.of(targets.bundle.name), self._metrics.text_streams.track_inprogress():
                is_open = True
                async with targets.stream((principal, opening.session)) as call:
                    await call.write(first)
                    await self._relay(context, call, targets.bundle.manifest.name)
        except SplitError as error:
            if not is_open:
                self._metrics.refused_streams.labels(error.code).inc()
            await status.abort(context, error)
        except grpc.RpcError as error:
            await _pass_on(context, error)
        except TimeoutError:
            unread = f"verdicts must be read within {UNREAD_S:g} s"
            await status.abort(context, Overloaded(unread, retry_after_ms=1_000, reason="unread"))

    async def _relay(self, context: Any, call: Any, bundle: str) -> None:
        up = asyncio.create_task(_up(context, call))
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                self._count(bundle, message)
                async with asyncio.timeout(UNREAD_S):
                    await context.write(message)
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)

    def _count(self, bundle: str, message: bytes) -> None:
        verdict = speculation.verdict_in(message)
        if isinstance(verdict, Verdict):
            outcome = "need_prefix" if verdict.need_prefix else verdict.error.code if verdict.error else "verified"
            self._metrics.rounds.labels(bundle, outcome).inc()
            self._metrics.draft_tokens.labels(bundle, "accepted").inc(len(verdict.path))
            self._metrics.accepted_length.labels(bundle).observe(len(verdict.path))
            if not verdict.need_prefix:
                self._metrics.tokens.labels(bundle).inc(len(verdict.path) + len(verdict.tokens))
                self._metrics.target_calls.labels(bundle).inc()
            self._metrics.round_seconds.labels(bundle, "queue").observe(verdict.queue_s)
            self._metrics.round_seconds.labels(bundle, "verify").observe(verdict.verify_s)

    async def _opening(self, context: Any) -> tuple[bytes, Opening]:
        seconds = self._settings().hello_timeout_s
        try:
            async with asyncio.timeout(seconds):
                first = await context.read()
            opening = None if first is grpc.aio.EOF else speculation.opening_in(first)
        except TimeoutError:
            raise BadFrame(f"a stream must begin with an opening within {seconds:g} s", reason="hello") from None
        except DecodeError:
            raise BadFrame("a message must be a splitrt.rpc.v1.FromDrafter", reason="malformed") from None
        if opening is None:
            raise BadFrame("a stream must begin with an opening", reason="hello")
        return first, opening

    def _find(self, opening: Opening) -> Targets:
        """The version asked for; everything else that must agree is the replica's to check."""
        named = [one for one in self._targets() if one.bundle.manifest.name == opening.bundle]
        if not named:
            known = ", ".join(sorted({one.bundle.manifest.name for one in self._targets()}))
            raise ModelNotFound(f"bundle must be one of {known}, got {opening.bundle[:64]!r}")
        for one in named:
            if one.bundle.manifest.version == opening.version:
                return one
        known = ", ".join(sorted(one.bundle.manifest.version for one in named))
        raise VersionGone(f"version of {opening.bundle} must be one of {known}, got {opening.version[:20]!r}")


async def _up(context: Any, call: Any) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        await call.write(message)
    await call.done_writing()


async def _pass_on(context: Any, error: grpc.RpcError) -> NoReturn:
    """What the replica said; one that went away said nothing, and its words for that are not for devices."""
    named = dict(error.trailing_metadata() or ()).get(status.CODE_METADATA)
    if named is None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the target of this text went away: open it again")
    await context.abort(error.code(), error.details() or "", ((status.CODE_METADATA, named),))
    raise AssertionError("abort does not return")
