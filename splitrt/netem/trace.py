"""A network trace: how many bytes a second each direction carries, as time goes by.

Rates are constant from one row to the next, and the trace starts again when it ends. One Mbit is
10^6 bits. Headers of TCP and IP are not added to what callers send. No clock here: times are seconds
since the trace's beginning, given by the caller.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, Self

from splitrt.errors import InvalidInput
from splitrt.netem import tracefile
from splitrt.netem.tracefile import MAX_MBIT, Columns

Direction = Literal["up", "down"]

BYTES_PER_S_OF_MBIT = 125_000
_DEAD_BYTES = 1e-3  # a direction that carries less than this in a whole loop is called dead
_SLACK_BYTES = 1e-6  # without it, rounding could push the last byte across an outage


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The rates of one link, step by step; `None` for a direction that nobody measured.

    A direction that is zero all the time is refused, so that everything sent is delivered some day: a
    link that is dead for good is `Netem.stall()` or `Netem.half_open()`, not a trace.
    """

    times_s: tuple[float, ...]
    up_mbps: tuple[float, ...] | None
    down_mbps: tuple[float, ...] | None
    duration_s: float
    source: str = "trace"  # named in errors
    _steps: Mapping[Direction, _Steps] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        edges_s = (*self.times_s, self.duration_s)
        if edges_s[0] != 0 or not all(a < b for a, b in pairwise(edges_s)) or not math.isfinite(edges_s[-1]):
            raise InvalidInput(
                f"{self.source}: times_s must start at 0 and rise up to duration_s, "
                f"got {self.times_s[:3]} .. {self.duration_s}"
            )
        steps: dict[Direction, _Steps] = {}
        if self.up_mbps is not None:
            steps["up"] = _Steps.of(edges_s, self.up_mbps, f"{self.source}: up_mbps")
        if self.down_mbps is not None:
            steps["down"] = _Steps.of(edges_s, self.down_mbps, f"{self.source}: down_mbps")
        if not steps:
            raise InvalidInput(f"{self.source}: must measure up or down, got neither")
        object.__setattr__(self, "_steps", steps)

    @classmethod
    def constant(cls, up_mbit: float | None, down_mbit: float | None) -> Self:
        return cls(
            times_s=(0.0,),
            up_mbps=None if up_mbit is None else (up_mbit,),
            down_mbps=None if down_mbit is None else (down_mbit,),
            duration_s=1.0,
            source="constant",
        )

    @classmethod
    def read_csv(cls, path: Path | str) -> Self:
        """Columns `time_s,up_mbps,down_mbps`; the last row lasts as long as the one before it."""
        return cls._of(tracefile.parse_csv(tracefile.read(Path(path)), str(path)), str(path))

    @classmethod
    def read_mahimahi(cls, up: Path | str | None, down: Path | str | None) -> Self:
        """Two packet-delivery files, or one and `None`; the shorter is repeated up to the longer's end."""
        columns = tracefile.read_mahimahi(*(None if path is None else Path(path) for path in (up, down)))
        return cls._of(columns, " and ".join(str(path) for path in (up, down) if path is not None))

    @classmethod
    def shipped(cls, name: str) -> Self:
        """A trace that comes with splitrt: `commute`."""
        folder = resources.files("splitrt.netem").joinpath("traces")
        names = sorted(item.name[:-4] for item in folder.iterdir() if item.name.endswith(".csv"))
        if name not in names:
            raise InvalidInput(f"no shipped trace is called {name!r}, wanted one of {', '.join(names)}")
        text = folder.joinpath(f"{name}.csv").read_text("utf-8")
        return cls._of(tracefile.parse_csv(text, name), name)

    def measures(self, direction: Direction) -> bool:
        return direction in self._steps

    def rate_bytes_per_s(self, direction: Direction, at_s: float) -> float:
        return self._steps_of(direction).rate_at(at_s % self.duration_s)

    def bytes_between(self, direction: Direction, from_s: float, to_s: float) -> float:
        """How much a busy link carries in this time."""
        steps = self._steps_of(direction)
        loops = to_s // self.duration_s - from_s // self.duration_s
        return loops * steps.loop_bytes + (
            steps.bytes_by(to_s % self.duration_s) - steps.bytes_by(from_s % self.duration_s)
        )

    def delivered_at(self, direction: Direction, start_s: float, payload_bytes: float) -> float:
        """When these bytes are through, if the link starts on them at `start_s` and does nothing else."""
        if payload_bytes <= _SLACK_BYTES:
            return start_s
        steps = self._steps_of(direction)
        phase_s = start_s % self.duration_s
        wanted = steps.bytes_by(phase_s) + payload_bytes - _SLACK_BYTES
        loops, rest = divmod(wanted, steps.loop_bytes)
        if rest <= 0:  # exactly a whole loop: it was through before that loop's end
            loops, rest = loops - 1, steps.loop_bytes
        return max(start_s, start_s - phase_s + loops * self.duration_s + steps.time_of(rest))

    def _steps_of(self, direction: Direction) -> _Steps:
        if direction not in self._steps:
            raise InvalidInput(f"{self.source} does not measure {direction}")
        return self._steps[direction]

    @classmethod
    def _of(cls, columns: Columns, source: str) -> Self:
        return cls(
            times_s=columns.times_s,
            up_mbps=columns.up_mbps,
            down_mbps=columns.down_mbps,
            duration_s=columns.duration_s,
            source=source,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Steps:
    """One direction: `through[i]` bytes have passed at `edges_s[i]`, counted from the loop's start."""

    edges_s: tuple[float, ...]
    rates: tuple[float, ...]  # bytes per second from edges_s[i] to edges_s[i + 1]
    through: tuple[float, ...]

    @classmethod
    def of(cls, edges_s: tuple[float, ...], mbps: tuple[float, ...], what: str) -> Self:
        if len(mbps) != len(edges_s) - 1:
            raise InvalidInput(f"{what} must have one rate a time, got {len(mbps)} for {len(edges_s) - 1}")
        for rate in mbps:
            if not 0 <= rate <= MAX_MBIT:  # NaN too
                raise InvalidInput(f"{what} must be in [0, {MAX_MBIT:g}], got {rate}")
        rates = tuple(rate * BYTES_PER_S_OF_MBIT for rate in mbps)
        carried = (rate * (end - at) for rate, (at, end) in zip(rates, pairwise(edges_s), strict=True))
        through = tuple(accumulate(carried, initial=0.0))
        if through[-1] < _DEAD_BYTES:
            raise InvalidInput(f"{what} is zero all the time, wanted a link that works at some time")
        return cls(edges_s=edges_s, rates=rates, through=through)

    @property
    def loop_bytes(self) -> float:
        return self.through[-1]

    def rate_at(self, phase_s: float) -> float:
        return self.rates[self._index(phase_s)]

    def bytes_by(self, phase_s: float) -> float:
        index = self._index(phase_s)
        return self.through[index] + self.rates[index] * (phase_s - self.edges_s[index])

    def time_of(self, passed_bytes: float) -> float:
        """The first moment of the loop with so many bytes through; 0 < passed_bytes <= loop_bytes."""
        index = bisect_left(self.through, passed_bytes) - 1  # a step of rate above zero, by construction
        return self.edges_s[index] + (passed_bytes - self.through[index]) / self.rates[index]

    def _index(self, phase_s: float) -> int:
        return min(bisect_right(self.edges_s, phase_s), len(self.rates)) - 1
