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
from types import TracebackType
from typing import Protocol, Self

from splitrt.errors import RemoteFailure, ServerDraining, SplitError
from splitrt.server.admission import Admission
from splitrt.server.work import Outcome, Ticket, Work
from splitrt.server.worker import Worker

log = logging.getLogger(__name__)


class TailPool(Protocol):
    """Tails of one bundle, wherever they run."""

    async def submit(self, work: Work) -> Outcome:
        """Run it. Never raises for a frame's sake: errors are outcomes."""

    def queued(self) -> int:
        """Frames waiting for a tail."""


class EmbeddedPool:
    """A tail in this process: `async with` starts and ends its batcher.

    The batcher never waits to fill a batch: it takes what waits whenever the tail is free, up to
    `max_batch`. On CPUs batching gains little, so a frame that comes alone is run alone at once.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        max_queue_frames: int = 256,
        max_batch: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._admission = Admission(max_queue_frames)
        self._max_batch = max_batch
        self._clock = clock
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tail")
        self._batcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._batcher = asyncio.create_task(self._batches(), name="batcher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._batcher is not None:
            self._batcher.cancel()
            await asyncio.gather(self._batcher, return_exceptions=True)
        self._admission.refuse_all(ServerDraining("the server stopped before this frame was run"))
        self._thread.shutdown(wait=True, cancel_futures=True)

    def queued(self) -> int:
        return len(self._admission)

    async def submit(self, work: Work) -> Outcome:
        ticket = Ticket(work, asyncio.get_running_loop().create_future())
        try:
            self._admission.offer(ticket, self._clock())
        except SplitError as error:
            return Outcome(error=error)
        self._wake.set()
        return await ticket.done

    async def _batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            started = self._clock()
            batch = self._admission.take(started, self._max_batch)
            if not batch:
                self._wake.clear()
                continue
            try:
                outcomes = await loop.run_in_executor(self._thread, self._worker.run, [t.work for t in batch])
            except Exception:  # the worker answers frames' errors itself; this is a fault of ours
                log.exception("worker failed on a batch of %d", len(batch))
                outcomes = [Outcome(error=RemoteFailure("the worker failed")) for _ in batch]
            except asyncio.CancelledError:
                for ticket in batch:
                    if not ticket.done.done():
                        ticket.done.set_result(Outcome(error=ServerDraining("the server stopped while it ran")))
                raise
            self._admission.measured(len(batch), self._clock() - started)
            for ticket, outcome in zip(batch, outcomes, strict=True):
                if not ticket.done.done():
                    ticket.done.set_result(_with_queue(outcome, started - ticket.work.arrived_at))


def _with_queue(outcome: Outcome, queue_s: float) -> Outcome:
    return Outcome(
        outputs=outcome.outputs,
        error=outcome.error,
        queue_s=queue_s,
        decode_s=outcome.decode_s,
        tail_s=outcome.tail_s,
    )
