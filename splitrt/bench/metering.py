"""What counting costs: the calls that a frame makes to both sides' metrics, over the CPU time of a frame on both.

The calls are timed by themselves, many thousand in a row: they take some ten microseconds, which the
difference of two runs of frames, with metrics and without, would not show above its own noise.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from splitrt.bundle import load_bundle
from splitrt.config import ServerConfig
from splitrt.device.connect import connect_async
from splitrt.device.result import Timings
from splitrt.device.strategy import Fixed
from splitrt.metrics import DeviceMetrics, ServerMetrics
from splitrt.server.serve import serve

CALLS = 20_000
TRACE = "0123456789abcdef" * 2


async def metrics_cpu_share(folder: Path, width: int, frames: int) -> dict[str, float]:
    """Of frames that are all sent, with server and client in this process."""
    frame_us, calls_us = await _frame_s(folder, width, frames) * 1e6, _calls_s() * 1e6
    return {"metrics_cpu_share": calls_us / frame_us, "metrics_cpu_us": calls_us, "frame_cpu_us": frame_us}


async def _frame_s(folder: Path, width: int, frames: int) -> float:
    """CPU time of all threads of this process, a frame: the heads, tails and wire of both sides, and the counting."""
    wanted = load_bundle(folder).manifest.photograph
    frame_HWC = np.random.default_rng(0).integers(0, 256, (wanted.height, wanted.width, 3), dtype=np.uint8)
    config = ServerConfig(listen="127.0.0.1:0", bundles=(str(folder),), drain_grace_s=0.1)
    async with (
        serve(config) as server,
        connect_async(
            server.address, bundle=str(folder), deadline_ms=5_000, strategy=lambda _: Fixed(width, 8)
        ) as client,
    ):
        for _ in range(frames // 10):
            await client.infer(frame_HWC)
        started = time.process_time()
        for _ in range(frames):
            await client.infer(frame_HWC)
        return (time.process_time() - started) / frames


def _calls_s() -> float:
    """The same calls as a frame that the server answers."""
    server = ServerMetrics().of("made", "1")
    device = DeviceMetrics("made")
    timings = Timings(head=1.0, encode=0.3, uplink=0.5, queue=0.1, decode=0.2, tail=0.4, downlink=0.2)
    started = time.process_time()
    for _ in range(CALLS):
        server.in_flight += 1
        server.ran(1e-4, 2e-4, 4e-4)
        server.came("zstd", 4_186, 10_240, is_whole=True)
        server.ended(None, 40, 8e-4, TRACE)
        server.in_flight -= 1
        server.sent(40)
        device.ended("remote")
        device.answered(2.7, timings, 40)
    return (time.process_time() - started) / CALLS
