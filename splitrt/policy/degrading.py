"""One stream of frames that degrade: which piece goes next, and when.

    frame ── chunks, in order of priority ── pieces, of a packet each ──[ worth its price now? ]── network
                                                                               └ acknowledged: estimate

No I/O and no clock: asked again after every event, and every few milliseconds while something waits. A newer base
overtakes older enhancements because it is worth more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from splitrt.policy.commit import Commits, Piece
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight, Unanswered

PROBE_S = 0.1  # without a word on its way, after which a base goes though it will be late
SLACK_S = 0.002  # by which a frame may look late and still be tried
PERIOD_GAIN = 0.2  # of the newest gap in the time between frames
LONGEST_S = 60.0  # of that time


@dataclass(slots=True)
class _Frame:
    added_at: float
    deadline_at: float
    chunks: list[Sequence[int]] = field(default_factory=list)  # bytes of each piece
    chunk: int = 0
    piece: int = 0  # the next one to go, of the chunk
    sent: int = 0  # pieces in all

    @property
    def is_waiting(self) -> bool:
        return self.chunk < len(self.chunks)


class Degrading:
    """Frames by a key of the caller's; times in seconds of one monotonic clock."""

    def __init__(self, estimate: LinkEstimate, commits: Commits) -> None:
        self.estimate, self.commits = estimate, commits
        self._frames: dict[int, _Frame] = {}  # oldest first
        self._flight: deque[Unanswered] = deque()
        self._heard = 0  # messages of the connection that were acknowledged
        self._newest_at = float("-inf")
        self._period_s = 0.0  # from frame to frame; 0: there was only one
        self._sent_at = float("-inf")

    def add(self, key: int, now: float, deadline_at: float) -> None:
        """A new frame, its chunks to come."""
        gap_s = now - self._newest_at
        if 0 < gap_s < LONGEST_S:
            self._period_s += (PERIOD_GAIN if self._period_s else 1.0) * (gap_s - self._period_s)
        self._newest_at = max(self._newest_at, now)
        self._frames[key] = _Frame(now, deadline_at)

    def append(self, key: int, piece_bytes: Sequence[int]) -> None:
        """A frame's next chunk is there; without effect on a frame that was dropped."""
        if key in self._frames:
            self._frames[key].chunks.append(piece_bytes)

    def drop(self, key: int) -> bool:
        """Nothing more of the frame will go. True: nothing ever did."""
        frame = self._frames.pop(key, None)
        return frame is not None and frame.sent == 0

    def next(self, now: float, *, can_begin: bool = True) -> tuple[int, int] | None:
        """The frame of which a piece goes now, and that piece's place in the frame; None: none does yet.

        can_begin: of frames, too, of which nothing went so far.
        """
        key = self._worthy(now, can_begin)
        if key is None:
            return None
        frame = self._frames[key]
        place = frame.sent
        self._flight.append(Unanswered(link_bytes=frame.chunks[frame.chunk][frame.piece], sent_at=now))
        self._sent_at = now
        frame.sent += 1
        frame.piece += 1
        if frame.piece == len(frame.chunks[frame.chunk]):
            frame.chunk, frame.piece = frame.chunk + 1, 0
        return key, place

    def acked(self, messages: int, now: float) -> None:
        """So many messages of this connection have come, says the server; more than were sent have not."""
        count = min(messages - self._heard, len(self._flight))
        if count <= 0:
            return
        self._heard += count
        heard = [self._flight.popleft() for _ in range(count)]
        self.estimate.acked(sum(one.link_bytes for one in heard), heard[0].sent_at, now)

    def lost(self) -> None:
        """The connection ended: what was on its way is gone, and so are the frames that were begun."""
        self._flight.clear()
        self._heard = 0
        self._frames = {key: frame for key, frame in self._frames.items() if not frame.sent}

    @property
    def is_waiting(self) -> bool:
        """Something may go, and has not."""
        return any(frame.is_waiting for frame in self._frames.values())

    @property
    def is_idle(self) -> bool:
        return not self._flight

    def in_flight(self, now: float) -> InFlight:
        """What was sent together counts as one."""
        frames: list[Unanswered] = []
        for one in self._flight:
            if frames and frames[-1].sent_at == one.sent_at:
                one = Unanswered(link_bytes=frames[-1].link_bytes + one.link_bytes, sent_at=one.sent_at)
                frames.pop()
            frames.append(one)
        return InFlight(at=now, frames=tuple(frames), is_acked=True)

    def _worthy(self, now: float, can_begin: bool) -> int | None:
        waiting = {key: frame for key, frame in self._frames.items() if frame.is_waiting and (can_begin or frame.sent)}
        if not waiting:
            return None
        estimate = self.estimate
        soonest_s = estimate.server_s + (estimate.round_trip_s if estimate.trip.is_known else 0.0) - SLACK_S
        alive = {key: frame for key, frame in waiting.items() if now + soonest_s <= frame.deadline_at}
        if not alive:
            newest = max(waiting, key=lambda key: waiting[key].added_at)
            is_quiet = not self._flight and now - self._sent_at > PROBE_S
            return newest if is_quiet and not waiting[newest].sent else None
        pieces = [self._piece(frame) for frame in alive.values()]
        next_at = max(now, self._newest_at + self._period_s)
        newest_frame = max(alive.values(), key=lambda frame: frame.added_at)
        span_s = newest_frame.deadline_at - newest_frame.added_at - soonest_s
        if self._period_s:
            span_s = min(span_s, self._period_s)
        chosen = self.commits.choose(estimate.outlook(self.in_flight(now)), pieces, next_at, max(span_s, 1e-3))
        return None if chosen is None else list(alive)[chosen]

    def _piece(self, frame: _Frame) -> Piece:
        rest = frame.chunks[frame.chunk][frame.piece :]
        return Piece(
            link_bytes=rest[0],
            rest_bytes=sum(rest),
            gain=self.commits.gains[frame.chunk],
            deadline_at=frame.deadline_at,
            is_base=frame.chunk == 0,
        )
