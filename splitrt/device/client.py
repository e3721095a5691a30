"""The asyncio client: frames in, exactly one outcome a frame, on time.

    submit ── waiting room (newest wins) ── policy ── head ── nothing there? gate · sure? exit
                                                       └ encode ── link ── reply in time? remote
                                                                    └ else the device's own answer: fallback

The promise: every submitted frame ends exactly once, with a result or a typed error, no later than its
deadline plus 50 ms on this machine's monotonic clock. A timer a frame keeps it, whatever the rest does.

Head and encoder run in one go, because each change of thread costs tenths of a millisecond; so the policy
decides before the head, with the time that heads take already taken off.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from splitrt.bundle import Bundle
from splitrt.config import ClientConfig
from splitrt.device.feed import feed
from splitrt.device.lane import Lane, Looking
from splitrt.device.link import Link
from splitrt.device.local import Device, Encoded, Looked
from splitrt.device.pending import Pending
from splitrt.device.result import Result, Source
from splitrt.device.sender import Sender
from splitrt.device.strategy import Adaptive, Strategy
from splitrt.errors import (
    BadFrame,
    ClientClosed,
    DeadlineExceeded,
    InvalidInput,
    LinkLost,
    Overloaded,
    SplitError,
)
from splitrt.metrics import DeviceMetrics
from splitrt.policy.decision import Choice
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.frames import Reply

ATTEMPTS = 2  # a frame is sent once, and once more if it can still make it
UNREAD_RESULTS = 256  # of a stream whose consumer lags behind


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
        metrics: DeviceMetrics | None = None,
        stream: int = 0,
    ) -> None:
        """stream: this client's own number, the first half of its frames' trace ids; 0: none."""
        self.link = link
        self.estimate = estimate
        self.config = config
        self.stream_id = stream
        self.metrics = metrics or DeviceMetrics(device.bundle.manifest.name)
        self.metrics.follow_link(estimate.belief.rate, lambda: estimate.trip.base_s, lambda: link.is_up)
        self.listeners: list[Callable[[Result], None]] = []  # told of each result, on the event loop
        self._device = device
        self._strategy = strategy or Adaptive(device.bundle, config)
        if isinstance(self._strategy, Adaptive) and self._strategy.audit is not None:
            self.metrics.follow(self._strategy.audit)
        self._sender = Sender(device, link, estimate, has_deltas=config.deltas)
        self._seq = itertools.count(1)
        self._waiting: deque[Pending] = deque()
        self._running: set[Pending] = set()
        self._lane = Lane(device, self._strategy, self._start_next)
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @property
    def bundle(self) -> Bundle:
        return self._device.bundle

    # ── the caller's side ───────────────────────────────────────────────────────────────────────────

    async def infer(self, image: Any, deadline_ms: float | None = None) -> Result:
        """One frame's result. Raises InvalidInput at once; a frame nobody could answer raises its typed error."""
        return await self.submit(image, deadline_ms)

    def take(self, image: Any) -> Any:
        """A frame of the client's own, checked and copied, from any thread. Raises InvalidInput."""
        return self._device.take(image)

    async def infer_taken(self, frame: Any, deadline_ms: float | None = None) -> Result:
        """`infer` of what `take` gave."""
        return await self._admit(frame, deadline_ms, self._loop.time()).done

    def submit(self, image: Any, deadline_ms: float | None = None) -> asyncio.Future[Result]:
        """A frame's future result. Of frames whose head has not run, the newest `max_waiting` stay; older ones
        end as `skipped`.
        """
        return self._submit(image, deadline_ms).done

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
                nothing = pending.result(self.bundle.manifest, "fallback", None, self._loop.time())
                yield replace(nothing, error=error)

    async def aclose(self) -> None:
        """End everything that is under way with ClientClosed; the link is its owner's to close."""
        if self._closed:
            return
        self._closed = True
        tasks = [pending.task for pending in self._running if pending.task is not None]
        for pending in (*self._waiting, *self._running):
            pending.end(ClientClosed("the client was closed before this frame was answered"))
        self._waiting.clear()
        self._lane.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ── a frame's course ────────────────────────────────────────────────────────────────────────────

    def _submit(self, image: Any, deadline_ms: float | None = None) -> Pending:
        now = self._loop.time()
        return self._admit(self.take(image), deadline_ms, now)

    def _admit(self, frame: Any, deadline_ms: float | None, now: float) -> Pending:
        if self._closed:
            raise ClientClosed("the client is closed and takes no frames")
        limit_ms = self.config.deadline_ms if deadline_ms is None else deadline_ms
        if not 0 < limit_ms <= 60_000:
            raise InvalidInput(f"deadline_ms must be above 0 and at most 60000, got {limit_ms}")
        pending = Pending(
            seq=next(self._seq),
            frame=frame,
            submitted_at=now,
            deadline_at=now + limit_ms / 1e3,
            done=self._loop.create_future(),
        )
        overdue = self._loop.call_at(pending.deadline_at, self._expire, pending)
        pending.done.add_done_callback(lambda _: overdue.cancel())
        pending.done.add_done_callback(lambda done: self._leave(pending) if done.cancelled() else None)
        pending.done.add_done_callback(self._count)
        self._waiting.append(pending)
        if len(self._waiting) > self.config.max_waiting + self._lane.is_free:
            displaced = self._waiting.popleft()
            displaced.end(displaced.result(self.bundle.manifest, "skipped", None, now))
        self._start_next()
        return pending

    def _start_next(self) -> None:
        if self._lane.is_free and self._waiting:
            pending = self._waiting.popleft()
            self._running.add(pending)
            choice = self._choose(pending, self._lane.expected_s)
            looking = self._lane.enter(pending.frame, choice, self._strategy.threshold(self.estimate, choice))
            pending.task = self._loop.create_task(self._run(pending, looking))
            pending.task.add_done_callback(lambda _: self._running.discard(pending))

    async def _run(self, pending: Pending, looking: Looking) -> None:
        try:
            await self._answer(pending, looking)
        except SplitError as error:
            self._give_up(pending, error)
        except Exception as error:  # not one of ours: the caller sees it as it is, rather than lose the frame
            pending.end(error)

    def _expire(self, pending: Pending) -> None:
        """The frame's deadline."""
        self.metrics.late.labels(pending.stage).inc()
        if pending in self._waiting:
            self._waiting.remove(pending)
        is_open = pending.sending is not None and not pending.sending.reply.done()
        if pending.choice is not None and is_open and pending.best is None:
            self._strategy.ended(pending.choice, False)
        self._give_up(pending, DeadlineExceeded("not answered by its deadline", stage=pending.stage))
        if pending.task is not None:
            pending.task.cancel()

    def _leave(self, pending: Pending) -> None:
        """Its caller waits no more: nothing of it that can still be stopped goes on, and no deadline will come."""
        pending.frame = None
        if pending in self._waiting:
            self._waiting.remove(pending)
        if pending.sending is not None:
            self.link.withdraw(pending.sending)
        if pending.task is not None:
            pending.task.cancel()

    async def _answer(self, pending: Pending, looking: Looking) -> None:
        """What the head gave, or send it, at most twice. Raises the error that ends the frame."""
        # Shielded: the head works on, and frees itself for the next frame, when this one's time is up.
        looked, encoded = await asyncio.shield(looking)
        pending.looked = looked
        if looked.is_stopped:
            pending.end(self._own(pending, "gate"))
            return
        if looked.is_final:
            pending.end(self._own(pending, "exit"))
            return
        if encoded is not None:
            encoded = await self._recheck(pending, looked, encoded)
        error: SplitError = LinkLost("the link is not expected to answer in time")
        for attempt in range(ATTEMPTS):
            if encoded is None and (attempt or looked.answer is None):
                # Again, or for the first time where no answer of the device's own covers the frame.
                await self.link.wait_up()
                choice = self._choose(pending, 0.0)
                encoded = await self._lane.encode(pending.frame, looked, choice) if choice else None
            if encoded is None:
                break
            reply = await self._sender.send(pending, encoded)
            if reply.error is None:
                if pending.choice is not None:
                    self._strategy.ended(pending.choice, True)
                result = self._remote(pending, reply)
                self._strategy.answered(looked, result.output)
                pending.end(result)
                return
            encoded, error = None, reply.error
            if not error.retryable:
                break
            if isinstance(error, Overloaded):
                await asyncio.sleep(error.retry_after_ms / 1e3)
        raise error

    def _choose(self, pending: Pending, before_s: float) -> Choice | None:
        """Where the policy would send it, `before_s` from now; None: nowhere."""
        if not self.link.is_up:
            return None
        now = self._loop.time()
        left_s = pending.deadline_at - now - before_s
        pending.choice = self._strategy.choose(self.estimate, left_s, self.link.in_flight(now))
        return pending.choice

    async def _recheck(self, pending: Pending, looked: Looked, encoded: Encoded) -> Encoded | None:
        """What goes to the link of a frame whose head is done. None: nothing, it stays after all.

        Only where something is on its way, whose silence may have said more by now; and where the head is free: to
        wait for another frame's would cost more than fewer bytes gain.
        """
        now, choice = self._loop.time(), pending.choice
        in_flight = self.link.in_flight(now)
        if choice is None or not in_flight.frames or self._lane.is_working or self._waiting:
            return encoded
        pending.choice = self._strategy.recheck(self.estimate, choice, pending.deadline_at - now, in_flight)
        if pending.choice is choice:
            return encoded
        return await self._lane.encode(pending.frame, looked, pending.choice) if pending.choice else None

    # ── ends ────────────────────────────────────────────────────────────────────────────────────────

    def _count(self, done: asyncio.Future[Result]) -> None:
        if done.cancelled():
            self.metrics.ended("cancelled")
            return
        if (error := done.exception()) is not None:
            self.metrics.ended(error.code if isinstance(error, SplitError) else "error")
            return
        result = done.result()
        self.metrics.ended(result.source)
        if result.source != "skipped":
            self.metrics.answered(result.latency_ms, result.timings, result.width)
        for listen in self.listeners:
            listen(result)

    def _give_up(self, pending: Pending, error: SplitError) -> None:
        """The server's answer from some of the chunks, or the device's own, degraded; else the error."""
        if pending.done.done():
            return
        if pending.sending is not None:
            self.link.withdraw(pending.sending)
        if pending.best is not None:
            # What the server sent may be nothing that can be read: then the device's own answer stands.
            with suppress(BadFrame):
                pending.end(self._remote(pending, pending.best))
                return
        if isinstance(error, InvalidInput) or pending.looked is None or pending.looked.answer is None:
            pending.end(error)
        else:
            pending.end(self._own(pending, "fallback"))

    def _own(self, pending: Pending, source: Source) -> Result:
        assert pending.looked is not None
        return pending.result(self.bundle.manifest, source, pending.looked.answer, self._loop.time())

    def _remote(self, pending: Pending, reply: Reply) -> Result:
        answer, timings = self._device.read(reply.outputs), pending.timings(reply, self.estimate.trip.base_s)
        result = pending.result(self.bundle.manifest, "remote", answer, self._loop.time(), timings)
        if reply.chunks:
            result = replace(result, width=self.bundle.manifest.seam.widths[reply.chunks - 1])
        return result
