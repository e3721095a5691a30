"""The seam between gateway and tails, and its in-process side.

`TailPool.submit` takes a frame's checked header with its undecoded payload and gives exactly one outcome.
Another engine (a Ray cluster) fits here without a change in the gateway. `EmbeddedPool` runs the tail in
this process: admission, a batcher and one worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

from splitrt.errors import RemoteFailure, ServerDraining, SplitError
from splitrt.server.admission import Admission, end
from splitrt.server.batch_size import BatchSize
from splitrt.server.captured import CapturedWorker
from splitrt.server.load import Load
from splitrt.server.work import Outcome, Ticket, Work
from splitrt.server.worker import Worker

SHORT_S = 0.001
GIVES_WAY = 5  # the tail's niceness over the event loop's
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

    The thread takes batch after batch while work waits, without coming back to the event loop, which has frames to
    let in meanwhile and goes before the tail where they share a core. Batches that take hardly longer than two changes
    of thread are run on the event loop itself.

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
        """load: is told of every batch, on the event loop."""
        self._worker, self._load = worker, load
        self._lock = Lock()  # of the next two, which the event loop and the tail's thread share
        self._admission = Admission(max_queue_frames, self._end)
        self._batch_size = BatchSize(max_batch, max_batch_s)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tail", initializer=_give_way)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The batch under way is finished and answered, what waits is refused."""
        with self._lock:
            self._admission.refuse_all(ServerDraining("the server stopped before this frame was run"))
        if self._running is not None:
            await self._running
        self._thread.shutdown()

    def queued(self) -> int:
        return len(self._admission)

    def oldest_s(self) -> float:
        with self._lock:  # asked from a third thread, that of the metrics
            return self._admission.oldest_s(self._clock())

    def wait_s(self) -> tuple[float, float]:
        """Until a frame that comes now would be answered, and of that what the frame itself takes the tail."""
        return self._admission.wait_s(self._clock()), self._admission.bound_s

    async def submit(self, work: Work) -> Outcome:
        ticket = Ticket(work, self._loop.create_future())
        try:
            with self._lock:
                self._admission.offer(ticket, self._clock())
        except SplitError as error:
            return Outcome(error=error)
        if self._running is None:
            self._running = asyncio.create_task(self._run_until_empty(), name="batcher")
        return await ticket.done

    async def _run_until_empty(self) -> None:
        try:
            while len(self._admission):
                if 0 < len(self._admission) * self._admission.frame_s < SHORT_S:
                    self._run_batch(self._answer)
                else:
                    await self._loop.run_in_executor(self._thread, self._run_batches)
        finally:
            self._running = None

    def _run_batches(self) -> None:
        """On the tail's thread, while work waits."""
        while self._run_batch(lambda *answered: self._loop.call_soon_threadsafe(self._answer, *answered)):
            pass

    def _run_batch(self, answer: Callable[..., object]) -> bool:
        """What can be run of what waits; False where nothing can. answer: `_answer`, on the event loop."""
        with self._lock:
            started = self._clock()
            batch = self._admission.take(started, self._batch_size.now)
        if not batch:
            return False
        try:
            outcomes: Sequence[Outcome] = self._worker.run([ticket.work for ticket in batch])
        except Exception:  # the worker answers frames' errors itself: this is a fault of ours
            log.exception("worker failed on a batch of %d", len(batch))
            outcomes = [Outcome(error=RemoteFailure("the worker failed on this batch"))] * len(batch)
        # Rubbish never comes to the tail. Counted, it would teach that frames take no time, and the next sound ones
        # would be let in beyond what can be run, and run on the event loop.
        ran = sum(outcome.error is None or outcome.tail_s > 0 for outcome in outcomes)
        with self._lock:
            ran_s = self._clock() - started
            self._admission.measured(ran, ran_s)
            if ran:
                self._batch_size.measured(ran, ran_s)
        answer(batch, outcomes, started, ran_s)
        return True

    def _answer(self, batch: Sequence[Ticket], outcomes: Sequence[Outcome], started: float, ran_s: float) -> None:
        waits_s = [started - ticket.work.arrived_at for ticket in batch]
        for ticket, outcome, queue_s in zip(batch, outcomes, waits_s, strict=True):
            end(ticket, replace(outcome, queue_s=queue_s))
        if self._load is not None:
            self._load.ran(ran_s, waits_s)

    def _end(self, ticket: Ticket, outcome: Outcome) -> None:
        self._loop.call_soon_threadsafe(end, ticket, outcome)


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere it would be the whole process
        os.nice(GIVES_WAY)
