"""Replicas killed (SIGKILL) under load: every frame must still end once, and every stream be answered again soon."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np

from splitrt.bench.descendants import connected_replicas, replicas
from splitrt.bench.load import Asked, End, open_loop
from splitrt.bench.loads import DEADLINE_S, ask_of
from splitrt.bench.process import Started
from splitrt.bench.stream import Payload, streams
from splitrt.errors import RemoteFailure

STREAMS = 8
LOST_AFTER_S = 5.0  # beyond the deadline
BETWEEN_S = 1.5  # with all replicas there, before the next is killed
LOOK_S = 0.2
BACK_WITHIN_S = 60.0


async def kill_drill(server: Started, payload: Payload, rate: float, kills: int, alive: int) -> dict[str, Any]:
    """So many kills, one at a time, each when `alive` replicas take frames. Only this server's replicas are touched."""
    loop, bundle = asyncio.get_running_loop(), payload.bundle.name
    async with streams(server.address, payload, STREAMS) as opened:
        ask = ask_of(opened, LOST_AFTER_S)
        parts: list[asyncio.Task[tuple[Asked, ...]]] = []

        async def load() -> None:
            while True:
                parts.append(asyncio.create_task(open_loop(ask, STREAMS, rate, 1.0, DEADLINE_S, seed=len(parts))))
                await asyncio.sleep(1.0)

        loading = asyncio.create_task(load())
        killed_s, back_s = [], []
        try:
            for number in range(kills):
                await _all_there(server, bundle, alive)
                await asyncio.sleep(BETWEEN_S)
                os.kill(replicas(server.pid, bundle)[number % alive], signal.SIGKILL)
                killed_s.append(loop.time())
                await asyncio.sleep(LOOK_S)
                await _all_there(server, bundle, alive)
                back_s.append(loop.time() - killed_s[-1])
            await asyncio.sleep(BETWEEN_S)
        finally:
            loading.cancel()
        asked = [one for part in await asyncio.gather(*parts) for one in part]
        duplicated = sum(stream.duplicates for stream in opened)
    recoveries_s = [recovery_s(asked, STREAMS, at) for at in killed_s]
    ends = {end.value: sum(one.answer.end is end for one in asked) for end in End}
    return {
        "kills": kills,
        "replicas": alive,
        **ends,
        "sent": len(asked),
        "lost": ends[End.NONE.value],
        "duplicated": duplicated,
        "recovery_s": max(recoveries_s),
        "recovery_s_p50": float(np.median(recoveries_s)),
        "replica_back_s_p50": float(np.median(back_s)),
        "recoveries_s": recoveries_s,
    }


def recovery_s(asked: Sequence[Asked], clients: int, killed_s: float) -> float:
    """From a kill until each client has outputs again for a frame that was meant to go after it; inf where one has
    none.
    """
    first = dict.fromkeys(range(clients), float("inf"))
    for one in asked:
        if one.meant_s >= killed_s and one.answer.end is End.OUTPUTS:
            first[one.client] = min(first[one.client], one.ended_s)
    return max(first.values()) - killed_s


async def _all_there(server: Started, bundle: str, alive: int) -> None:
    """Wait until the gateway is connected to so many. Raises RemoteFailure where they do not come."""
    try:
        async with asyncio.timeout(BACK_WITHIN_S):
            while True:
                there = await asyncio.to_thread(connected_replicas, server.pid, bundle)
                if len(there) >= alive and len(there) == len(replicas(server.pid, bundle)):
                    return
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise RemoteFailure(f"{alive} replicas must be there within {BACK_WITHIN_S:g} s of a kill") from None
