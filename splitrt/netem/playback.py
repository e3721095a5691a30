"""A shape against a clock: when bytes given to a direction now will arrive."""

from __future__ import annotations

from collections.abc import Callable

from splitrt.netem.shape import Pipe, Shape
from splitrt.netem.trace import Direction


class Playback:
    """Both directions of one link. The trace begins at the making, or at `restart`; all times are the clock's."""

    def __init__(self, shape: Shape, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._pipes: dict[Direction, Pipe] = {"up": Pipe(shape, "up"), "down": Pipe(shape, "down")}
        self._zero_s = clock()

    def restart(self) -> None:
        """The trace's time zero is now. Bytes already in the link keep the arrival they were given."""
        by_s = self._now_s()
        self._zero_s += by_s
        for pipe in self._pipes.values():
            pipe.rebase(by_s)

    def due_s(self, direction: Direction, size_bytes: int) -> float:
        """Queue bytes in the link; when they arrive."""
        return self._pipes[direction].schedule(self._now_s(), size_bytes) + self._zero_s

    def wait_s(self, direction: Direction) -> float:
        """For how long the link's queue is full; not above zero: it has room."""
        now_s = self._now_s()
        return self._pipes[direction].room_at(now_s) - now_s

    def _now_s(self) -> float:
        return self.clock() - self._zero_s
