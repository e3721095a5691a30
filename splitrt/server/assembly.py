"""A frame on the server with the chunks that have come, until all have or it is answered without the rest.

Whole frames are answered once, when all chunks are there. A frame of a degrading stream is answered with those that
are there once it has been waited for a share of its time, and again with more: nobody but the device knows when its
deadline really is, so the answer that it may fall back on is sent early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.errors import BadFrame, DeadlineExceeded, SplitError
from splitrt.rpc.frames import FrameChunk, FrameStart
from splitrt.server.work import UInt8

PATIENCE = 0.2  # of its time, for which a degrading frame waits for more chunks before its first answer


class Assembly:
    """Times are of this machine's monotonic clock, in seconds."""

    def __init__(
        self,
        start: FrameStart,
        codec: Codec,
        arrived_at: float,
        *,
        degrades: bool = False,
        reference_ZHW: UInt8 | None = None,
    ) -> None:
        self.start, self.codec, self.arrived_at, self.degrades = start, codec, arrived_at, degrades
        self.deadline_at = arrived_at + start.deadline_ms / 1e3
        self.reference_ZHW = reference_ZHW
        self.chunks: list[bytes] = []  # that are whole
        self.size = 0
        self._messages = 0
        self._open: list[bytes] = []  # of the chunk that is not
        self._error: SplitError | None = None
        self._changed = asyncio.Event()
        self._append(start.payload, start.is_open)

    @property
    def is_whole(self) -> bool:
        return len(self.chunks) == self.start.chunks

    @property
    def is_over(self) -> bool:
        """Nothing can be added any more."""
        return self.is_whole or self._error is not None

    def add(self, chunk: FrameChunk) -> None:
        """Raises IntegrityError where the chunk is of another frame or out of its place, BadFrame on one of nothing."""
        start = self.start
        if chunk.is_open and not chunk.payload:
            raise BadFrame("a message of a chunk that goes on must hold some of it", reason="chunks")
        crc = codec_payload.checksum(start.seq, start.width, start.bits, self.codec, self._messages, chunk.payload)
        codec_payload.check(chunk.crc32c, crc)
        self._append(chunk.payload, chunk.is_open)

    def fail(self, error: SplitError) -> None:
        if not self.is_over:
            self._error = error
            self._changed.set()

    def missing(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{len(self.chunks)} of {self.start.chunks} chunks came in time", stage="assembly")

    async def more(self, than: int, clock: Callable[[], float]) -> int:
        """How many chunks to answer with, as soon as that is more `than` were answered with before.

        Raises the frame's error, or DeadlineExceeded where its time is up.
        """
        patience_s = PATIENCE * (self.deadline_at - self.arrived_at) if self.degrades else 0.0
        patient_until = self.arrived_at + patience_s
        while not self._is_enough(than, clock() >= patient_until):
            now = clock()
            if now >= self.deadline_at:
                raise self.missing()
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout((patient_until if now < patient_until else self.deadline_at) - now):
                    await self._changed.wait()
        if self._error is not None:
            raise self._error
        return len(self.chunks)

    def _is_enough(self, than: int, is_patience_over: bool) -> bool:
        if self.is_over:
            return True
        return self.degrades and is_patience_over and len(self.chunks) > than

    def _append(self, payload: bytes, is_open: bool) -> None:
        self._messages += 1
        self.size += len(payload)
        self._open.append(payload)
        if not is_open:
            self.chunks.append(b"".join(self._open))
            self._open.clear()
        self._changed.set()
