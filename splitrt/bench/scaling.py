"""Two ways to serve beside each other in closed loops: batches and none, two replicas and one; and the way from one
replica to two when work asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import numpy as np

from splitrt.bench.descendants import connected_replicas
from splitrt.bench.load import closed_loop, open_loop, per_second, tally
from splitrt.bench.loads import DEADLINE_S, PATIENT_S, ask_of
from splitrt.bench.process import Started
from splitrt.bench.stream import FrameStream, Payload, streams

CLIENTS = 16
LOOK_S = 0.25
SCALED_WITHIN_S = 60.0


async def rates(ways: Sequence[Sequence[str]], payload: Payload, rounds: int, seconds: float) -> list[list[float]]:
    """Frames a second of each way in each round, by turns. A way is the addresses that 16 clients share."""
    found: list[list[float]] = []
    async with AsyncExitStack() as stack:
        opened: list[list[FrameStream]] = []
        for addresses in ways:
            each = CLIENTS // len(addresses)
            made = [await stack.enter_async_context(streams(one, payload, each)) for one in addresses]
            opened.append([stream for some in made for stream in some])
        for number in range(rounds + 1):
            row = []
            for crowd in opened:
                span_s = seconds if number else seconds / 2
                row.append(per_second(await closed_loop(ask_of(crowd), CLIENTS, span_s, PATIENT_S), span_s))
            if number:  # the first round warms up
                found.append(row)
    return found


def gain(rounds: Sequence[Sequence[float]], way: int, over: int) -> dict[str, Any]:
    """Median and quartiles of the rounds' ratios."""
    ratios = [row[way] / row[over] for row in rounds if row[over]]
    return {
        "gain": float(np.median(ratios)),
        "quartiles": [float(np.percentile(ratios, 25)), float(np.percentile(ratios, 75))],
        "frames_per_s": [float(np.median([row[place] for row in rounds])) for place in (over, way)],
    }


async def scale_up(server: Started, payload: Payload, rate: float) -> dict[str, Any]:
    """Under more work than one replica carries: seconds until the gateway has a second, goodput before and after."""
    loop = asyncio.get_running_loop()
    async with streams(server.address, payload, CLIENTS) as opened:
        ask = ask_of(opened)
        began, goodputs, seed, scaled_s = loop.time(), [], 0, None
        while scaled_s is None and loop.time() - began < SCALED_WITHIN_S:
            loading = asyncio.create_task(open_loop(ask, CLIENTS, rate, 2.0, DEADLINE_S, seed))
            while not loading.done():
                if (
                    scaled_s is None
                    and len(await asyncio.to_thread(connected_replicas, server.pid, payload.bundle.name)) >= 2
                ):
                    scaled_s = loop.time() - began
                await asyncio.sleep(LOOK_S)
            goodputs.append(tally(await loading, 2.0, DEADLINE_S)["goodput"])
            seed += 1
        after = tally(await open_loop(ask, CLIENTS, rate, 4.0, DEADLINE_S, seed), 4.0, DEADLINE_S)
    return {
        "scale_up_s": scaled_s,
        "scale_up_goodput_before": float(np.median(goodputs[:-1] or goodputs)),
        "scale_up_goodput_after": after["goodput"],
    }
