"""What a link does to bytes: rate, delay, jitter, outages and a bounded queue. No clock, no sockets.

    bytes -> [ queue <= buffer_bytes ] -> rate of the trace, 0 in an outage -> delay + jitter -> bytes

The queue is one for all connections of a direction, as they share one radio link; what left it never
overtakes. Loss is not modelled: under TCP it shows as delay, which is what jitter and outages are for.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from splitrt.errors import ConfigError
from splitrt.netem.trace import Direction, Trace
from splitrt.netem.tracefile import MAX_MBIT

MIN_MBIT = 1e-6  # slower than this is an outage
_ROUNDING_S = 1e-9  # bytes that end as an outage begins are through


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A link, both directions of it: "up" is from the device to the server.

    `up_mbit` and `down_mbit` are constant rates for a direction that no trace measures; with no trace,
    `None` is as fast as the machine. A direction that a given trace lacks must be given here: to leave
    it out could mean anything.
    """

    trace: Trace | None = None
    up_mbit: float | None = None
    down_mbit: float | None = None
    rtt_ms: float = 0.0  # half of it each way
    jitter_ms: float = 0.0  # each piece is late by up to this much more, one way
    outages: tuple[tuple[float, float], ...] = ()  # (at_s, for_s), in seconds since the trace began
    buffer_bytes: int = 64 * 1024  # queued in the link before the proxy stops reading
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_rate("up", self.up_mbit)
        self._check_rate("down", self.down_mbit)
        for name, value in (("rtt_ms", self.rtt_ms), ("jitter_ms", self.jitter_ms)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"shape.{name} must be finite and not negative, got {value}")
        for at_s, for_s in self.outages:
            if not (0 <= at_s < math.inf and 0 < for_s < math.inf):
                raise ConfigError(f"shape.outages must be (at_s >= 0, for_s > 0), both finite, got {(at_s, for_s)}")
        if self.buffer_bytes < 1:
            raise ConfigError(f"shape.buffer_bytes must be at least 1, got {self.buffer_bytes}")

    def trace_of(self, direction: Direction) -> Trace | None:
        """The trace that paces this direction, or `None` for no pacing."""
        if self.trace is not None and self.trace.measures(direction):
            return self.trace
        mbit = self.up_mbit if direction == "up" else self.down_mbit
        return None if mbit is None else Trace.constant(mbit, mbit)

    def _check_rate(self, direction: Direction, mbit: float | None) -> None:
        name = f"shape.{direction}_mbit"
        if mbit is not None and not MIN_MBIT <= mbit <= MAX_MBIT:
            raise ConfigError(f"{name} must be in [{MIN_MBIT:g}, {MAX_MBIT:g}], got {mbit}")
        if self.trace is None:
            return
        if mbit is None and not self.trace.measures(direction):
            raise ConfigError(f"{name} must be given, for {self.trace.source} does not measure {direction}")
        if mbit is not None and self.trace.measures(direction):
            raise ConfigError(f"{name} must not be given, for {self.trace.source} measures it, got {mbit}")


def parse_outage(text: str) -> tuple[float, float]:
    """`AT,FOR` in seconds, as in `--outage 20,3`."""
    try:
        at_s, for_s = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"an outage must be AT,FOR in seconds, as in 20,3, got {text!r}") from error
    return at_s, for_s


class Pipe:
    """One direction of a link. The times given to it must not fall."""

    def __init__(self, shape: Shape, direction: Direction) -> None:
        self._direction = direction
        self._trace = shape.trace_of(direction)
        self._outages = sorted((at_s, at_s + for_s) for at_s, for_s in shape.outages)
        self._delay_s = shape.rtt_ms / 2000
        self._jitter_s = shape.jitter_ms / 1000
        self._buffer_bytes = shape.buffer_bytes
        self._random = random.Random(f"{shape.seed} {direction}")
        self._free_s = -math.inf  # when everything queued is through
        self._last_arrival_s = -math.inf
        self._queue: deque[tuple[float, int]] = deque()  # (through_s, bytes), oldest first
        self._queued_bytes = 0

    def schedule(self, now_s: float, piece_bytes: int) -> float:
        """Queue a piece; when it comes out at the far end, never before a piece queued earlier."""
        self._free_s = self._through_at(max(now_s, self._free_s), piece_bytes)
        self._queue.append((self._free_s, piece_bytes))
        self._queued_bytes += piece_bytes
        arrival_s = self._free_s + self._delay_s + self._random.uniform(0, self._jitter_s)
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        return self._last_arrival_s

    def backlog_bytes(self, now_s: float) -> int:
        """Bytes not yet through; a piece counts whole until its last byte is."""
        while self._queue and self._queue[0][0] <= now_s:
            self._queued_bytes -= self._queue.popleft()[1]
        return self._queued_bytes

    def room_at(self, now_s: float) -> float:
        """When the backlog is below `buffer_bytes`: now, or later."""
        over_bytes = self.backlog_bytes(now_s) - self._buffer_bytes
        if over_bytes < 0:
            return now_s
        for through_s, piece_bytes in self._queue:
            over_bytes -= piece_bytes
            if over_bytes < 0:
                return through_s
        raise AssertionError("an empty queue has room")

    def rebase(self, by_s: float) -> None:
        """Time zero is `by_s` later than it was; what is queued keeps its moments."""
        self._free_s -= by_s
        self._last_arrival_s -= by_s
        self._queue = deque((through_s - by_s, piece_bytes) for through_s, piece_bytes in self._queue)

    def _through_at(self, start_s: float, piece_bytes: float) -> float:
        through_s = self._paced(start_s, piece_bytes)
        for from_s, to_s in self._outages:
            if to_s <= start_s:
                continue
            if start_s < from_s:
                if through_s <= from_s + _ROUNDING_S:
                    break
                if self._trace is not None:
                    piece_bytes -= self._trace.bytes_between(self._direction, start_s, from_s)
            start_s = to_s
            through_s = self._paced(start_s, piece_bytes)
        return through_s

    def _paced(self, start_s: float, piece_bytes: float) -> float:
        if self._trace is None:
            return start_s
        return self._trace.delivered_at(self._direction, start_s, piece_bytes)
