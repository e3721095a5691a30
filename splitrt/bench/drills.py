"""Small links on which one thing happens: a step down, an outage, a slow server, a published controller's rates.

Each answers one question about the estimator and the decision, over several seeds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

from splitrt.bench.packets import AFTER_S, PACKET_BYTES, STEP_S, packets_of, steady_rate
from splitrt.bench.players import Genie, Ours
from splitrt.bench.rivals import Ewma, Fitting
from splitrt.bench.simulation import Played, Player, Present, Sent, Ways, World, simulate, world_of
from splitrt.bench.suite import LOCAL_ACCURACY, ladder
from splitrt.netem.trace import BYTES_PER_S_OF_MBIT
from splitrt.netem.tracefile import DELIVERY_BYTES
from splitrt.policy.queue import InFlight

Float64 = npt.NDArray[np.float64]

WAYS = Ways(round_trip_s=0.04)
LENGTH_S, HAPPENS_S = 20.0, 10.0
DEADLINE_S, FPS = 0.15, 20.0
STEP_MBIT = (8.0, 0.8)
OUTAGE_S, OUTAGE_MBIT = 2.0, 4.0
SLOWER_S = 0.04
PUBLISHED_KB = (70.0, 165.0)  # a second, of the Bluetooth link that it was shown on
PUBLISHED_SERVER_S, PUBLISHED_DEADLINE_S, PUBLISHED_FPS = 0.06, 0.3, 3.0
PUBLISHED_MISSES = 0.03  # what the dial is set to


def step_down(seeds: int) -> dict[str, float]:
    """Replies heard, and deadlines of silence passed, from a step down to the first frame at a width that is right.

    Right is no wider than what one chooses most who knows the new rate. A seed passes with 3 replies or one deadline.
    """
    replies, silences = [], []
    for seed in range(seeds):
        rates = steady_rate(STEP_MBIT[0], LENGTH_S + AFTER_S)
        rates[round(HAPPENS_S / STEP_S) :] = STEP_MBIT[1] * BYTES_PER_S_OF_MBIT
        world = _world(rates, WAYS, seed)
        after = bisect_left(world.captured_K, HAPPENS_S)
        knowing = simulate(world, Genie(world.choices, LOCAL_ACCURACY, is_hedged=True), is_hedged=True)
        right = Counter(knowing.index_K[after + 20 :]).most_common(1)[0][0]
        ours = simulate(world, Ours(world.choices, LOCAL_ACCURACY, is_hedged=True), is_hedged=True)
        first = next(k for k in range(after, len(ours.index_K)) if ours.index_K[k] <= right)
        decided_at = world.captured_K[first]
        heard = [at for at in ours.replied_K if HAPPENS_S < at <= decided_at]
        replies.append(len(heard))
        silences.append((decided_at - max(heard, default=HAPPENS_S)) / DEADLINE_S)
    met = [few <= 3 or quiet <= 1 for few, quiet in zip(replies, silences, strict=True)]
    return {
        "step_replies": float(np.median(replies)),
        "step_replies_worst": max(replies),
        "step_silence_deadlines_worst": max(silences),
        "step_met": sum(met) / seeds,
    }


def outage(seeds: int) -> dict[str, float]:
    """Milliseconds from a link's return to the first frame answered in time, captured after or before."""
    waits = []
    for seed in range(seeds):
        rates = steady_rate(OUTAGE_MBIT, LENGTH_S + AFTER_S)
        back_s = HAPPENS_S + OUTAGE_S
        rates[round(HAPPENS_S / STEP_S) : round(back_s / STEP_S)] = 0.0
        world = _world(rates, WAYS, seed)
        ours = simulate(world, Ours(world.choices, LOCAL_ACCURACY, is_hedged=True), is_hedged=True)
        answered = [at for at, hit in zip(ours.replied_K, ours.is_hit_K, strict=True) if hit and at > back_s]
        waits.append(1e3 * (min(answered) - back_s))
    return {"outage_recovery_ms": float(np.median(waits)), "outage_recovery_ms_worst": max(waits)}


