"""The asyncio client: frames in, exactly one outcome a frame, on time.

    submit ── waiting room (newest wins) ── head ── sure? exit
                                              └ policy ── encode ── link ── reply in time? remote
                                                                     └ else the device's own answer: fallback

The promise: every submitted frame ends exactly once, with a result or a typed error, no later than its
deadline plus 50 ms on this machine's monotonic clock. One task a frame under one timeout keeps it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.config import ClientConfig, read_settings
from splitrt.device.feed import feed
from splitrt.device.fetch import bundle_for
from splitrt.device.grpc_link import GrpcLink
from splitrt.device.head import Head, OnnxHead, check_golden
from splitrt.device.image import to_frame
from splitrt.device.link import Link, Sending
from splitrt.device.local import Device, Encoded, Looked
from splitrt.device.result import Result, Source, Timings
from splitrt.device.strategy import Adaptive, Strategy
from splitrt.errors import (
    ClientClosed,
    ConfigError,
    DeadlineExceeded,
    InvalidInput,
    LinkLost,
    Overloaded,
    SplitError,
)
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.messages import Frame, Hello, Reply, tables_prefix

ATTEMPTS = 2  # a frame is sent once, and once more if it can still make it
UNREAD_RESULTS = 256  # of a stream whose consumer lags behind

UInt8 = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Pending:
    """A submitted frame until its end."""

    seq: int
    frame_HWC: UInt8
    submitted_at: float
    deadline_at: float
    done: asyncio.Future[Result]
    looked: Looked | None = None
    encoded: Encoded | None = None
    sending: Sending | None = None


class AsyncClient:
    """Use `connect_async`, or build one from parts: a device, a link (real or scripted), a strategy."""

    def __init__(
        self,
        device: Device,
        link: Link,
        estimate: LinkEstimate,
        *,
        config: ClientConfig,
        strategy: Strategy | None = None,
    ) -> None:
        self.link = link
        self.estimate = estimate
        self.config = config
        self._device = device
        self._strategy = strategy or Adaptive(device.bundle)
        self._tables = tables_prefix(device.bundle.tables.digest())
        self._seq = itertools.count(1)
        self._waiting: deque[Pending] = deque()
        self._head_free = True
        self._running: dict[asyncio.Task[None], Pending] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="head")
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @property
    def bundle(self) -> Bundle:
        return self._device.bundle

    # ── the caller's side ───────────────────────────────────────────────────────────────────────────

    async def infer(self, image: Any, deadline_ms: float | None = None) -> Result:
        """One frame's result. Raises InvalidInput at once; a frame nobody could answer raises its typed error."""
        return await self.submit(image, deadline_ms)

    def submit(self, image: Any, deadline_ms: float | None = None) -> asyncio.Future[Result]:
        """A frame's future result. Of frames whose head has not run, the newest `max_waiting` stay; older ones
        end as `skipped`.
        """
        return self._submit(image, deadline_ms).done

    def _submit(self, image: Any, deadline_ms: float | None = None) -> Pending:
        if self._closed:
            raise ClientClosed("the client is closed and takes no frames")
        limit_ms = self.config.deadline_ms if deadline_ms is None else deadline_ms
        if not 0 < limit_ms <= 60_000:
            raise InvalidInput(f"deadline_ms must be above 0 and at most 60000, got {limit_ms}")
        now = self._loop.time()
        pending = Pending(
            seq=next(self._seq),
            frame_HWC=to_frame(image),
            submitted_at=now,
            deadline_at=now + limit_ms / 1e3,
            done=self._loop.create_future(),
        )
        self._waiting.append(pending)
        if len(self._waiting) > self.config.max_waiting + self._head_free:
            displaced = self._waiting.popleft()
            self._end(displaced, self._result(displaced, "skipped", None))
        self._start_next()
        return pending

    async def stream(self, source: Any, fps: float | None = None) -> AsyncIterator[Result]:
        """Results in order of capture. `source` is an iterable or async iterable of frames; one that is not a
        live camera (a list, a folder) needs `fps`, or it is read as fast as it gives and most frames are skipped.
        A frame that nobody could answer comes as a result with its `error`; the stream goes on.
        """
        async for pending in feed(source, fps, self._submit, UNREAD_RESULTS):
            try:
                yield await pending.done
            except ClientClosed:
                raise
            except SplitError as error:
                yield replace(self._result(pending, "fallback", None), error=error)

    async def aclose(self) -> None:
        """End everything that is under way with ClientClosed; the link is its owner's to close."""
        if self._closed:
            return
        self._closed = True
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for pending in self._waiting:
            self._end(pending, ClientClosed("the client was closed before this frame was answered"))
        self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # ── a frame's course ────────────────────────────────────────────────────────────────────────────

    def _start_next(self) -> None:
        if self._head_free and self._waiting:
            self._head_free = False
            pending = self._waiting.popleft()
            task = self._loop.create_task(self._run(pending))
            self._running[task] = pending
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        pending = self._running.pop(task)
        if task.cancelled():
            self._end(pending, ClientClosed("the client was closed before this frame was answered"))
        elif error := task.exception():
            # Not one of ours: hand it to the caller as it is, rather than lose the frame.
            self._end(pending, error)

    async def _run(self, pending: Pending) -> None:
        try:
            async with asyncio.timeout_at(pending.deadline_at):
                await self._answer(pending)
        except TimeoutError:
            self._give_up(pending, DeadlineExceeded("not answered by its deadline", stage=_stage(pending)))
        except SplitError as error:
            self._give_up(pending, error)

    async def _answer(self, pending: Pending) -> None:
        """Look, then decide, encode and send, at most twice. Raises the error that ends the frame."""
        looked = pending.looked = await self._on_head(self._device.look, pending.frame_HWC)
        if self._strategy.is_final(looked):
            self._end(pending, self._result(pending, "exit", looked.answer))
            return
        error: SplitError = LinkLost("the link is not expected to answer in time")
        for _ in range(ATTEMPTS):
            reply = await self._offer(pending, looked)
            if reply is None:
                break
            if reply.error is None:
                self._end(pending, self._remote(pending, reply))
                return
            error = reply.error
            if not error.retryable:
                break
            if isinstance(error, Overloaded):
                await asyncio.sleep(error.retry_after_ms / 1e3)
        raise error

    async def _offer(self, pending: Pending, looked: Looked) -> Reply | None:
        """Send it at the point the policy chooses and wait; None: the policy keeps it on the device."""
        if not self.link.is_up:
            if looked.answer is not None and pending.sending is None:
                return None  # nothing to win by waiting: the device's answer is ready
            await self.link.wait_up()
        now = self._loop.time()
        choice = self._strategy.choose(self.estimate, pending.deadline_at - now, self.link.in_flight(now))
        if choice is None:
            return None
        encoded = pending.encoded = await self._on_device(
            self._strategy.encode, self._device, pending.frame_HWC, looked, choice
        )
        frame = Frame(
            seq=pending.seq,
            width=encoded.width,
            bits=encoded.bits,
            codec=encoded.codec,
            deadline_ms=0,
            tables=self._tables,
            payloads=encoded.payloads,
        )
        if frame.payload_bytes > self.link.max_payload_bytes:
            raise InvalidInput(
                f"payload must be at most {self.link.max_payload_bytes} bytes for this server, "
                f"got {frame.payload_bytes}"
            )
        sending = pending.sending = self.link.send(frame, pending.deadline_at)
        sending.reply.add_done_callback(lambda _: self._learn(sending))
        return await asyncio.shield(sending.reply)

    def _learn(self, sending: Sending) -> None:
        """Every reply is a sample of the link, also one that came too late for its frame."""
        reply = sending.reply.result() if not sending.reply.cancelled() else None
        if reply is None or sending.sent_at is None or sending.replied_at is None:
            return
        server_s = reply.queue_s + reply.decode_s + reply.tail_s
        self.estimate.replied(sending.link_bytes, sending.sent_at, sending.replied_at, server_s)

    async def _on_head(self, look: Callable[[UInt8], Looked], frame_HWC: UInt8) -> Looked:
        """The next frame may enter as soon as this one has left the head."""
        running = self._loop.run_in_executor(self._thread, look, frame_HWC)
        running.add_done_callback(self._head_done)
        return await asyncio.shield(running)

    def _head_done(self, running: asyncio.Future[Looked]) -> None:
        if not running.cancelled():
            running.exception()  # seen: the frame's own task raises it
        self._head_free = True
        if not self._closed:
            self._start_next()

    def _on_device(self, work: Callable[..., Encoded], *arguments: Any) -> Awaitable[Encoded]:
        return self._loop.run_in_executor(self._thread, work, *arguments)

    # ── ends ────────────────────────────────────────────────────────────────────────────────────────

    def _give_up(self, pending: Pending, error: SplitError) -> None:
        """The device's own answer, degraded, where there is one; else the error."""
        if pending.sending is not None:
            self.link.withdraw(pending.sending)
        if isinstance(error, InvalidInput) or pending.looked is None or pending.looked.answer is None:
            self._end(pending, error)
        else:
            self._end(pending, self._result(pending, "fallback", pending.looked.answer))

    def _end(self, pending: Pending, end: Result | BaseException) -> None:
        if pending.done.done():
            return
        if isinstance(end, Result):
            pending.done.set_result(end)
        else:
            pending.done.set_exception(end)
            pending.done.exception()  # a caller who never looks is not warned at exit

    def _result(self, pending: Pending, source: Source, output: Any, timings: Timings | None = None) -> Result:
        manifest, encoded, sending = self.bundle.manifest, pending.encoded, pending.sending
        is_sent = sending is not None and sending.sent_at is not None
        return Result(
            seq=pending.seq,
            source=source,
            output=output,
            model=manifest.name,
            version=manifest.version,
            latency_ms=(self._loop.time() - pending.submitted_at) * 1e3,
            degraded=source == "fallback",
            width=encoded.width if encoded else 0,
            bits=encoded.bits if encoded else 0,
            payload_bytes=sending.frame.payload_bytes if sending and is_sent else 0,
            link_bytes=sending.link_bytes if sending and is_sent else 0,
            timings=timings or Timings(head=pending.looked.head_s * 1e3 if pending.looked else 0.0),
        )

    def _remote(self, pending: Pending, reply: Reply) -> Result:
        looked, encoded, sending = pending.looked, pending.encoded, pending.sending
        assert looked is not None
        assert encoded is not None
        assert sending is not None
        now = self._loop.time()
        waited_s = (sending.replied_at or now) - (sending.sent_at or now)
        server_s = reply.queue_s + reply.decode_s + reply.tail_s
        net_s = max(0.0, waited_s - server_s)
        downlink_s = min(net_s / 2, self.estimate.round_trip_s / 2)
        timings = Timings(
            head=(looked.head_s + encoded.head_s) * 1e3,
            encode=encoded.encode_s * 1e3,
            uplink=(net_s - downlink_s) * 1e3,
            queue=reply.queue_s * 1e3,
            decode=reply.decode_s * 1e3,
            tail=reply.tail_s * 1e3,
            downlink=downlink_s * 1e3,
        )
        outputs = reply.outputs[0] if reply.outputs else np.empty(0, np.float32)
        return self._result(pending, "remote", self._device.answer(outputs), timings)


