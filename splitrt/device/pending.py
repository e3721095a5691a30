"""A submitted frame until its end, and the results that can be made of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from splitrt.device.link import Sending
from splitrt.device.local import Encoded, Looked
from splitrt.device.result import Result, Source, Timings
from splitrt.manifest import Manifest
from splitrt.policy.decision import Choice
from splitrt.rpc.frames import Reply


@dataclass(slots=True, kw_only=True, eq=False)
class Pending:
    """`done` ends exactly once: the first end counts, later ones are nothing."""

    seq: int
    frame: Any  # as the device took it
    submitted_at: float
    deadline_at: float
    done: asyncio.Future[Result]
    task: asyncio.Task[None] | None = None
    looked: Looked | None = None
    encoded: Encoded | None = None
    sending: Sending | None = None
    choice: Choice | None = None  # where it was decided to go
    best: Reply | None = None  # the widest answer so far from some of its chunks

    def end(self, end: Result | BaseException) -> None:
        if self.done.done():
            return
        self.frame = None  # megabytes, which nobody looks at again
        if isinstance(end, Result):
            self.done.set_result(end)
        else:
            self.done.set_exception(end)
            self.done.exception()  # a caller who never looks is not warned at exit

    @property
    def stage(self) -> str:
        """Where it is: what a deadline that passes now is blamed on."""
        if self.looked is None:
            return "head"
        return "uplink" if self.sending is None or self.sending.sent_at is None else "tail"

    def result(
        self, manifest: Manifest, source: Source, output: Any, now: float, timings: Timings | None = None
    ) -> Result:
        encoded, sending = self.encoded, self.sending
        is_sent = sending is not None and sending.sent_at is not None
        return Result(
            seq=self.seq,
            source=source,
            output=output,
            model=manifest.name,
            version=manifest.version,
            latency_ms=(now - self.submitted_at) * 1e3,
            degraded=source == "fallback",
            width=encoded.width if encoded else 0,
            bits=encoded.bits if encoded else 0,
            payload_bytes=sending.payload_bytes if sending and is_sent else 0,
            link_bytes=sending.link_bytes if sending and is_sent else 0,
            in_time=self.choice.in_time if self.choice else None,
            timings=timings or Timings(head=self.looked.head_s * 1e3 if self.looked else 0.0),
        )

    def timings(self, reply: Reply, round_trip_s: float) -> Timings:
        """Of a frame that the server answered."""
        looked, encoded, sending = self.looked, self.encoded, self.sending
        if looked is None or encoded is None or sending is None:
            return Timings()
        waited_s = (sending.replied_at or 0.0) - (sending.sent_at or 0.0)
        net_s = max(0.0, waited_s - reply.queue_s - reply.decode_s - reply.tail_s)
        downlink_s = min(net_s, round_trip_s) / 2
        return Timings(
            head=(looked.head_s + encoded.head_s) * 1e3,
            encode=encoded.encode_s * 1e3,
            uplink=(net_s - downlink_s) * 1e3,
            queue=reply.queue_s * 1e3,
            decode=reply.decode_s * 1e3,
            tail=reply.tail_s * 1e3,
            downlink=downlink_s * 1e3,
        )
