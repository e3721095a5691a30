"""One stream's frames on the server, without gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

from splitrt.bundle import Bundle
from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.metrics import ServerMetrics
from splitrt.rpc.frames import FrameStart, Limits, Reply, tables_prefix
from splitrt.server.session import Session


async def test_a_frame_whose_stream_ends_before_it_is_begun_is_counted_as_cancelled(photos: Bundle) -> None:
    async def write(reply: Reply) -> None:
        raise AssertionError(reply)

    metrics, pool = ServerMetrics(), None
    limits = Limits(max_payload_bytes=1 << 20, max_deadline_ms=60_000, max_in_flight=4)
    session = Session(photos, pool, limits, "one", write, metrics)  # type: ignore[arg-type]
    codec, payload = Codec.PACKED, b"x"
    await session.start_frame(
        FrameStart(
            seq=1, width=8, bits=4, codec=codec, deadline_ms=1_000, tables=tables_prefix(photos.tables.digest()),
            crc32c=codec_payload.checksum(1, 8, 4, codec, 0, payload), payload=payload, chunks=1,
        )
    )  # fmt: skip

    def read(name: str, **labels: Any) -> float | None:
        return metrics.registry.get_sample_value(name, {"bundle": "photos", "version": "3", **labels})

    assert read("splitrt_inflight_frames") == 1
    session.abandon()
    await asyncio.sleep(0.01)
    assert read("splitrt_frames_total", outcome="cancelled") == 1
    assert read("splitrt_inflight_frames") == 0
