"""What happened to a stream of frames, and the figures that sum it up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from splitrt.device.result import Result

GRACE_MS = 50.0  # the promise: an end no later than this after the deadline


class FrameLog:
    """Rows of plain values, one a frame, in the order they ended; all of them, or at least the last `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self._last = last

    def add(self, result: Result, **more: Any) -> None:
        """`more`: what the caller knows beside, e.g. at_s and the right label."""
        if self._last is not None and len(self.rows) >= 2 * self._last:
            del self.rows[: -self._last]
        self.rows.append(
            {
                "seq": result.seq,
                "label": result.label,
                "source": result.source,
                "degraded": result.degraded,
                "width": result.width,
                "bits": result.bits,
                "payload_bytes": result.payload_bytes,
                "link_bytes": result.link_bytes,
                "latency_ms": result.latency_ms,
                "in_time": result.in_time,
                "error": result.error.code if result.error else None,
                **more,
            }
        )

    def fail(self, code: str, latency_ms: float, **more: Any) -> None:
        """A frame that ended in a typed error."""
        nothing = {"label": None, "degraded": False, "width": 0, "bits": 0, "payload_bytes": 0, "link_bytes": 0,
                   "in_time": None}  # fmt: skip
        self.rows.append({"seq": 0, **nothing, "source": "error", "latency_ms": latency_ms, "error": code, **more})

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


def summary(log: FrameLog, deadline_ms: float, submitted: int | None = None) -> dict[str, float]:
    """frames, answered (with an output), lost (no end at all), late, bytes, latencies, and the share of each source.

    A frame skipped for a newer one is neither answered nor lost.
    """
    rows = log.rows
    latencies = [row["latency_ms"] for row in rows if row["source"] != "skipped"]
    sources = Counter(log.column("source"))
    frames = len(rows) if submitted is None else submitted
    return {
        "frames": frames,
        "answered": sum(row["label"] is not None for row in rows),
        "lost": frames - len(rows),
        "late": sum(latency > deadline_ms + GRACE_MS for latency in latencies),
        "skipped": sources["skipped"],
        "bytes_per_frame": float(np.mean(log.column("link_bytes"))) if rows else 0.0,
        "latency_ms_p50": _percentile(latencies, 50),
        "latency_ms_p95": _percentile(latencies, 95),
        **{f"share_{source}": sources[source] / max(1, len(rows)) for source in ("gate", "exit", "remote", "fallback")},
    }


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0
