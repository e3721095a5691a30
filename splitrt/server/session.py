"""One device's stream on the server: frames checked, chunks put together, every frame answered.

Once, or where the stream degrades, again whenever more of its chunks have come. No protobuf and no gRPC here:
messages come in as checked values, replies go out through a queue. A frame that fails gets a reply that says so; only
a bad hello ends the stream.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from splitrt.bundle import Bundle
from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.errors import (
    BadFrame,
    DeadlineExceeded,
    FrameTooLarge,
    InvalidInput,
    Overloaded,
    ReferenceGone,
    ServerDraining,
    SplitError,
    VersionMismatch,
    WidthUnsupported,
)
from splitrt.metrics import ServerMetrics
from splitrt.rpc.frames import MOST_BACK, SLOTS, FrameChunk, FrameStart, Limits, Reply, tables_prefix
from splitrt.server.acknowledging import Acknowledging
from splitrt.server.assembly import Assembly
from splitrt.server.pool import TailPool
from splitrt.server.work import Outcome, UInt8, Work

REFERENCES = 64  # frames that later ones may be differences to: as many as may be under way
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """What later frames may be differences to."""

    width: int
    bits: int
    symbols_ZHW: UInt8


class Session:
    """Frames of one stream for one bundle; `write` is called with every reply.

    A device that does not read its results holds up its own writes, then its own reading, nobody else's.
    """

    def __init__(
        self,
        bundle: Bundle,
        pool: TailPool,
        limits: Limits,
        principal: str,
        write: Callable[[Reply], Awaitable[None]],
        metrics: ServerMetrics,
        clock: Callable[[], float] = time.monotonic,
        deltas: bool = False,
        acknowledge: Callable[[int], Awaitable[None]] | None = None,
        stream: int = 0,
    ) -> None:
        """deltas: frames may come as differences to answered ones, so the symbols of the last few are kept.

        acknowledge: given, frames degrade: they are answered with the chunks that have come, and this is told how many
        messages have. stream: the number that the device gave itself, for its traces; it is believed by nobody else.
        """
        self._bundle, self._pool, self._limits = bundle, pool, limits
        self._principal, self._write, self._clock = principal, write, clock
        self._metrics = metrics.of(bundle.manifest.name, bundle.manifest.version)
        self._stream = stream or secrets.randbits(64)
        self._tables = tables_prefix(bundle.tables.digest())
        self._assemblies: dict[int, Assembly] = {}  # by slot
        self._running: dict[int, asyncio.Task[None]] = {}  # by seq
        self._deltas = deltas
        self._acks = None if acknowledge is None else Acknowledging(acknowledge)
        self._answered: OrderedDict[int, Answered] = OrderedDict()  # by seq, the last REFERENCES
        self.draining = False

    async def start_frame(self, start: FrameStart) -> None:
        """A frame's first chunk."""
        self._hear()
        try:
            codec = self._check(start)
            reference_ZHW = self._reference(start) if codec is Codec.DELTA else None
        except SplitError as error:
            self._metrics.refused(error, len(start.payload))
            await self._answer(start.seq, Outcome(error=error))
            return
        assembly = Assembly(start, codec, self._clock(), degrades=self._acks is not None, reference_ZHW=reference_ZHW)
        if not assembly.is_whole:
            self._displace(start.seq % SLOTS)
            self._assemblies[start.seq % SLOTS] = assembly
        task = asyncio.create_task(self._run(assembly))
        self._running[start.seq] = task
        self._metrics.in_flight += 1
        task.add_done_callback(lambda task: self._ended(assembly, task))

    def _ended(self, assembly: Assembly, task: asyncio.Task[None]) -> None:
        """However it did: a task that is cancelled before its first step runs none of its own lines."""
        seq = assembly.start.seq
        del self._running[seq]
        if self._assemblies.get(seq % SLOTS) is assembly:
            del self._assemblies[seq % SLOTS]
        self._metrics.in_flight -= 1
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error:  # else it was counted
            self._metrics.cancelled()
        if error:
            log.info("the answer of a frame could not be written: %s", error)  # its stream is ending too

    def add_chunk(self, chunk: FrameChunk) -> None:
        """A further chunk. One for a frame that is gone (answered, refused) is dropped without a word."""
        self._hear()
        assembly = self._assemblies.get(chunk.slot)
        if assembly is None or assembly.is_over:
            return
        try:
            self._check_size(assembly.size + len(chunk.payload))
            assembly.add(chunk)
        except SplitError as error:
            assembly.fail(error)

    def _hear(self) -> None:
        if self._acks is not None:
            self._acks.hear()

    async def finish(self) -> None:
        """The device has half-closed: no chunk will come any more; what can be answered is."""
        for slot in list(self._assemblies):
            self._displace(slot)
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._rest()

    def abandon(self) -> None:
        """The stream is gone: nobody will read these answers."""
        for task in self._running.values():
            task.cancel()
        self._rest()

    def _rest(self) -> None:
        if self._acks is not None:
            self._acks.close()

    # ── checks ──────────────────────────────────────────────────────────────────────────────────────

    def _check(self, start: FrameStart) -> Codec:
        """Header against bundle and limits, then the checksum: all before anything is decoded."""
        if self.draining:
            raise ServerDraining("the server is draining and takes no new frames")
        if len(self._running) >= self._limits.max_in_flight:
            most = self._limits.max_in_flight
            raise Overloaded(
                f"overloaded: {most} frames of this stream are not answered yet", retry_after_ms=1, reason="stream"
            )
        if start.seq in self._running:
            raise BadFrame(f"seq must be of no unanswered frame, got seq {start.seq} again", reason="duplicate")
        try:
            codec = Codec(start.codec)
        except ValueError:
            known = ", ".join(f"{c.value} ({c.name.lower()})" for c in Codec)
            raise InvalidInput(f"codec must be one of {known}, got {start.codec}") from None
        if start.deadline_ms == 0:
            raise DeadlineExceeded("deadline must be above 0 ms, got 0", stage="uplink")
        if start.deadline_ms > self._limits.max_deadline_ms:
            raise InvalidInput(f"deadline must be 1 to {self._limits.max_deadline_ms} ms, got {start.deadline_ms}")
        if start.tables != self._tables:
            raise VersionMismatch(f"tables digest must begin {self._tables:08x}, got {start.tables:08x}")
        self._check_size(len(start.payload))
        self._check_shape(start, codec)
        crc = codec_payload.checksum(start.seq, start.width, start.bits, codec, 0, start.payload, start.back)
        codec_payload.check(start.crc32c, crc)
        return codec

    def _check_shape(self, start: FrameStart, codec: Codec) -> None:
        seam = self._bundle.manifest.seam
        if codec is Codec.JPEG:
            if start.width or start.bits or start.back or start.chunks != 1:
                raise BadFrame("a photograph has width 0, bits 0, one chunk and no frame before it", reason="malformed")
            return
        is_delta = codec is Codec.DELTA
        if is_delta != (start.back > 0) or start.back > MOST_BACK or (is_delta and start.chunks != 1):
            raise BadFrame(f"a difference reaches 1 to {MOST_BACK} frames back, in one chunk", reason="malformed")
        if start.width not in seam.widths:
            raise WidthUnsupported(f"width must be one of {seam.widths}, got {start.width}")
        if start.bits not in seam.bits:
            raise WidthUnsupported(f"bits must be one of {seam.bits}, got {start.bits}")
        groups = len(seam.group_sizes(start.width))
        if start.chunks not in (1, groups):
            raise BadFrame(f"width {start.width} comes in 1 or {groups} chunks, got {start.chunks}", reason="chunks")

    def _reference(self, start: FrameStart) -> UInt8:
        """Symbols of the frame that this one is the difference to. Raises ReferenceGone where they are not here."""
        found = self._answered.get(start.seq - start.back)
        if found is None or (found.width, found.bits) != (start.width, start.bits):
            raise ReferenceGone(f"frame {start.seq - start.back} is not kept at width {start.width}, {start.bits} bits")
        return found.symbols_ZHW

    def _check_size(self, size: int) -> None:
        most = self._limits.max_payload_bytes
        if size > most:
            raise FrameTooLarge(f"payload must be at most {most} bytes, got {size}")

    # ── running ─────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, assembly: Assembly) -> None:
        """Answers until one is of all chunks, or time is up; an error is an answer where there was none before."""
        start, answered, is_over = assembly.start, 0, False
        try:
            while not is_over:
                count = await assembly.more(answered, self._clock)
                outcome = await self._serve(assembly, count)
                if outcome.error is None or not answered:
                    await self._answer(start.seq, outcome, chunks=0 if count == start.chunks else count)
                # Counted once the answer is on its way: nobody waits for that.
                self._metrics.ran(outcome.queue_s, outcome.decode_s, outcome.tail_s)
                if is_over := outcome.error is not None or count == start.chunks:
                    self._count(assembly, None if answered else outcome.error, answered if outcome.error else count)
                answered = count
        except SplitError as error:
            if not answered:
                await self._answer(start.seq, Outcome(error=error))
            self._count(assembly, None if answered else error, answered)

    def _count(self, assembly: Assembly, error: SplitError | None, answered: int) -> None:
        """A frame that has ended. answered: with how many of its chunks."""
        start, seam = assembly.start, self._bundle.manifest.seam
        packed_bits = 0 if seam.tensors else seam.channels_at(start.width) * seam.height * seam.width * start.bits
        self._metrics.came(assembly.codec.name.lower(), assembly.size, packed_bits // 8, is_whole=assembly.is_whole)
        width = start.width if answered == start.chunks else seam.widths[answered - 1]
        trace = f"{self._stream:016x}{start.seq:016x}"
        self._metrics.ended(error, width, self._clock() - assembly.arrived_at, trace)
        if error is not None and log.isEnabledFor(logging.DEBUG):
            log.debug("frame ended as %s: %s", error.code, error, extra={"request_id": trace})

    async def _serve(self, assembly: Assembly, count: int) -> Outcome:
        """Through the tail with the first `count` chunks."""
        start, is_whole = assembly.start, count == assembly.start.chunks
        width = start.width if is_whole else self._bundle.manifest.seam.widths[count - 1]
        outcome = await self._pool.submit(
            Work(
                principal=self._principal,
                width=width,
                bits=start.bits,
                codec=assembly.codec,
                payloads=tuple(assembly.chunks[:count]),
                arrived_at=self._clock(),  # waiting for chunks is the link's time, not the server's
                deadline_at=assembly.deadline_at,
                reference_ZHW=assembly.reference_ZHW,
                keep=self._deltas and assembly.codec is not Codec.JPEG and is_whole,
            )
        )
        if outcome.symbols_ZHW is not None:
            self._answered[start.seq] = Answered(width, start.bits, outcome.symbols_ZHW)
            while len(self._answered) > REFERENCES:
                self._answered.popitem(last=False)
        return outcome

    def _displace(self, slot: int) -> None:
        stale = self._assemblies.pop(slot, None)
        if stale is not None:
            stale.fail(stale.missing())

    async def _answer(self, seq: int, outcome: Outcome, chunks: int = 0) -> None:
        await self._write(
            Reply(
                seq=seq,
                outputs=outcome.outputs,
                error=outcome.error,
                queue_s=outcome.queue_s,
                decode_s=outcome.decode_s,
                tail_s=outcome.tail_s,
                chunks=chunks,
            )
        )
        self._metrics.sent(sum(output.nbytes for output in outcome.outputs))