def _stage(pending: Pending) -> str:
    if pending.looked is None:
        return "head"
    return "uplink" if pending.sending is None or pending.sending.sent_at is None else "tail"


@asynccontextmanager
async def connect_async(
    servers: str | Iterable[str] | None = None,
    *,
    bundle: str | None = None,
    config: ClientConfig | None = None,
    strategy: Callable[[Bundle], Strategy] | None = None,
    **settings: Any,
) -> AsyncIterator[AsyncClient]:
    """A client for a server (HOST:PORT, or several to try in turn) and a bundle, for as long as the block runs.

    The bundle's head is run from this machine's copy, or fetched from the server by digest. A server that
    cannot be reached is no error while the head has an exit: the device answers alone until the link is up.
    Raises Unauthenticated, VersionMismatch or ModelNotFound where the server will not have us, BundleError
    where the golden sample disagrees on this machine. `settings` are fields of ClientConfig.
    """
    if isinstance(servers, str):
        servers = servers.split(",")
    if config is None:
        flags = {"servers": tuple(servers) if servers else None, "bundle": bundle, **settings}
        config = read_settings(ClientConfig, "client", flags=flags)
    elif servers or bundle or settings:
        raise ConfigError("give either config or servers, bundle and settings, not both")
    chosen = await bundle_for(config)
    head = await asyncio.to_thread(open_head, chosen, config)
    manifest, estimate = chosen.manifest, LinkEstimate()

    def hello(epoch: int) -> Hello:
        return Hello(
            bundle=manifest.name,
            version=manifest.version,
            bundle_digest=chosen.digest,
            tables_digest=chosen.tables.digest(),
            session_epoch=epoch,
        )

    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(GrpcLink(config, hello, estimate.lost))
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                await link.wait_up()
        except TimeoutError:
            if manifest.exit is None:
                raise LinkLost(f"no server of {', '.join(config.servers)} answered: {link.last_error}") from None
            log.warning("no server answers yet (%s): the device answers alone", link.last_error)
        client = AsyncClient(
            Device(chosen, head),
            link,
            estimate,
            config=config,
            strategy=strategy(chosen) if strategy else None,
        )
        stack.push_async_callback(client.aclose)
        yield client


def open_head(bundle: Bundle, config: ClientConfig) -> Head:
    """The head's runner, its golden sample re-run. Raises BundleError where this machine disagrees."""
    head: Head
    if config.runner == "torch":
        from splitrt.device.torch_head import TorchHead

        head = TorchHead(bundle)
    else:
        head = OnnxHead(bundle, config.threads)
    check_golden(bundle, head)
    return head
