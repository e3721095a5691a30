"""The seam between the frame loop and the wire: `Link`, and the scripted twin that ships for tests.

A frame handed to a link waits in a queue of ours until the network may have it, and can be taken back
until then. What was committed to the transport cannot be recalled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from splitrt.policy.queue import InFlight, Unanswered
from splitrt.rpc.frames import Frame, Reply

OnReply = Callable[["Sending", Reply], None]


@dataclass(slots=True, kw_only=True)
class Sending:
    """One frame under way. `reply` always ends with a Reply, which may hold an error: never an exception.

    `on_reply` is told of every reply off the wire: of answers made of some chunks, after which others follow, and of
    one that comes when nobody waits for it any more.
    """

    frame: Frame
    deadline_at: float
    reply: asyncio.Future[Reply]
    payload_bytes: int = 0  # of a frame that degrades: of what was handed to the transport
    link_bytes: int = 0
    sent_at: float | None = None  # when it was handed to the transport
    replied_at: float | None = None
    on_reply: OnReply | None = None
    chunks: Sequence[Sequence[Any]] = ()  # the frame as the transport will have it: each chunk's messages
    due: Sequence[Any] = ()  # of these, what goes next
    is_acked: bool = False  # the server says when bytes come: a reply is no sample of the link

    def end(self, reply: Reply) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def replied(self, reply: Reply, now: float) -> None:
        """A reply off the wire."""
        self.replied_at = now
        if self.on_reply is not None:
            self.on_reply(self, reply)
        if not reply.chunks:
            self.on_reply = None  # who listens holds us: frames would live on until the next collection of garbage
            self.end(reply)


class Link(Protocol):
    """The device's view of the wire."""

    @property
    def is_up(self) -> bool:
        """A server has welcomed us and is not draining."""

    @property
    def max_payload_bytes(self) -> int:
        """What the server accepts in one frame; 0 until one has said so."""

    def send(self, frame: Frame, deadline_at: float, on_reply: OnReply | None = None) -> Sending:
        """Queue a frame. `deadline_at` is on the clock of the event loop; the frame's own field is set on sending."""

    def withdraw(self, sending: Sending) -> bool:
        """Take a frame back that is not on the wire yet. False: too late, it is."""

    def in_flight(self, now: float) -> InFlight:
        """What waits or is sent, and not answered."""

    async def wait_up(self) -> None:
        """Return once the link is up."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ScriptedLink:
    """A link without a network: `script` gives each frame's reply and after how many seconds it comes.

    None as the reply: the frame is swallowed. For tests of users' code and of ours.
    """

    def __init__(self, script: Callable[[Frame], tuple[float, Reply | None]], *, is_up: bool = True) -> None:
        self._script = script
        self.is_up = is_up
        self.max_payload_bytes = 1 << 20
        self.sent: list[Frame] = []
        self._open: dict[int, Sending] = {}

    def send(self, frame: Frame, deadline_at: float, on_reply: OnReply | None = None) -> Sending:
        loop = asyncio.get_running_loop()
        sending = Sending(frame=frame, deadline_at=deadline_at, reply=loop.create_future(), on_reply=on_reply)
        sending.sent_at, sending.link_bytes = loop.time(), frame.payload_bytes
        sending.payload_bytes = frame.payload_bytes
        self.sent.append(frame)
        self._open[frame.seq] = sending
        after_s, reply = self._script(frame)
        if reply is not None:
            loop.call_later(after_s, self._reply, sending, reply)
        return sending

    def withdraw(self, sending: Sending) -> bool:
        return False  # everything is on the wire at once

    def in_flight(self, now: float) -> InFlight:
        frames = (
            Unanswered(link_bytes=sending.link_bytes, sent_at=sending.sent_at or now) for sending in self._open.values()
        )
        return InFlight(at=now, frames=tuple(frames))

    async def wait_up(self) -> None:
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.clear()

    def _reply(self, sending: Sending, reply: Reply) -> None:
        self._open.pop(sending.frame.seq, None)
        sending.replied(reply, asyncio.get_running_loop().time())
