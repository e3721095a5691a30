"""Every server at every load: open loops of one rate, one number of clients and one server at a time, by turns.

Rates are shares of what the embedded server carries in a closed loop, the same for all servers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from splitrt.bench.load import SETTLE_S, Answer, Ask, answer_of, closed_loop, open_loop, per_second, tally
from splitrt.bench.stream import FrameStream, Payload, streams

DEADLINE_S = 0.2
CAPACITY_CLIENTS = 8
PATIENT_S = 30.0


def ask_of(opened: Sequence[FrameStream], more_s: float = SETTLE_S) -> Ask:
    """A client's frames go on its own stream. more_s: how long after its deadline an answer still counts as one."""

    async def ask(client: int, left_s: float) -> Answer:
        return answer_of(await opened[client].ask(left_s, left_s + more_s))

    return ask


async def capacity(address: str, payload: Payload, seconds: float) -> float:
    """Frames a second that a server carries where clients wait for it."""
    async with streams(address, payload, CAPACITY_CLIENTS) as opened:
        ask = ask_of(opened)
        await closed_loop(ask, CAPACITY_CLIENTS, seconds / 4, PATIENT_S)
        return per_second(await closed_loop(ask, CAPACITY_CLIENTS, seconds, PATIENT_S), seconds)


async def grid(
    ours: Mapping[str, str],
    peers: Mapping[str, Ask],
    payload: Payload,
    capacity_fps: float,
    *,
    clients: Sequence[int],
    shares: Sequence[float],
    seconds: float,
) -> list[dict[str, Any]]:
    """A row for each of clients x shares x servers. ours: addresses by name."""
    rows: list[dict[str, Any]] = []
    for crowd in clients:
        async with AsyncExitStack() as stack:
            asks = dict(peers)
            for name, address in ours.items():
                asks[name] = ask_of(await stack.enter_async_context(streams(address, payload, crowd)))
            for seed, share in enumerate(shares):
                for name in (*ours, *peers):  # all get the same arrivals
                    rate = share * capacity_fps
                    asked = await open_loop(asks[name], crowd, rate, seconds, DEADLINE_S, seed)
                    figures = tally(asked, seconds, DEADLINE_S)
                    load_average = os.getloadavg()[0]
                    rows.append(
                        {
                            "server": name,
                            "clients": crowd,
                            "share": share,
                            "rate": rate,
                            **figures,
                            "load": load_average,
                        }
                    )
                    await asyncio.sleep(SETTLE_S)
    return rows


def goodputs(rows: Sequence[Mapping[str, Any]], server: str) -> dict[float, float]:
    """Mean goodput of a server over the numbers of clients, by share of capacity."""
    found: dict[float, list[float]] = {}
    for row in rows:
        if row["server"] == server:
            found.setdefault(row["share"], []).append(row["goodput"])
    return {share: sum(each) / len(each) for share, each in sorted(found.items())}


def kept_at_most_load(by_share: Mapping[float, float]) -> float:
    """Goodput at the highest load over the best of all."""
    best = max(by_share.values(), default=0.0)
    return by_share[max(by_share)] / best if best else 0.0
