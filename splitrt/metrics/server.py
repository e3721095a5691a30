"""What a server counts. Tails in other processes report nothing by themselves: their times come back with results.

Of clients nothing is kept but sums: no label holds an address, a principal, a stream or a name that a client sent.
"""

from __future__ import annotations

import platform

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector

from splitrt import __version__
from splitrt.metrics.frames import FrameMetrics
from splitrt.metrics.registry import BYTES, SECONDS, TOKENS, Followed, Registry

VERSIONED = ("bundle", "version")


class ServerMetrics:
    """A registry with all that a server counts. Frames are counted through `of`."""

    def __init__(self) -> None:
        self.registry = Registry()
        ProcessCollector(registry=self.registry)  # memory, CPU, open files
        self._of: dict[tuple[str, str], FrameMetrics] = {}
        self._count_frames()
        self._count_texts()
        self._describe_server()

    def of(self, bundle: str, version: str) -> FrameMetrics:
        """What counts the frames of a bundle that is served: its name and version become labels."""
        found = self._of.get((bundle, version))
        if found is None:
            found = self._of[bundle, version] = FrameMetrics(self, bundle, version)
        return found

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(name, documentation, labels, registry=self.registry)

    def _followed(self, name: str, documentation: str, *labels: str) -> Followed:
        return Followed(GaugeMetricFamily, name, documentation, labels, self.registry)

    def _histogram(self, name: str, documentation: str, edges: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, documentation, labels, buckets=edges, registry=self.registry)

    def _count_frames(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.frames = counter(
            "splitrt_frames", "Frames ended, by how: ok, an error's code, or cancelled with its stream.",
            *VERSIONED, "outcome",
        )  # fmt: skip
        self.stage_seconds = histogram(
            "splitrt_frame_duration_seconds",
            "A frame's time on the server: queue, decode, tail; total is from its first bytes to its last answer.",
            SECONDS, "bundle", "stage",
        )  # fmt: skip
        self.expired = counter("splitrt_deadline_expired", "Frames that were late, by where.", "stage")
        self.refused = counter(
            "splitrt_admission_refused", "Frames refused, by what was full: stream, queue, time, fairness, tails.",
            "reason",
        )  # fmt: skip
        self.widths = counter(
            "splitrt_width_selected", "Frames answered, by the bundle's width that they had; 0: photographs.",
            "bundle", "width",
        )  # fmt: skip
        self.frame_bytes = histogram("splitrt_frame_bytes", "Payload of a whole frame.", BYTES, "codec")
        self.wire_bytes = counter(
            "splitrt_wire_bytes",
            "Payloads that came (up) and tensors that were answered (down), headers and framing apart.",
            "direction", "codec",
        )  # fmt: skip
        self.packed_bytes = counter(
            "splitrt_packed_bytes", "What the symbols of whole frames take bit-packed: what coding is compared with.",
            "codec",
        )  # fmt: skip
        self.in_flight = gauge("splitrt_inflight_frames", "Frames that came and are not answered.", *VERSIONED)
        self.queued = self._followed("splitrt_queue_depth", "Frames waiting for a tail.", *VERSIONED)
        self.oldest = self._followed(
            "splitrt_queue_oldest_seconds", "For how long the oldest of them has waited.", *VERSIONED
        )
        self.tails = self._followed(
            "splitrt_tails_ready", "Tails that take frames: on a Ray cluster the replicas, else 1.", *VERSIONED
        )
        self.queue_limit = gauge("splitrt_queue_limit", "How many may wait for one bundle's tail.")
        self.streams = gauge("splitrt_streams_open", "Open inference streams.")
        self.opened = counter("splitrt_streams_opened", "Inference streams opened so far: connections of devices.")
        self.streams_limit = gauge("splitrt_streams_limit", "How many may be open.")
        self.refused_streams = counter(
            "splitrt_streams_refused", "Calls ended before their first frame or round, by the error's code.", "reason"
        )

    def _count_texts(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.sessions = self._followed("splitrt_language_sessions", "Texts whose keys and values are kept.", "bundle")
        self.text_streams = self._gauge("splitrt_text_streams_open", "Open streams of texts.")
        self.rounds = counter(
            "splitrt_rounds", "Rounds of speculative decoding, by how they ended.", "bundle", "outcome"
        )
        self.round_seconds = histogram(
            "splitrt_round_duration_seconds", "A round's time on the server: queue, verify.", SECONDS, "bundle", "stage"
        )
        self.draft_tokens = counter(
            "splitrt_draft_tokens", "Tokens that devices drafted, and of these those accepted.", "bundle", "fate"
        )
        self.draft_length = histogram(
            "splitrt_draft_length_tokens", "Depth of a round's draft.", TOKENS, "bundle"
        )  # fmt: skip
        self.accepted_length = histogram(
            "splitrt_accepted_length_tokens",
            "How deep it was accepted: the two distributions give the acceptance at each depth.", TOKENS, "bundle",
        )  # fmt: skip
        self.tokens = counter("splitrt_tokens", "Tokens committed: accepted ones and the target's own.", "bundle")
        self.target_calls = counter(
            "splitrt_target_calls", "Looks at the target: rounds, and going on alone.", "bundle"
        )

    def _describe_server(self) -> None:
        self.ready = self._gauge("splitrt_ready", "1 while new work is taken.")
        self.model_info = self._followed("splitrt_model_info", "1 for each bundle served.", *VERSIONED, "digest")
        self.cert_expiry = self._gauge(
            "splitrt_cert_expiry_timestamp_seconds", "When a certificate in use ends: server, client_ca.", "use"
        )
        build = self._gauge("splitrt_build_info", "1: splitrt's version, and Python's.", "version", "python")
        build.labels(__version__, platform.python_version()).set(1)
