"""A client alone in a process: its memory over many frames, and what a change of width costs.

`python -m splitrt.bench.steady BUNDLE COUNT` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.process import server_process
from splitrt.bundle import find_bundle
from splitrt.device.connect import connect_async
from splitrt.device.head import OnnxHead
from splitrt.device.local import BottleneckDevice, Device, Looked
from splitrt.device.strategy import Fixed
from splitrt.policy.decision import Choice
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight


class InTurn(Fixed):
    """Another width for every frame."""

    def __init__(self, widths: tuple[int, ...], bits: int) -> None:
        super().__init__(widths[-1], bits)
        self._choices = itertools.cycle(Choice(width=w, bits=bits, link_bytes=0, accuracy=1) for w in widths)

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return next(self._choices)


async def steady(name: str, count: int) -> dict[str, Any]:
    """Growth is counted after a tenth of the frames."""
    bundle = find_bundle(name)
    seam, wanted = bundle.manifest.seam, bundle.manifest.photograph
    frame_HWC = np.random.default_rng(0).integers(0, 256, (wanted.height, wanted.width, 3), dtype=np.uint8)
    lost, at_start = 0, 0.0
    async with server_process([name]) as server:
        async with connect_async(
            server, bundle=name, deadline_ms=5_000, strategy=lambda _: InTurn(seam.widths, max(seam.bits))
        ) as client:
            for number in range(count):
                lost += (await client.infer(frame_HWC)).source != "remote"
                if number == count // 10:
                    at_start = rss_mb()
            grown = rss_mb() - at_start
    switched_ms = float(np.median(switch_ms(bundle.folder)))
    return {"rss_growth_mb": grown, "memory_frames": count, "lost": lost, "switch_ms_p50": switched_ms}


def switch_ms(folder: Path) -> list[float]:
    """CPU time of encoding at a width other than the last frame's, less that of encoding at it again."""
    bundle = find_bundle(str(folder))
    device, seam = BottleneckDevice(bundle, OnnxHead(bundle)), bundle.manifest.seam
    wanted = bundle.manifest.photograph
    looked = device.look(np.zeros((wanted.height, wanted.width, 3), np.uint8))
    narrow, wide, bits = seam.widths[0], seam.widths[-1], max(seam.bits)
    costs = []
    for _ in range(200):
        _encode_ms(device, looked, narrow, bits)
        switched_ms = _encode_ms(device, looked, wide, bits)
        costs.append(switched_ms - _encode_ms(device, looked, wide, bits))
    return costs


def _encode_ms(device: Device, looked: Looked, width: int, bits: int) -> float:
    started = time.thread_time()
    device.encode(looked, width, bits)
    return (time.thread_time() - started) * 1e3


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    print(json.dumps(asyncio.run(steady(sys.argv[1], int(sys.argv[2])))))
