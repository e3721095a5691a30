"""The seam between gateway and tails, and its in-process side.

`TailPool.submit` takes a frame's checked header with its undecoded payload and gives exactly one outcome.
Another engine (a Ray cluster) fits here without a change in the gateway. `EmbeddedPool` runs the tail in
this process: admission, a batcher and one worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from splitrt.errors import RemoteFailure, ServerDraining, SplitError
from splitrt.server.admission import Admission
from splitrt.server.batch_size import BatchSize
from splitrt.server.captured import CapturedWorker
from splitrt.server.load import Load
from splitrt.server.work import Outcome, Ticket, Work
from splitrt.server.worker import Worker

SHORT_S = 0.001
log = logging.getLogger(__name__)


class TailPool(Protocol):
    """Tails of one bundle, wherever they run."""

    async def submit(self, work: Work) -> Outcome:
        """Run it. Never raises for a frame's sake: errors are outcomes."""

    def queued(self) -> int:
        """Frames waiting for a tail."""

    def oldest_s(self) -> float:
        """For how long the oldest of them has waited."""


class EmbeddedPool:
    """A tail in this process, on one thread, as a context manager.

    Batches that take hardly longer than two changes of thread are run on the event loop itself.

    It never waits to fill a batch: whenever the tail is free it takes what waits, up to `max_batch` and to as many as
    a batch of `max_batch_s` holds by what was measured. On CPUs batching gains little, so a frame that comes alone is
    run alone at once.
    """

    def __init__(
        self,
        worker: Worker | CapturedWorker,
        *,
        max_queue_frames: int = 256,
        max_batch: int = 16,
        max_batch_s: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
        load: Load | None = None,
    ) -> None:
        """load: is told of every batch."""
        self._worker, self._load = worker, load
        self._admission = Admission(max_queue_frames)
        self._batch_size = BatchSize(max_batch, max_batch_s)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tail")
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The batch under way is finished and answered, what waits is refused."""
        self._admission.refuse_all(ServerDraining("the server stopped before this frame was run"))
        if self._running is not None:
            await self._running
        self._thread.shutdown()

    def queued(self) -> int:
        return len(self._admission)

    def oldest_s(self) -> float:
        return self._admission.oldest_s(self._clock())

    async def submit(self, work: Work) -> Outcome:
        ticket = Ticket(work, asyncio.get_running_loop().create_future())
        try:
            self._admission.offer(ticket, self._clock())
        except SplitError as error:
            return Outcome(error=error)
        if self._running is None:
            self._running = asyncio.create_task(self._run_until_empty(), name="batcher")
        return await ticket.done

    async def _run_until_empty(self) -> None:
        """Batch after batch while work waits."""
        loop = asyncio.get_running_loop()
        try:
            while batch := self._admission.take(self._clock(), self._batch_size.now):
                started = self._clock()
                work = [ticket.work for ticket in batch]
                try:
                    if 0 < len(work) * self._admission.frame_s < SHORT_S:
                        outcomes = self._worker.run(work)
                    else:
                        outcomes = await loop.run_in_executor(self._thread, self._worker.run, work)
                except Exception:  # the worker answers frames' errors itself: this is a fault of ours
                    log.exception("worker failed on a batch of %d", len(work))
                    outcomes = [Outcome(error=RemoteFailure("the worker failed on this batch"))] * len(work)
                ran_s = self._clock() - started
                self._admission.measured(len(batch), ran_s)
                self._batch_size.measured(len(batch), ran_s)
                if self._load is not None:
                    self._load.ran(ran_s, [started - one.arrived_at for one in work])
                for ticket, outcome in zip(batch, outcomes, strict=True):
                    if not ticket.done.done():
                        queue_s = started - ticket.work.arrived_at
                        ticket.done.set_result(replace(outcome, queue_s=queue_s))
        finally:
            self._running = None
