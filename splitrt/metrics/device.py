"""What a client counts of its frames. A device behind a NAT runs no endpoint unless asked to: `snapshot` is text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily

from splitrt.metrics.registry import SECONDS, Followed, Registry

STAGES = ("head", "encode", "uplink", "queue", "decode", "tail", "downlink")
OUTCOMES = ("gate", "exit", "remote", "fallback", "skipped", "expired")


class Audited(Protocol):
    """What is counted of exits in service: see splitrt.policy.audit."""

    bound: float
    frames: int
    exits: int
    audited: int
    alarms: int

    @property
    def risk(self) -> float: ...


class Carried(Protocol):
    """What went over a link so far: see splitrt.device.grpc_link."""

    up_bytes: int
    down_bytes: int
    stray_replies: int


class DeviceMetrics:
    def __init__(self, bundle: str = "") -> None:
        """bundle: whose frames these are."""
        self.registry = Registry()
        self._bundle = bundle
        self._outcomes: dict[str, Counter] = {}
        self._widths: dict[int, Counter] = {}
        self._count_frames()
        self._show_link()
        self._show_audit()
        self._stages = {stage: self.stage_seconds.labels(bundle, stage) for stage in STAGES}
        self._total = self.stage_seconds.labels(bundle, "total")
        for outcome in OUTCOMES:  # there from the start: a rate does not see the first of a series
            self._outcomes[outcome] = self.frames.labels(bundle, outcome)
        for cause in ("link_lost", "drained"):
            self.reconnects.labels(cause)
        for stage in ("head", "uplink", "tail"):
            self.late.labels(stage)

    def ended(self, outcome: str) -> None:
        """A frame. outcome: who answered, or an error's code."""
        if outcome not in self._outcomes:
            self._outcomes[outcome] = self.frames.labels(self._bundle, outcome)
        self._outcomes[outcome].inc()

    def answered(self, latency_ms: float, timings_ms: object, width: int) -> None:
        """width: that was sent, or 0; timings_ms: has each of STAGES, see splitrt.device.result.Timings."""
        self._total.observe(latency_ms / 1e3)
        for stage, histogram in self._stages.items():
            if took_ms := getattr(timings_ms, stage):
                histogram.observe(took_ms / 1e3)
        if width:
            if width not in self._widths:
                self._widths[width] = self.widths.labels(self._bundle, str(width))
            self._widths[width].inc()

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

    def follow_link(
        self, rate: Callable[[], float], round_trip_s: Callable[[], float], is_up: Callable[[], bool]
    ) -> None:
        """Likewise of what is believed of the link; called from the thread that looks."""
        self.bandwidth.set_function(rate)
        self.round_trip.set_function(round_trip_s)
        self.up.set_function(is_up)

    def follow_bytes(self, carried: Carried) -> None:
        """Likewise of what it carried."""
        self.bytes.follow(lambda: {("up",): carried.up_bytes, ("down",): carried.down_bytes})
        self.strays.follow(lambda: {(): carried.stray_replies})

    def snapshot(self) -> str:
        """Everything in Prometheus' text format, for a file that a collector picks up or a push."""
        return self.registry.text()

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self.registry)

    def _count_frames(self) -> None:
        registry = self.registry
        self.frames = Counter(
            "splitrt_device_frames", "Frames ended, by who answered: gate, exit, remote, fallback, skipped, an error's "
            "code, or cancelled by its caller.", ["bundle", "outcome"], registry=registry,
        )  # fmt: skip
        self.stage_seconds = Histogram(
            "splitrt_device_frame_duration_seconds", "Where an answered frame's time went; total is capture to result. "
            "Only stages that it passed.", ["bundle", "stage"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.late = Counter(
            "splitrt_device_late_frames", "Frames whose deadline came first, by where they were then: head, uplink, "
            "tail. Those with an answer of the device's own ended as fallback.", ["stage"], registry=registry,
        )  # fmt: skip
        self.widths = Counter(
            "splitrt_device_width_selected", "Frames sent, by the width chosen.", ["bundle", "width"], registry=registry
        )

    def _show_link(self) -> None:
        self.bandwidth = self._gauge(
            "splitrt_link_bandwidth_bytes_per_second", "The uplink's rate: the median of what is believed."
        )
        self.round_trip = self._gauge("splitrt_link_round_trip_seconds", "The link's round trip without load.")
        self.up = self._gauge("splitrt_link_up", "1 while a server has welcomed us and is not draining.")
        self.reconnects = Counter(
            "splitrt_reconnects", "Connections that ended, by the error's code or drained.", ["cause"],
            registry=self.registry,
        )  # fmt: skip
        self.bytes = Followed(
            CounterMetricFamily,
            "splitrt_device_bytes", "Bytes on the link, gRPC's framing included, TLS and IP not.", ["direction"],
            self.registry,
        )  # fmt: skip
        self.strays = Followed(
            CounterMetricFamily,
            "splitrt_device_stray_replies", "Replies too late, repeated or to no frame: never delivered.", [],
            self.registry,
        )  # fmt: skip

    def _show_audit(self) -> None:
        self.exit_share = self._gauge("splitrt_exit_share_ratio", "Share of frames that a sure exit would answer.")
        self.exits_audited = self._gauge(
            "splitrt_exits_audited", "Would-be exits sent all the same, to be compared."
        )  # fmt: skip
        self.exit_risk = self._gauge(
            "splitrt_exit_risk_ratio", "Estimated share of frames that exit and that the server would answer otherwise."
        )
        self.exit_risk_bound = self._gauge("splitrt_exit_risk_bound_ratio", "What calibration found it to be at most.")
        self.exit_alarms = self._gauge(
            "splitrt_exit_alarms", "Times that it was found beyond the bound; exits ask for more each time."
        )
