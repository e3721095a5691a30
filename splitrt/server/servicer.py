"""The gateway's wire edge: protobuf in, protobuf out, no decisions."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

import splitrt
from splitrt.bundle import Bundle
from splitrt.errors import BadFrame, Overloaded, RemoteFailure, SplitError
from splitrt.language.bundle import LanguageBundle
from splitrt.rpc import status
from splitrt.rpc.describe import BundleInfo, Described, described_to_wire, head_chunk
from splitrt.rpc.frames import FrameChunk, FrameStart, Hello
from splitrt.rpc.messages import acks_to_wire, drain_to_wire, from_device, reply_to_wire, welcome_to_wire
from splitrt.rpc.service import Servicer
from splitrt.server.auth import call_principal
from splitrt.server.gateway import Gateway
from splitrt.server.session import Session

FETCH_CHUNK_BYTES = 256 << 10
UNREAD_S = 30.0  # a device that lets its results lie for so long is not there
log = logging.getLogger(__name__)


class SplitServicer(Servicer):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def Describe(self, request: Any, context: Any) -> Any:
        """What is served here."""
        await self._principal(context)
        try:
            bundles = tuple(
                _info(one) if isinstance(one, Bundle) else _language_info(one)
                for one in self._gateway.catalogue.bundles
            )
        except OSError as error:
            await status.abort(context, _unreadable(error))
        return described_to_wire(Described(server=splitrt.__version__, bundles=bundles, limits=self._gateway.limits))

    async def FetchHead(self, request: Any, context: Any) -> None:
        """The files of a head half, the manifest first."""
        await self._principal(context)
        try:
            bundle = self._gateway.by_digest(request.bundle_digest)
        except SplitError as error:
            await status.abort(context, error)
        for file, path in bundle.head_files().items():
            try:
                data = await asyncio.to_thread(path.read_bytes)
            except OSError as error:
                await status.abort(context, _unreadable(error))
            for start in range(0, max(1, len(data)), FETCH_CHUNK_BYTES):
                chunk = data[start : start + FETCH_CHUNK_BYTES]
                try:
                    async with asyncio.timeout(UNREAD_S):
                        await context.write(head_chunk("" if start else file, chunk))
                except TimeoutError:
                    unread = f"a head must be read within {UNREAD_S:g} s a chunk"
                    await status.abort(context, Overloaded(unread, retry_after_ms=1_000, reason="unread"))

    async def Infer(self, _: Any, context: Any) -> None:
        """One device's stream. Results may overtake each other; `seq` pairs them.

        A frame that fails gets a result that says so. Only an error of the stream itself ends the stream.
        """
        principal = await self._principal(context)
        one_at_a_time = asyncio.Lock()  # gRPC takes one write at a time

        patience = asyncio.timeout(None)

        async def write(message: Any) -> None:
            async with one_at_a_time:
                patience.reschedule(asyncio.get_running_loop().time() + UNREAD_S)
                await context.write(message)
                patience.reschedule(None)

        try:
            hello = await self._hello(context)
            session = self._gateway.open(
                hello, principal, lambda reply: write(reply_to_wire(reply)), lambda heard: write(acks_to_wire(heard))
            )
        except SplitError as error:
            self._gateway.metrics.refused_streams.labels(error.code).inc()
            await status.abort(context, error)
        announcing: asyncio.Task[None] | None = None
        try:
            async with patience:
                await write(welcome_to_wire(self._gateway.limits, hello.session_epoch))
                announcing = asyncio.create_task(self._announce_drain(write))
                await self._read(session, context)
                await session.finish()
        except TimeoutError:
            unread = f"results must be read within {UNREAD_S:g} s"
            await status.abort(context, Overloaded(unread, retry_after_ms=1_000, reason="unread"))
        except SplitError as error:
            await status.abort(context, error)
        finally:
            if announcing is not None:
                announcing.cancel()
            self._gateway.close(session)

    async def _read(self, session: Session, context: Any) -> None:
        while (message := await _next(context)) is not None:
            match message:
                case FrameStart() as start:
                    await session.start_frame(start)
                case FrameChunk() as chunk:
                    session.add_chunk(chunk)
                case Hello():
                    raise BadFrame("a stream begins with one hello, got a second one", reason="malformed")

    async def _announce_drain(self, write: Callable[[Any], Awaitable[None]]) -> None:
        await self._gateway.draining.wait()
        await write(drain_to_wire(int(self._gateway.config.drain_grace_s * 1e3)))

    async def _hello(self, context: Any) -> Hello:
        seconds = self._gateway.config.hello_timeout_s
        try:
            async with asyncio.timeout(seconds):
                hello = await _next(context)
        except TimeoutError:
            raise BadFrame(f"a stream must begin with a hello within {seconds:g} s", reason="hello") from None
        if not isinstance(hello, Hello):
            raise BadFrame("a stream must begin with a hello", reason="hello")
        return hello

    async def _principal(self, context: Any) -> str:
        try:
            return call_principal(self._gateway.config.tokens, context)
        except SplitError as error:
            self._gateway.metrics.refused_streams.labels(error.code).inc()
            await status.abort(context, error)


async def _next(context: Any) -> Hello | FrameStart | FrameChunk | None:
    """The device's next message; None where it has half-closed. Raises BadFrame."""
    try:
        message = await context.read()
    except DecodeError:  # its text tells a peer of our insides
        raise BadFrame("a message must be a splitrt.rpc.v1.FromDevice", reason="malformed") from None
    return None if message is grpc.aio.EOF else from_device(message)


def _unreadable(error: OSError) -> RemoteFailure:
    """Of a bundle's file that is gone from under the server: its path is for the log alone."""
    request_id = uuid.uuid4().hex[:12]
    log.error("a bundle's file cannot be read, request %s: %s", request_id, error, extra={"request_id": request_id})
    return RemoteFailure(f"a bundle's file cannot be read, request {request_id}", request_id=request_id)


def _info(bundle: Bundle) -> BundleInfo:
    seam = bundle.manifest.seam
    return BundleInfo(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        bundle_digest=bundle.digest,
        tables_digest=bundle.tables.digest(),
        widths=seam.widths,
        bits=seam.bits,
        head_bytes=sum(path.stat().st_size for path in bundle.head_files().values()),
    )


def _language_info(bundle: LanguageBundle) -> BundleInfo:
    return BundleInfo(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        bundle_digest=bundle.digest,
        tables_digest=bundle.tokenizer_digest,
        widths=(),
        bits=(),
        head_bytes=sum(path.stat().st_size for path in bundle.head_files().values()),
    )
