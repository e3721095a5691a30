"""Speculate streams between devices and the replicas that hold their texts: bytes both ways, as they come.

Only the opening is read here, for whose text it is and of which bundle; rounds and verdicts are looked at to be counted
and passed on as they were. A replica that goes away ends its streams as a lost link does: the device opens another and
sends its committed tokens again.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc

from splitrt.errors import LinkLost
from splitrt.rpc import speculation, status
from splitrt.rpc.rounds import Opening, Verdict
from splitrt.server.front import UNREAD_S, Front, TextStream
from splitrt.server.targets import Targets


class SpeculateRelay:
    def __init__(self, front: Front[Targets]) -> None:
        self._front, self._metrics = front, front.metrics

    async def generate(self, _: Any, context: Any) -> None:
        """One text's stream; messages are bytes."""
        first = b""

        async def read() -> Opening | None:
            nonlocal first
            message = await context.read()
            first = b"" if message is grpc.aio.EOF else message
            return speculation.opening_in(first) if first else None

        async with self._front.stream(context, read) as stream:
            try:
                async with stream.target.stream(stream.key) as call:
                    await call.write(first)
                    await self._relay(context, call, stream)
            except grpc.RpcError as error:
                named = dict(error.trailing_metadata() or ()).get(status.CODE_METADATA)
                if not stream.is_open:
                    self._metrics.refused_streams.labels(named or LinkLost.code).inc()
                await _pass_on(context, error, named)

    async def _relay(self, context: Any, call: Any, stream: TextStream[Targets]) -> None:
        up, bundle = asyncio.create_task(_up(context, call)), stream.target.bundle.manifest.name
        alone: int | None = None  # the round behind which the replica goes on: its further verdicts are of no round
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                stream.is_open = True
                if isinstance(verdict := speculation.verdict_in(message), Verdict):
                    is_verified = verdict.error is None and not verdict.need_prefix
                    if verdict.round != alone:
                        self._count_round(bundle, verdict, is_verified)
                    if is_verified:
                        self._metrics.tokens.labels(bundle).inc(len(verdict.path) + len(verdict.tokens))
                        self._metrics.target_calls.labels(bundle).inc()
                    alone = verdict.round if is_verified else None
                async with asyncio.timeout(UNREAD_S):
                    await context.write(message)
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)

    def _count_round(self, bundle: str, verdict: Verdict, is_verified: bool) -> None:
        outcome = "need_prefix" if verdict.need_prefix else verdict.error.code if verdict.error else "verified"
        self._metrics.rounds.labels(bundle, outcome).inc()
        if is_verified:
            self._metrics.draft_tokens.labels(bundle, "accepted").inc(len(verdict.path))
            self._metrics.accepted_length.labels(bundle).observe(len(verdict.path))
            self._metrics.round_seconds.labels(bundle, "queue").observe(verdict.queue_s)
            self._metrics.round_seconds.labels(bundle, "verify").observe(verdict.verify_s)


async def _up(context: Any, call: Any) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        await call.write(message)
    await call.done_writing()


async def _pass_on(context: Any, error: grpc.RpcError, named: str | None) -> NoReturn:
    """What the replica said. named: its error's code; one that went away said nothing that is for devices."""
    if named is None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the target of this text went away: open it again")
    await context.abort(error.code(), error.details() or "", ((status.CODE_METADATA, named),))
    raise AssertionError("abort does not return")
