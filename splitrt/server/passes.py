"""The thread that runs a target: whatever waits, of all sessions, goes into one pass.

    jobs ── begin ── pieces of their texts, drafts ─┬─ read_many ─┬─ finish ── results
                                                    └── again ◀───┘ until a long text is read

Rows of several sessions share tiles: a target's row does not depend on its neighbours, so that is only faster. A long
text is read a piece a pass, and the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor

from splitrt.errors import ServerDraining
from splitrt.language.context import Context
from splitrt.language.model import Model

T = TypeVar("T")
MOST_TOGETHER = 64  # jobs of one pass


@dataclass(frozen=True, slots=True)
class Work(Generic[T]):
    """A look at a session's text; finish: from its logits_TV to the result."""

    context: Context
    tokens: Sequence[int]
    ids: Sequence[int]
    parents: Sequence[int]
    finish: Callable[[Tensor], T]


@dataclass(frozen=True, slots=True)
class Ready(Generic[T]):
    """A result that needs no look."""

    result: T


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    begin: Callable[[], Work[T] | Ready[T]]  # on the thread, where sessions may be touched
    done: Future[T] = field(default_factory=Future)
    work: Work[T] | None = None


class Passes:
    """Use as a context manager; without it, `here` runs a job on the caller's own thread."""

    def __init__(self, model: Model) -> None:
        self.passes = self.jobs = 0
        self._model = model
        self._waiting: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="target", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Jobs that wait are cancelled."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    async def run(self, begin: Callable[[], Work[T] | Ready[T]]) -> T:
        job: Job[T] = Job(begin)
        self._waiting.put(job)  # type: ignore[arg-type]
        return await asyncio.wrap_future(job.done)

    def here(self, begin: Callable[[], Work[T] | Ready[T]]) -> T:
        job: Job[T] = Job(begin)
        active = self._begin([job])
        while active:
            active = self._step(active)
        return job.done.result()

    def _run(self) -> None:
        active: list[Job[object]] = []
        late: list[Job[object]] = []  # their session is busy with a job that came before
        while True:
            jobs, is_over = self._take(block=not active and not late)
            if is_over:
                for job in (*active, *late, *jobs):
                    if not job.done.cancel():
                        job.done.set_exception(ServerDraining("the server is going away"))
                return
            busy = {id(job.work.context) for job in active if job.work is not None}
            late = [*late, *jobs]
            begun = self._begin(late[: MOST_TOGETHER - len(active)])
            late = late[MOST_TOGETHER - len(active) :]
            for job in begun:
                assert job.work is not None
                (late if id(job.work.context) in busy else active).append(job)
                busy.add(id(job.work.context))
            if active:
                active = self._step(active)

    def _take(self, *, block: bool) -> tuple[list[Job[object]], bool]:
        jobs: list[Job[object]] = []
        while True:
            try:
                job = self._waiting.get(block=block and not jobs)
            except queue.Empty:
                return jobs, False
            if job is None:
                return jobs, True
            jobs.append(job)

    def _begin(self, jobs: Sequence[Job[T]]) -> list[Job[T]]:
        """Those that need a look. A job that had to wait begins anew: its session may be another by now."""
        begun = []
        for job in jobs:
            if not job.done.running() and not job.done.set_running_or_notify_cancel():
                continue  # its stream ended while it waited
            try:
                work = job.begin()
            except Exception as error:  # the caller's to see, whatever it is
                job.done.set_exception(error)
                continue
            if isinstance(work, Ready):
                job.done.set_result(work.result)
            else:
                job.work = work
                begun.append(job)
        return begun

    def _step(self, active: list[Job[T]]) -> list[Job[T]]:
        """One pass; those that are not through."""
        works = [job.work for job in active if job.work is not None]
        try:
            readings = [work.context.next_reading(work.tokens, work.ids, work.parents) for work in works]
            looks = self._model.read_many([reading for reading, _ in readings])
        except Exception as error:
            for job, work in zip(active, works, strict=True):
                work.context.forget()
                job.done.set_exception(error)
            return []
        self.passes, self.jobs = self.passes + 1, self.jobs + len(active)
        left = []
        for job, work, (_, is_last), logits_TV in zip(active, works, readings, looks, strict=True):
            if not is_last:
                left.append(job)
                continue
            try:
                job.done.set_result(work.finish(logits_TV))
            except Exception as error:
                work.context.forget()
                job.done.set_exception(error)
        return left
