"""Every metric's name, in one place. Labels are bounded: nothing that a client can make up becomes one.

Edges of the time histograms are control budgets: 33, 50 and 100 ms are 30, 20 and 10 Hz.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
BYTES = tuple(float(1 << exponent) for exponent in range(6, 23, 2))


class ServerMetrics:
    """What a gateway counts. One registry a server, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frames = Counter(
            "splitrt_frames", "Frames answered, by bundle and how they ended.", ["bundle", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.stage_seconds = Histogram(
            "splitrt_frame_duration_seconds", "Where a frame's time on the server went.", ["bundle", "stage"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.frame_bytes = Histogram(
            "splitrt_frame_bytes", "Payload of a frame.", ["codec"], buckets=BYTES, registry=self.registry
        )
        self.streams = Gauge("splitrt_streams_open", "Open inference streams.", registry=self.registry)
        self.queued = Gauge("splitrt_queue_depth", "Frames waiting for a tail.", ["bundle"], registry=self.registry)
        self.refused_streams = Counter(
            "splitrt_streams_refused", "Streams ended before their first frame.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self.rounds = Counter(
            "splitrt_rounds", "Rounds of speculative decoding, by bundle and how they ended.", ["bundle", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.draft_tokens = Counter(
            "splitrt_draft_tokens", "Tokens that devices drafted, and those accepted.", ["bundle", "fate"],
            registry=self.registry,
        )  # fmt: skip
        self.round_seconds = Histogram(
            "splitrt_round_duration_seconds", "A round's time on the server.", ["bundle", "stage"], buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.ready = Gauge("splitrt_ready", "1 while new work is taken.", registry=self.registry)
