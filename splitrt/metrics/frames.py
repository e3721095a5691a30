"""The frames of one bundle that is served: labels are bound once, so that a frame costs a few additions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from splitrt.errors import DeadlineExceeded, Overloaded, SplitError

if TYPE_CHECKING:
    from splitrt.metrics.server import ServerMetrics

OUTCOMES = ("ok", "overloaded", "expired", "remote_failure", "cancelled")  # that sound frames end with
LATE = ("uplink", "assembly", "queue")
FULL = ("stream", "queue", "time", "fairness", "tails")
TENSOR = "tensor"  # in place of a codec: what answers are


class FrameMetrics:
    """Called on the event loop alone: `in_flight` has no lock."""

    def __init__(self, metrics: ServerMetrics, bundle: str, version: str) -> None:
        self._metrics, self._bundle, self._version = metrics, bundle, version
        self._frames: dict[str, Counter] = {}
        self._widths: dict[int, Counter] = {}
        self._up: dict[str, tuple[Counter, Counter, Histogram]] = {}
        self._refused_bytes = metrics.wire_bytes.labels("up", "refused")
        self._down = metrics.wire_bytes.labels("down", TENSOR)
        queue, decode, tail, total = (
            metrics.stage_seconds.labels(bundle, stage) for stage in ("queue", "decode", "tail", "total")
        )
        self._queue, self._decode, self._tail, self._total = queue, decode, tail, total
        self.in_flight = 0
        metrics.in_flight.labels(bundle, version).set_function(lambda: self.in_flight)
        # There from the start: a rate over a series that begins with its first error does not see that one.
        for outcome in OUTCOMES:
            self._frames[outcome] = metrics.frames.labels(bundle, version, outcome)
        for stage in LATE:
            metrics.expired.labels(stage)
        for reason in FULL:
            metrics.refused.labels(reason)

    def ran(self, queue_s: float, decode_s: float, tail_s: float) -> None:
        """A pass through the tail."""
        for stage, took_s in ((self._queue, queue_s), (self._decode, decode_s), (self._tail, tail_s)):
            if took_s > 0:  # it came so far
                stage.observe(took_s)

    def came(self, codec: str, size: int, packed: int, *, is_whole: bool) -> None:
        """A frame's payload. packed: bytes of its symbols bit-packed; 0 where that is nothing to compare with."""
        if codec not in self._up:
            metrics = self._metrics
            self._up[codec] = (
                metrics.wire_bytes.labels("up", codec),
                metrics.packed_bytes.labels(codec),
                metrics.frame_bytes.labels(codec),
            )
        wire, symbols, size_bytes = self._up[codec]
        wire.inc(size)
        if is_whole:
            symbols.inc(packed)
            size_bytes.observe(size)

    def sent(self, output_bytes: int) -> None:
        """An answer."""
        self._down.inc(output_bytes)

    def ended(self, error: SplitError | None, width: int, total_s: float, trace: str) -> None:
        """width: one of the bundle's, or 0; trace: names the frame, for whoever looks for one that took so long."""
        self._total.observe(total_s, {"trace_id": trace})
        if error is not None:
            self._failed(error)
            return
        self._outcome("ok")
        if width not in self._widths:
            self._widths[width] = self._metrics.widths.labels(self._bundle, str(width))
        self._widths[width].inc()

    def refused(self, error: SplitError, size: int) -> None:
        """A frame that was not let in, with so many bytes."""
        self._refused_bytes.inc(size)
        self._failed(error)

    def _failed(self, error: SplitError) -> None:
        self._outcome(error.code)
        if isinstance(error, DeadlineExceeded):
            self._metrics.expired.labels(error.stage).inc()
        elif isinstance(error, Overloaded):
            self._metrics.refused.labels(error.reason).inc()

    def cancelled(self) -> None:
        """Its stream ended first."""
        self._outcome("cancelled")

    def _outcome(self, outcome: str) -> None:
        if outcome not in self._frames:
            self._frames[outcome] = self._metrics.frames.labels(self._bundle, self._version, outcome)
        self._frames[outcome].inc()
