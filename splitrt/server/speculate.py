"""The Speculate service's wire edge: rounds in, verdicts out; an error of a round ends that round alone.

A target that fails ends the streams of that pass: their devices open others, and send their tokens again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import DecodeError

from splitrt.errors import BadFrame, RemoteFailure, SplitError
from splitrt.metrics import ServerMetrics
from splitrt.rpc.rounds import Opening, Round, Verdict
from splitrt.rpc.speculation import Servicer, from_drafter, opened_to_wire, refused, verdict_to_wire
from splitrt.server.front import UNREAD_S, Front
from splitrt.server.sessions import Key

if TYPE_CHECKING:
    from splitrt.server.verifier import Verifier

MOST_WAITING = 8  # rounds of one stream that are not answered yet; beyond them the device is not read
MOST_MORE = 1 << 16
T = TypeVar("T")
log = logging.getLogger(__name__)


class SpeculateServicer(Servicer):
    def __init__(self, front: Front[Verifier]) -> None:
        self._front = front

    async def Generate(self, _: Any, context: Any) -> None:
        """One text's stream."""

        async def read() -> Opening | None:
            first = await _next(context)
            return first if isinstance(first, Opening) else None

        async with self._front.stream(context, read) as stream:
            verifier = stream.target
            verifier.check(stream.opening)
            opened = opened_to_wire(await _asked(verifier.open(stream.key)))
            stream.is_open = True
            await context.write(opened)
            await _Stream(verifier, stream.key, stream.opening, context, self._front.metrics).run()


class _Stream:
    """Rounds of one stream, one after the other. A further round ends what the server does alone for an earlier."""

    def __init__(self, verifier: Verifier, key: Key, opening: Opening, context: Any, metrics: ServerMetrics) -> None:
        self._verifier, self._key, self._opening, self._context = verifier, key, opening, context
        self._metrics = metrics
        self._waiting: asyncio.Queue[Round | Verdict | SplitError | None] = asyncio.Queue(MOST_WAITING)

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        try:
            while (one := await self._waiting.get()) is not None:
                if isinstance(one, SplitError):
                    raise one
                await (self._write(one) if isinstance(one, Verdict) else self._answer(one))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (message := await _next(self._context)) is not None:
                if isinstance(message, Opening):
                    raise BadFrame("a stream begins with one opening, got a second one", reason="malformed")
                await self._waiting.put(message)
            await self._waiting.put(None)
        except SplitError as error:
            await self._waiting.put(error)

    async def _answer(self, one: Round) -> None:
        sampling, states = self._opening.sampling, self._opening.states
        try:
            verdict = await _asked(self._verifier.verify(self._key, one, sampling, states=states))
        except RemoteFailure:
            raise
        except SplitError as error:
            verdict = Verdict(round=one.round, base=one.base, error=error)
        self._count(one, verdict)
        await self._write(verdict)
        if verdict.error is not None or verdict.need_prefix:
            return
        left = min(one.more, MOST_MORE)
        while left > 0 and self._waiting.empty() and not set(verdict.tokens) & set(self._opening.ends):
            base = verdict.base + len(verdict.path) + len(verdict.tokens)
            further = await _asked(self._verifier.go_on(self._key, one, base, sampling))
            if further is None:
                return
            verdict = further
            self._count_tokens(verdict)
            if verdict.need_prefix:
                left = 0
            left -= len(verdict.tokens)
            await self._write(verdict)

    def _count(self, one: Round, verdict: Verdict) -> None:
        name, metrics = self._verifier.bundle.manifest.name, self._metrics
        outcome = "need_prefix" if verdict.need_prefix else verdict.error.code if verdict.error else "verified"
        metrics.rounds.labels(name, outcome).inc()
        if outcome == "verified":
            metrics.draft_tokens.labels(name, "drafted").inc(len(one.ids))
            metrics.draft_tokens.labels(name, "accepted").inc(len(verdict.path))
            metrics.draft_length.labels(name).observe(one.depth)
            metrics.accepted_length.labels(name).observe(len(verdict.path))
            metrics.round_seconds.labels(name, "queue").observe(verdict.queue_s)
            metrics.round_seconds.labels(name, "verify").observe(verdict.verify_s)
            self._count_tokens(verdict)

    def _count_tokens(self, verdict: Verdict) -> None:
        name = self._verifier.bundle.manifest.name
        if not verdict.need_prefix:
            self._metrics.tokens.labels(name).inc(len(verdict.path) + len(verdict.tokens))
            self._metrics.target_calls.labels(name).inc()

    async def _write(self, verdict: Verdict) -> None:
        async with asyncio.timeout(UNREAD_S):
            await self._context.write(verdict_to_wire(verdict))


async def _asked(answer: Awaitable[T]) -> T:
    """A target's answer. Raises its SplitErrors, and RemoteFailure for all else, of which a peer is told nothing."""
    try:
        return await answer
    except SplitError:
        raise
    except Exception:  # a runtime's errors have no common root
        request_id = uuid.uuid4().hex[:12]
        log.exception("target failed, request %s", request_id, extra={"request_id": request_id})
        failure = RemoteFailure(f"the target failed, request {request_id}", request_id=request_id)
        raise failure from None


async def _next(context: Any) -> Opening | Round | Verdict | None:
    """The device's next message; a verdict with an error where a round cannot be; None where it has half-closed."""
    try:
        message = await context.read()
    except DecodeError:
        raise BadFrame("a message must be a splitrt.rpc.v1.FromDrafter", reason="malformed") from None
    if message is grpc.aio.EOF:
        return None
    try:
        return from_drafter(message)
    except SplitError as error:
        if (verdict := refused(message, error)) is None:
            raise
        return verdict
