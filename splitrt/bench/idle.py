"""What one stream pays: for a cluster behind the gateway, and for a thousand idle streams beside it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from splitrt.bench.descendants import rss_mb
from splitrt.bench.process import Started
from splitrt.bench.stream import STREAMS_PER_CONNECTION, FrameStream, Payload, streams

BLOCK = 40  # frames of one kind in a row
PATIENCE_S = 10.0


async def added_rounds(embedded: Started, ray: Started, payload: Payload, rounds: int) -> list[dict[str, Any]]:
    """Blocks of frames by turns to both, one stream each, each frame after the answer to the one before."""
    rows: list[dict[str, Any]] = []
    async with streams(embedded.address, payload, 1) as [near], streams(ray.address, payload, 1) as [far]:
        for number in range(rounds + 1):
            near_ms = await block_ms(near)
            far_ms = await block_ms(far)
            if number:  # the first round warms up
                rows.append({"embedded_ms": near_ms, "ray_ms": far_ms, "added_ms": far_ms - near_ms})
    return rows


async def idle_rounds(server: Started, payload: Payload, count: int, rounds: int) -> dict[str, Any]:
    """An active stream without and with `count` idle ones, by turns; memory that the first crowd adds to the server."""
    before_mb = rss_mb(server.pid)
    added_mb, added_ms, alone_ms = [], [], []
    async with streams(server.address, payload, 1) as [active]:
        await block_ms(active)
        for _ in range(rounds):
            alone = await block_ms(active)
            async with streams(server.address, payload, count, STREAMS_PER_CONNECTION):
                added_mb.append(rss_mb(server.pid) - before_mb)
                await asyncio.sleep(0.5)  # opening them is not idling
                added_ms.append(await block_ms(active) - alone)
            alone_ms.append(alone)
            await asyncio.sleep(0.5)
    return {
        "idle_streams": count,
        "idle_streams_mb": max(added_mb),
        "idle_added_ms": float(np.median(added_ms)),
        "idle_alone_ms": float(np.median(alone_ms)),
        "idle_added_ms_all": added_ms,
    }


async def block_ms(stream: FrameStream) -> float:
    """Median of a block's round trips."""
    times_ms = []
    for _ in range(BLOCK):
        started = time.perf_counter()
        reply = await stream.ask(PATIENCE_S, PATIENCE_S)
        times_ms.append((time.perf_counter() - started) * 1e3)
        if reply is None or reply.error is not None:
            raise reply.error if reply and reply.error else TimeoutError("a frame was not answered")
    return float(np.median(times_ms))
