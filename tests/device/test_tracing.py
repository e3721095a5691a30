"""A trace a frame, after OpenTelemetry's own in-memory exporter: one root, stages inside it, no clock compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the otel extra")

from opentelemetry.sdk.trace import ReadableSpan  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import StatusCode  # noqa: E402

from splitrt.bundle import Bundle  # noqa: E402
from splitrt.config import ClientConfig  # noqa: E402
from splitrt.device.client import AsyncClient  # noqa: E402
from splitrt.device.head import OnnxHead  # noqa: E402
from splitrt.device.link import ScriptedLink  # noqa: E402
from splitrt.device.local import BottleneckDevice  # noqa: E402
from splitrt.device.strategy import Alone, Fixed, Strategy  # noqa: E402
from splitrt.device.tracing import FrameTracer  # noqa: E402
from splitrt.policy.link import LinkEstimate  # noqa: E402
from splitrt.rpc.frames import (
    Frame,
    Reply,  # noqa: E402
)

UInt8 = npt.NDArray[np.uint8]
STREAM = 0x0123456789ABCDEF


def answer(frame: Frame) -> tuple[float, Reply | None]:
    scores = np.zeros(6, np.float32)
    return 0.02, Reply(seq=frame.seq, outputs=(scores,), queue_s=0.001, decode_s=0.002, tail_s=0.004)


def silence(frame: Frame) -> tuple[float, Reply | None]:
    return 0.0, None


async def spans_of(
    bundle: Bundle, frame_HWC: UInt8, strategy: Strategy, script: object, deadline_ms: float = 5_000, frames: int = 1
) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    async with ScriptedLink(script) as link:  # type: ignore[arg-type]
        device = BottleneckDevice(bundle, OnnxHead(bundle))
        client = AsyncClient(
            device, link, LinkEstimate(), config=ClientConfig(), strategy=strategy, stream=STREAM
        )  # fmt: skip
        with FrameTracer(client, exporter, is_batched=False):
            for _ in range(frames):
                await client.infer(frame_HWC, deadline_ms)
        await client.infer(frame_HWC, deadline_ms)  # nobody listens any more
        await client.aclose()
    return list(exporter.get_finished_spans())


async def test_an_answered_frame_is_one_tree_with_the_servers_stages(photos: Bundle, frame_HWC: UInt8) -> None:
    *stages, root = await spans_of(photos, frame_HWC, Fixed(8, 4), answer)
    assert [stage.name for stage in stages] == ["head", "encode", "uplink", "queue", "decode", "tail", "downlink"]
    assert root.name == "frame"
    assert root.parent is None
    assert root.start_time is not None
    assert root.end_time is not None
    at = root.start_time
    for stage in stages:
        assert stage.parent is not None
        assert root.context is not None
        assert stage.parent.span_id == root.context.span_id
        assert stage.start_time is not None
        assert stage.end_time is not None
        assert at <= stage.start_time <= stage.end_time  # one after the other
        at = stage.end_time
    assert at == root.end_time
    took_ms = {one.name: ((one.end_time or 0) - (one.start_time or 0)) / 1e6 for one in stages}
    assert (took_ms["queue"], took_ms["decode"], took_ms["tail"]) == pytest.approx((1, 2, 4))
    assert root.attributes is not None
    assert root.attributes["splitrt.source"] == "remote"
    assert root.status.status_code is StatusCode.UNSET


async def test_the_trace_id_is_the_clients_number_and_the_frames(photos: Bundle, frame_HWC: UInt8) -> None:
    spans = await spans_of(photos, frame_HWC, Fixed(8, 4), answer, frames=2)
    assert {one.context.trace_id for one in spans if one.context} == {STREAM << 64 | 1, STREAM << 64 | 2}
    assert len({one.context.span_id for one in spans if one.context}) == len(spans) == 16


async def test_a_frame_that_ends_on_the_device_has_the_stages_that_it_passed(photos: Bundle, frame_HWC: UInt8) -> None:
    names = [one.name for one in await spans_of(photos, frame_HWC, Alone(), answer)]
    assert names == ["head", "frame"]


async def test_a_fallback_is_an_error_of_its_trace(photos: Bundle, frame_HWC: UInt8) -> None:
    *_, root = await spans_of(photos, frame_HWC, Fixed(8, 4), silence, deadline_ms=60)
    assert root.status.status_code is StatusCode.ERROR
