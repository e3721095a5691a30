"""Load on a server, and what came of it: open loop (Poisson arrivals) or closed loop. Pure but for waiting and asking.

Open loop has no coordinated omission: arrivals are drawn before, none waits for the answer to another, and a latency
counts from the moment its frame was meant to go, however late the generator was (Tene, "How NOT to Measure Latency").
Goodput is answers with outputs within the deadline, a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from splitrt.errors import DeadlineExceeded, LinkLost, Overloaded
from splitrt.rpc.frames import Reply

SETTLE_S = 0.3  # after a deadline, for late answers to come in: they must not fall into what is measured next


class End(Enum):
    OUTPUTS = "outputs"
    REFUSED = "refused"
    EXPIRED = "expired"
    FAILED = "failed"
    NONE = "none"  # no answer


@dataclass(frozen=True, slots=True)
class Answer:
    end: End
    retry_after_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A frame: when it was meant to go and went, when its answer came; seconds of one clock."""

    client: int
    meant_s: float
    went_s: float
    ended_s: float
    answer: Answer

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.meant_s


Ask = Callable[[int, float], Awaitable[Answer]]  # a client's number and the seconds left -> how it ended


def answer_of(reply: Reply | None) -> Answer:
    match reply:
        case None:
            return Answer(End.NONE)
        case Reply(error=None):
            return Answer(End.OUTPUTS)
        case Reply(error=Overloaded() as error):
            return Answer(End.REFUSED, error.retry_after_ms)
        case Reply(error=DeadlineExceeded()):
            return Answer(End.EXPIRED)
    return Answer(End.FAILED)


def arrivals_s(rate: float, seconds: float, draw: np.random.Generator) -> list[float]:
    """Of a Poisson process of `rate` a second, within the time."""
    count = draw.poisson(rate * seconds)
    return sorted(draw.uniform(0.0, seconds, count).tolist())


async def open_loop(
    ask: Ask, clients: int, rate: float, seconds: float, deadline_s: float, seed: int
) -> tuple[Asked, ...]:
    """All clients' frames together come at `rate`; each is any client's. Ends when all have ended."""
    draw = np.random.default_rng(seed)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(client: int, meant_s: float) -> Asked:
        went_s = loop.time()
        answer = await _asked(ask, client, deadline_s - (went_s - meant_s))
        return Asked(client=client, meant_s=meant_s, went_s=went_s, ended_s=loop.time(), answer=answer)

    running: list[asyncio.Task[Asked]] = []
    for after_s in arrivals_s(rate, seconds, draw):
        meant_s = began + after_s
        if (wait_s := meant_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        running.append(asyncio.create_task(one(int(draw.integers(clients)), meant_s)))
    if (wait_s := began + seconds - loop.time()) > 0:
        await asyncio.sleep(wait_s)
    return tuple(await asyncio.gather(*running))


async def closed_loop(ask: Ask, clients: int, seconds: float, deadline_s: float) -> tuple[Asked, ...]:
    """Each client asks again as soon as it is answered."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    done: list[Asked] = []

    async def one(client: int) -> None:
        while (went_s := loop.time()) < ends_at:
            answer = await _asked(ask, client, deadline_s)
            done.append(Asked(client=client, meant_s=went_s, went_s=went_s, ended_s=loop.time(), answer=answer))

    await asyncio.gather(*(one(client) for client in range(clients)))
    return tuple(done)


async def _asked(ask: Ask, client: int, left_s: float) -> Answer:
    if left_s <= 0:
        return Answer(End.EXPIRED)  # the generator's own fault, counted against the server all the same
    try:
        return await ask(client, left_s)
    except LinkLost:
        return Answer(End.NONE)


def tally(asked: Sequence[Asked], seconds: float, deadline_s: float) -> dict[str, Any]:
    """Figures of one load: goodput a second, latencies of answers with outputs, refusals and how fast they came."""
    answered = [one.latency_s for one in asked if one.answer.end is End.OUTPUTS]
    refused = [one for one in asked if one.answer.end is End.REFUSED]
    ends = {end.value: sum(one.answer.end is end for one in asked) for end in End}
    return {
        "sent": len(asked),
        **ends,
        "goodput": sum(latency_s <= deadline_s for latency_s in answered) / seconds,
        "latency_ms_p50": _percentile_ms(answered, 50),
        "latency_ms_p99": _percentile_ms(answered, 99),
        "refusal_ms_p99": _percentile_ms([one.latency_s for one in refused], 99),
        "refusals_ms": [round(one.latency_s * 1e3, 2) for one in refused],
        "refused_without_time": sum(one.answer.retry_after_ms <= 0 for one in refused),
        "generator_late_ms_p99": _percentile_ms([one.went_s - one.meant_s for one in asked], 99),
    }


def per_second(asked: Sequence[Asked], seconds: float) -> float:
    """Answers with outputs a second, within a closed loop's time."""
    if not asked:
        return 0.0
    ends_at = min(one.meant_s for one in asked) + seconds
    return sum(one.answer.end is End.OUTPUTS and one.ended_s <= ends_at for one in asked) / seconds


def _percentile_ms(seconds: Sequence[float], share: float) -> float | None:
    return float(np.percentile(seconds, share)) * 1e3 if seconds else None
