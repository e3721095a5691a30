"""The bounded queue in front of a tail: who waits, who is refused, who has waited too long.

Pure bookkeeping; times are passed in. Four rules:

1. Refused at once when the work ahead, the batch under way among it, will not leave enough time (by the measured time a
   frame takes, and how much that varies) or when the queue is full, with a time after which to try again.
2. Full, but the newcomer has less than its fair share: the newest work of the greediest principal gives way.
3. Taken in turn, one of each principal; what expired meanwhile never reaches the tail.
4. All frames of a batch are answered at its end: it takes no more of them than the one with least time can wait for.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from splitrt.errors import DeadlineExceeded, Overloaded, SplitError
from splitrt.server.work import Outcome, Ticket

SMOOTHING = 0.1  # weight of the newest batch in the mean time a frame takes
MOST_TIMES = 10.0  # the mean, that one batch may count for: a stall is no trend, and what is one is seen soon
SPREADS = 2.0  # mean deviations that a frame may take longer than the mean


def end(ticket: Ticket, outcome: Outcome) -> None:
    """On the event loop; nothing where its submitter has gone."""
    if not ticket.done.done():
        ticket.done.set_result(outcome)


class Admission:
    def __init__(self, max_frames: int, end: Callable[[Ticket, Outcome], None] = end) -> None:
        """end: how tickets that are not run are answered."""
        self.max_frames, self._end = max_frames, end
        self.frame_s = 0.0  # mean time the tail spends on a frame; 0 until measured
        self._spread_s = 0.0  # its mean deviation
        self._free_at = 0.0  # when the batch under way should end
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def offer(self, ticket: Ticket, now: float) -> None:
        """Queue it. Raises DeadlineExceeded or Overloaded; a displaced ticket is answered Overloaded itself."""
        work = ticket.work
        if work.deadline_at <= now:
            raise DeadlineExceeded(f"deadline passed {(now - work.deadline_at) * 1e3:.0f} ms ago", stage="uplink")
        wait_s = self.wait_s(now)
        if now + wait_s > work.deadline_at:
            if not self._count:
                self._doubt()
            raise out_of_time(wait_s)
        if self._count >= self.max_frames:
            self._displace(work.principal)
        self._waiting.setdefault(work.principal, deque()).append(ticket)
        self._count += 1

    def wait_s(self, now: float) -> float:
        """Until a frame that comes now would be answered; 0 until measured."""
        return max(0.0, self._free_at - now) + (self._count + 1) * self.bound_s

    def take(self, now: float, max_frames: int) -> list[Ticket]:
        """Up to `max_frames` live tickets, principals in turn. Expired and abandoned ones are dropped here."""
        batch: list[Ticket] = []
        is_late, ends_by = False, float("inf")
        while self._waiting and len(batch) < max_frames:
            ticket = next(iter(self._waiting.values()))[0]
            is_over, is_tight = ticket.done.done(), ticket.work.deadline_at <= now + self.frame_s
            if not is_over and not is_tight:
                ends_by = min(ends_by, ticket.work.deadline_at)
                if batch and now + (len(batch) + 1) * self.bound_s > ends_by:
                    break
            self._pop()
            if is_over:
                continue
            if is_tight:
                waited_s = now - ticket.work.arrived_at
                error = DeadlineExceeded(f"waited {waited_s * 1e3:.0f} ms and is too late to start", stage="queue")
                self._end(ticket, Outcome(error=error, queue_s=waited_s))
                is_late = True
                continue
            batch.append(ticket)
        if is_late and not batch:
            self._doubt()
        self._free_at = now + len(batch) * self.bound_s
        return batch

    def _pop(self) -> None:
        """The next ticket of the principal whose turn it is, which goes to the end of the line."""
        principal, queue = self._waiting.popitem(last=False)
        queue.popleft()
        self._count -= 1
        if queue:
            self._waiting[principal] = queue

    def oldest_s(self, now: float) -> float:
        """For how long the frame has waited that has waited longest; 0 where none does."""
        heads = [queue[0].work.arrived_at for queue in self._waiting.values() if queue]
        return max(0.0, now - min(heads)) if heads else 0.0

    def measured(self, frames: int, seconds: float) -> None:
        """Learn from a batch that ran. frames: that came to the tail; 0 teaches nothing."""
        self._free_at = 0.0
        if not frames:
            return
        each = seconds / frames
        if not self.frame_s:
            self.frame_s = each
            return
        each = min(each, MOST_TIMES * self.frame_s)
        self._spread_s += SMOOTHING * (min(self.frame_s, abs(each - self.frame_s)) - self._spread_s)
        self.frame_s += SMOOTHING * (each - self.frame_s)

    def refuse_all(self, error: SplitError) -> None:
        """Answer everything that waits with this error."""
        for queue in self._waiting.values():
            for ticket in queue:
                self._end(ticket, Outcome(error=error))
        self._waiting.clear()
        self._count = 0

    @property
    def bound_s(self) -> float:
        """What a frame takes the tail, with room for how much that varies."""
        return self.frame_s + SPREADS * self._spread_s

    def _doubt(self) -> None:
        # One stall of the tail can put the estimate above every deadline. Then nothing runs, nothing is
        # measured, and all would be refused for ever: an estimate that idles the tail fades.
        self.frame_s *= 1 - SMOOTHING
        self._spread_s *= 1 - SMOOTHING

    def _displace(self, newcomer: str) -> None:
        greedy = max(self._waiting, key=lambda principal: len(self._waiting[principal]))
        mine = len(self._waiting.get(newcomer, ()))
        if len(self._waiting[greedy]) <= mine + 1:
            raise _refusal(f"{self._count} frames wait, at most {self.max_frames} may", self.frame_s, "queue")
        loser = self._waiting[greedy].pop()
        self._count -= 1
        gone = _refusal("gave way to a client with fewer frames waiting", self.frame_s, "fairness")
        self._end(loser, Outcome(error=gone))


def out_of_time(wait_s: float) -> Overloaded:
    """The refusal of a frame that would be answered in `wait_s` at best."""
    return _refusal(f"{wait_s * 1e3:.0f} ms of work ahead", wait_s, "time")


def _refusal(why: str, wait_s: float, reason: str) -> Overloaded:
    return Overloaded(f"overloaded: {why}", retry_after_ms=max(1.0, wait_s * 1e3), reason=reason)