def slow_server(seeds: int) -> dict[str, float]:
    """The rate believed with a server 40 ms slower, over the rate believed before, less one.

    The same frames in both runs, so that nothing but the server differs: it is the estimator that is asked. Beside it
    the same with frames as they are decided, which a slower server makes smaller.
    """
    same, adapting = list[float](), list[float]()
    for seed in range(seeds):
        for changes, is_adapting in ((same, False), (adapting, True)):
            means = []
            for more_s in (0.0, SLOWER_S):
                ways = Ways(round_trip_s=WAYS.round_trip_s, server_s=WAYS.server_s + more_s)
                world = _world(steady_rate(OUTAGE_MBIT, LENGTH_S + AFTER_S), ways, seed, deadline_s=0.2)
                means.append(_believed(world, is_adapting=is_adapting))
            changes.append(means[1] / means[0] - 1)
    return {
        "slow_server_rate_change": float(np.mean(same)),
        "slow_server_rate_change_worst": max(map(abs, same)),
        "slow_server_rate_change_adapting_worst": max(map(abs, adapting)),
    }


def published(seeds: int) -> dict[str, float]:
    """Share of the frames sent that are in time where the link wanders over the published rates, 60 ms at the server.

    Ours with its dial at PUBLISHED_MISSES; beside it the published rule: smoothed rate, .8 of the deadline, the
    server's time forgotten.
    """
    ours, theirs = [], []
    for seed in range(seeds):
        world = _world(_wandering(seed), Ways(round_trip_s=0.03, server_s=PUBLISHED_SERVER_S), seed,
                       deadline_s=PUBLISHED_DEADLINE_S, fps=PUBLISHED_FPS, length_s=60.0)  # fmt: skip
        player = Ours(world.choices, LOCAL_ACCURACY, is_hedged=True, most_misses=PUBLISHED_MISSES)
        ours.append(simulate(world, player, is_hedged=True))
        theirs.append(simulate(world, lookup(world), is_hedged=True))
    return {
        "deadline_met_published_rates": _met(ours),
        "deadline_met_published_rates_sent": _sent(ours),
        "deadline_met_published_rates_accuracy": float(np.mean([played.accuracy for played in ours])),
        "deadline_met_published_rule": _met(theirs),
        "published_rule_accuracy": float(np.mean([played.accuracy for played in theirs])),
    }


def lookup(world: World) -> Player:
    """The rule of the published controller."""
    return Fitting(world.choices, Ewma(), margin=0.8, has_server=False)


def _met(runs: Sequence[Played]) -> float:
    hits = [hit for run in runs for hit, index in zip(run.is_hit_K, run.index_K, strict=True) if index >= 0]
    return float(np.mean(hits))


def _sent(runs: Sequence[Played]) -> float:
    return float(np.mean([index >= 0 for run in runs for index in run.index_K]))


def _believed(world: World, *, is_adapting: bool) -> float:
    """Mean rate (geometric) that ours believes over the second half."""
    player = _Watched(world, is_adapting=is_adapting)
    simulate(world, player, is_hedged=True)
    return float(np.exp(np.mean(np.log(player.rates[len(player.rates) // 2 :]))))


class _Watched:
    """The rate that ours believes after each reply, to frames of its own or to narrow and wide ones in turn."""

    def __init__(self, world: World, *, is_adapting: bool) -> None:
        self._ours = Ours(world.choices, LOCAL_ACCURACY, is_hedged=True)
        self._is_adapting, self._turns = is_adapting, cycle(range(len(world.choices) - 1))
        self.rates: list[float] = []

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        if not self._is_adapting:
            return Sent(index=next(self._turns))
        return self._ours.choose(now, deadline_at, in_flight, present)

    def replied(self, link_bytes: int, sent_at: float, replied_at: float, server_s: float) -> None:
        self._ours.replied(link_bytes, sent_at, replied_at, server_s)
        self.rates.append(self._ours.estimator.rate)

    def ended(self, sent: Sent, is_hit: bool) -> None:
        if self._is_adapting:
            self._ours.ended(sent, is_hit)


def _wandering(seed: int) -> Float64:
    """Between the published rates, on a scale of seconds."""
    draw = np.random.default_rng([7, seed])
    walk = np.cumsum(draw.normal(0, 0.06, 700))
    share = 0.5 + 0.5 * np.sin(walk + draw.uniform(0, 6))
    return 1e3 * (PUBLISHED_KB[0] + share * (PUBLISHED_KB[1] - PUBLISHED_KB[0])) * (DELIVERY_BYTES / PACKET_BYTES)


def _world(
    rates: Float64,
    ways: Ways,
    seed: int,
    *,
    deadline_s: float = DEADLINE_S,
    fps: float = FPS,
    length_s: float = LENGTH_S,
) -> World:
    draw = np.random.default_rng([11, seed])
    return world_of(
        ladder(),
        LOCAL_ACCURACY,
        packets_of(rates, draw),
        ways,
        deadline_s=deadline_s,
        fps=fps,
        length_s=length_s,
        draw=draw,
    )
