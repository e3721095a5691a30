"""Every metric's name, in one place. Labels are bounded: nothing that a client can make up becomes one.

Edges of the time histograms are control budgets: 33, 50 and 100 ms are 30, 20 and 10 Hz.
"""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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


class Audited(Protocol):
    """What is counted of exits in service: see splitrt.policy.audit."""

    bound: float
    frames: int
    exits: int
    audited: int
    alarms: int

    @property
    def risk(self) -> float: ...


class DeviceMetrics:
    """What a client counts. A device behind a NAT runs no endpoint: whoever wants the text asks for `snapshot`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frames = Counter(
            "splitrt_device_frames", "Frames ended, by bundle and who answered: gate, exit, remote, fallback, skipped, "
            "or an error's code.", ["bundle", "outcome"], registry=self.registry,
        )  # fmt: skip
        self.exit_share = Gauge(
            "splitrt_exit_share_ratio", "Share of frames that a sure exit would answer.", registry=self.registry
        )
        self.exits_audited = Gauge(
            "splitrt_exits_audited", "Would-be exits sent all the same, to be compared.", registry=self.registry
        )
        self.exit_risk = Gauge(
            "splitrt_exit_risk_ratio",
            "Estimated share of frames that exit and that the server would answer otherwise.",
            registry=self.registry,
        )
        self.exit_risk_bound = Gauge(
            "splitrt_exit_risk_bound_ratio", "What calibration found it to be at most.", registry=self.registry
        )
        self.exit_alarms = Gauge(
            "splitrt_exit_alarms", "Times that it was found beyond the bound; exits ask for more each time.",
            registry=self.registry,
        )  # fmt: skip

    def share(self, bundle: str, outcome: str) -> float:
        """Of the bundle's frames so far; 0 before the first."""
        counts = {
            sample.labels["outcome"]: sample.value
            for metric in self.frames.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.labels["bundle"] == bundle
        }
        return counts.get(outcome, 0.0) / (sum(counts.values()) or 1.0)

    def follow(self, audit: Audited) -> None:
        """Show an audit as it is whenever it is looked at."""
        self.exit_share.set_function(lambda: audit.exits / max(1, audit.frames))
        self.exits_audited.set_function(lambda: audit.audited)
        self.exit_risk.set_function(lambda: audit.risk)
        self.exit_risk_bound.set(audit.bound)
        self.exit_alarms.set_function(lambda: audit.alarms)

    def snapshot(self) -> str:
        """Everything in Prometheus' text format, for a file that an agent picks up or a push."""
        return generate_latest(self.registry).decode()
