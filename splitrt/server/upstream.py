"""A gateway's connection to one replica: one stream, tasks of all its devices in flight on it at once.

Frames are stateless for the replica, so they share a stream: a device's stream that says nothing costs nothing here,
and a frame can go to whichever replica has least to do. A replica that dies or freezes ends the stream; everything in
flight on it is told so at once and may be asked of another.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import grpc
from pydantic import SecretStr

from splitrt.errors import LinkLost, SplitError
from splitrt.rpc import tails
from splitrt.rpc.channel import client_options
from splitrt.rpc.tails import Done, Leaving, Task
from splitrt.server.auth import bearer
from splitrt.server.work import Outcome, Work

CONNECT_S = 5.0
log = logging.getLogger(__name__)


class Upstream:
    """Use `open`, then `submit` from one event loop."""

    def __init__(self, address: str, credential: SecretStr, max_message_bytes: int, clock: Callable[[], float]) -> None:
        self.address = address
        self.is_ready = False  # takes new tasks
        self.is_lost = False  # for good
        self._credential, self._clock = credential, clock
        self._channel = grpc.aio.insecure_channel(address, options=client_options(max_message_bytes))
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        # gRPC takes one write at a time, and ends a call whose write is cancelled: a device that leaves must not end
        # the stream of all. So one task writes. What is in here is bounded by what is in flight. None: no more.
        self._outbox: asyncio.Queue[Task | None] = asyncio.Queue()
        self._ids = itertools.count(1)
        self._in_flight: dict[int, asyncio.Future[Done]] = {}
        self._arrived: dict[int, float] = {}  # when each came
        self._elsewhere = 0  # tasks in the replica's queue at its last answer that are not ours
        self._wait_s = self._frame_s = self._heard_at = 0.0  # what it said of its work at that answer
        self._asked_since = 0

    @property
    def load(self) -> int:
        """Tasks ahead of a new one, as far as is known here."""
        return len(self._in_flight) + self._elsewhere

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def wait_s(self) -> float:
        """How long a frame that came now would wait for its answer, at least, as far as is known here.

        0 with nothing in flight: the replica's word may be old then, and only work brings another.
        """
        if not self._in_flight:
            return 0.0
        left_s = max(self._frame_s, self._wait_s - (self._clock() - self._heard_at))
        return left_s + self._asked_since * self._frame_s

    @property
    def oldest_at(self) -> float | None:
        """When the frame came that has been in flight for longest. Any thread may ask."""
        return min(list(self._arrived.values()), default=None)

    async def open(self) -> None:
        """Raises LinkLost where the replica cannot be reached or does not take the credential."""
        self._call = tails.open_stub(self._channel).Run(metadata=bearer(self._credential))
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._call.wait_for_connection()
        except (TimeoutError, grpc.RpcError) as error:
            self.is_lost = True
            self._call.cancel()
            raise LinkLost(f"replica {self.address} cannot be reached") from error
        self.is_ready = True
        self._reading = asyncio.create_task(self._read(), name=f"replica {self.address}")
        self._writing = asyncio.create_task(self._write(), name=f"to replica {self.address}")

    async def ended(self) -> None:
        """Wait until it is lost; at once where it never was open."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def submit(self, work: Work) -> Outcome:
        """Raises LinkLost where the replica went away under it: whether it ran is not known."""
        if self.is_lost:
            raise self._gone()
        number, done = next(self._ids), asyncio.get_running_loop().create_future()
        self._in_flight[number], self._arrived[number] = done, work.arrived_at
        try:
            self._outbox.put_nowait(_task(number, work, self._clock()))
            self._asked_since += 1
            return _outcome(await done, self._clock() - work.arrived_at)
        finally:
            del self._in_flight[number], self._arrived[number]
            done.cancel()
            self._part()

    async def close(self) -> None:
        """What is still in flight is told that the link is lost."""
        self.is_ready = False
        running = [task for task in (self._reading, self._writing) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._call is not None:
            self._call.cancel()
        await self._channel.close()

    async def _write(self) -> None:
        try:
            while (task := await self._outbox.get()) is not None:
                if task.id in self._in_flight:  # whoever asked may have left
                    await self._call.write(tails.task_to_wire(task))
            await self._call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):  # the reader sees it too, and tells those who wait
            self._call.cancel()

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._hear(tails.from_tails(message))
        except grpc.RpcError:
            pass
        except SplitError:
            log.exception("replica %s says what none of ours says", self.address)
        finally:
            self.is_ready, self.is_lost = False, True
            for done in self._in_flight.values():
                if not done.done():
                    done.set_exception(self._gone())

    def _hear(self, message: Done | Leaving) -> None:
        if isinstance(message, Leaving):
            self.is_ready = False
            self._part()
            return
        done = self._in_flight.get(message.id)
        if done is not None and not done.done():
            done.set_result(message)
        self._elsewhere = max(0, message.waiting - len(self._in_flight))
        self._wait_s, self._frame_s, self._heard_at = message.wait_s, message.frame_s, self._clock()
        self._asked_since = 0

    def _part(self) -> None:
        """A replica that is leaving waits for this: nothing more will come, and nothing is awaited."""
        if not self.is_ready and not self.is_lost and not self._in_flight:
            self._outbox.put_nowait(None)

    def _gone(self) -> LinkLost:
        return LinkLost(f"replica {self.address} went away")


def _task(number: int, work: Work, now: float) -> Task:
    return Task(
        id=number,
        principal=work.principal,
        width=work.width,
        bits=work.bits,
        codec=work.codec,
        payloads=work.payloads,
        left_s=work.deadline_at - now,
        reference_ZHW=work.reference_ZHW,
        keep=work.keep,
    )


def _outcome(done: Done, took_s: float) -> Outcome:
    """queue_s: everything that was neither decoding nor the tail, so the way to the replica too."""
    return Outcome(
        outputs=done.outputs,
        error=done.error,
        symbols_ZHW=done.symbols_ZHW,
        queue_s=max(done.queue_s, took_s - done.decode_s - done.tail_s),
        decode_s=done.decode_s,
        tail_s=done.tail_s,
    )
