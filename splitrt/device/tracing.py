"""A trace a frame, for OpenTelemetry: its stages as spans, those on the server too. Needs the extra `otel`.

    frame ── [wait] ── head ── encode ── uplink ── queue ── decode ── tail ── downlink

Spans are made when the frame has ended, of the durations in its result: while nobody traces, a frame pays nothing. The
server's durations came with the reply, so no clocks are compared; how uplink and downlink share the rest is said in
`Timings`. Stages lie back to back before the frame's end, and what is left at its beginning was waiting.

A frame's trace id is its client's number and its seq, 64 bits each. The server knows both without a byte more on the
frame, and names them in its exemplars.
"""

from __future__ import annotations

import time
from typing import Any, Self

from splitrt.device.client import AsyncClient
from splitrt.device.result import Result
from splitrt.errors import ConfigError
from splitrt.metrics.device import STAGES

try:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.trace import Status, StatusCode, set_span_in_context
except ImportError:
    raise ConfigError("traces need OpenTelemetry: pip install 'splitrt[otel]'") from None


class FrameIds(RandomIdGenerator):
    """Of the frame that is being told."""

    def __init__(self) -> None:
        self.frame = 0

    def generate_trace_id(self) -> int:
        return self.frame


class FrameTracer:
    """Told of a client's frames until it is closed. Use as a context manager, or close it."""

    def __init__(self, client: AsyncClient, exporter: SpanExporter, *, is_batched: bool = True) -> None:
        """is_batched: spans are exported from a thread of OpenTelemetry's; otherwise within the event loop."""
        self._client, self._ids = client, FrameIds()
        resource = Resource.create({"service.name": "splitrt-device"})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter) if is_batched else SimpleSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("splitrt")

        client.listeners.append(self.ended)

    def close(self) -> None:
        """Export what is not exported yet: this may take as long as the exporter is patient."""
        self._client.listeners.remove(self.ended)
        self._provider.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ended(self, result: Result) -> None:
        """A frame that ends now."""
        end_ns = time.time_ns()
        self._ids.frame = self._client.stream_id << 64 | result.seq
        root = self._tracer.start_span(
            "frame",
            context=Context(),  # not within whatever span the caller is in: the id says whose trace it is
            start_time=end_ns - round(result.latency_ms * 1e6),
            attributes=_attributes(result),
        )
        stages = [(stage, round(getattr(result.timings, stage) * 1e6)) for stage in STAGES]
        at_ns, under = end_ns - sum(took_ns for _, took_ns in stages), set_span_in_context(root)
        for stage, took_ns in stages:
            if took_ns:
                self._tracer.start_span(stage, context=under, start_time=at_ns).end(at_ns + took_ns)
                at_ns += took_ns
        if result.degraded:
            root.set_status(Status(StatusCode.ERROR, "no answer of the server's came in time"))
        root.end(end_ns)


def otlp(url: str) -> SpanExporter:
    """To a collector that speaks OTLP over HTTP."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError("client.traces needs OTLP over HTTP: pip install 'splitrt[otel]'") from None
    return OTLPSpanExporter(endpoint=url)


def _attributes(result: Result) -> dict[str, Any]:
    return {
        "splitrt.bundle": result.model,
        "splitrt.version": result.version,
        "splitrt.seq": result.seq,
        "splitrt.source": result.source,
        "splitrt.width": result.width,
        "splitrt.bits": result.bits,
        "splitrt.link_bytes": result.link_bytes,
    }
