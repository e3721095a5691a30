"""How long a draft should be: as long as a further token costs less than it is worth.

    seconds a token = (fixed + length * node + drafting that no wait hides) / (1 + sum of reach)

`reach[j]` is the chance that the first j+1 tokens of a draft are all accepted, as measured (acceptance is not
geometric: the head of the curve is heavy). A further token pays while the chance that it is reached is above its own
seconds / (seconds a token). With a drafter's own confidences that chance is known better, so the same bound ends one
draft before the best length and another behind it; a token that is drafted already costs its place in the pass alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod
from operator import mul

DECAY = 0.98  # a round of what was seen before
PRIOR = 0.6  # acceptance of a token before anything was seen
PRIOR_ROUNDS = 4.0
MOST_LENGTH = 48
LEAST_S = 1e-9  # a pass that no clock could tell from nothing
HOPE_GAIN = 0.02  # a second round in flight must be better by this share: hopes that fail cost bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCosts:
    """Seconds. fixed: round trip, the server's queue and its cost of a pass, which is `pass`; node: its cost of a
    further token and the bytes of it; draft: the device's own, a token.
    """

    fixed_s: float
    pass_s: float
    node_s: float
    draft_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    length: int  # the best, were all drafts as long
    token_s: float  # expected seconds a token
    paired_s: float | None = None  # the same with two rounds at once; None where a second does not pay
    least_drafted: float = 1.0  # a token less likely to be reached than this is not worth drafting
    least_sent: float = 1.0  # nor, drafted, sending
    steps: tuple[float, ...] = ()  # the chance that a token stands where all before it do, by depth

    @property
    def in_flight(self) -> int:
        """Rounds at once."""
        return 1 if self.paired_s is None else 2

    def goes_on(self, chances: Sequence[float]) -> bool:
        """Whether a token behind those that stand with these chances is worth drafting."""
        depth = len(chances)
        if not depth or not self.length:
            return self.length > 0
        return depth < len(self.steps) and prod(chances) * self.steps[depth] >= self.least_drafted

    def sent(self, chances: Sequence[float]) -> int:
        """How many tokens of a draft that stand with these chances are worth sending."""
        reached = accumulate(chances, mul)
        return sum(depth == 0 or reach >= self.least_sent for depth, reach in enumerate(reached)) if self.length else 0


class Reach:
    """The measured chance, by depth, that a draft is accepted so far."""

    def __init__(self) -> None:
        self._tried = [0.0] * MOST_LENGTH  # rounds, decayed, that came to this depth with all before it accepted
        self._stood = [0.0] * MOST_LENGTH

    def add(self, drafted: int, accepted: int) -> None:
        """A chain's verdict. Tokens behind a refused one say nothing."""
        for depth in range(MOST_LENGTH):
            self._tried[depth] *= DECAY
            self._stood[depth] *= DECAY
        for depth in range(min(drafted, accepted + 1, MOST_LENGTH)):
            self._tried[depth] += 1
            self._stood[depth] += depth < accepted

    def curve(self) -> list[float]:
        """Never rising. A depth that was hardly tried is like the one before it."""
        reach, chance, curve = 1.0, PRIOR, []
        for tried, stood in zip(self._tried, self._stood, strict=True):
            chance = (stood + PRIOR_ROUNDS * chance) / (tried + PRIOR_ROUNDS)
            reach *= chance
            curve.append(reach)
        return curve


class Calibration:
    """From a drafter's own probability of a token to how often such tokens stood."""

    BINS = 10

    def __init__(self) -> None:
        self._tried = [0.0] * self.BINS
        self._stood = [0.0] * self.BINS

    def add(self, confidences: Sequence[float], accepted: int) -> None:
        for depth, confidence in enumerate(confidences[: accepted + 1]):
            place = self._bin(confidence)
            self._tried[place] = DECAY * self._tried[place] + 1
            self._stood[place] = DECAY * self._stood[place] + (depth < accepted)

    def chance(self, confidence: float) -> float:
        place = self._bin(confidence)
        return (self._stood[place] + PRIOR_ROUNDS * PRIOR) / (self._tried[place] + PRIOR_ROUNDS)

    def _bin(self, confidence: float) -> int:
        return min(self.BINS - 1, int(confidence * self.BINS))


class PassCost:
    """The server's seconds a pass by the draft's nodes: a decayed straight line, its slope not below zero."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, nodes: int, seconds: float) -> None:
        sums = (1.0, nodes, seconds, nodes * nodes, nodes * seconds)
        held = (self._n, self._x, self._y, self._xx, self._xy)
        self._n, self._x, self._y, self._xx, self._xy = (DECAY * a + b for a, b in zip(held, sums, strict=True))

    @property
    def is_known(self) -> bool:
        return self._n > 0

    def line(self) -> tuple[float, float]:
        """(of no node, of each): seconds."""
        if not self._n:
            return 0.0, 0.0
        spread = self._xx - self._x**2 / self._n
        slope = (self._xy - self._x * self._y / self._n) / spread if spread > 1e-6 * self._xx + 1e-9 else 0.0
        mean = self._y / self._n
        slope = min(max(0.0, slope), mean / max(1.0, self._x / self._n))
        return mean - slope * self._x / self._n, slope


def plan(reach: Sequence[float], costs: RoundCosts, most: int = MOST_LENGTH) -> Plan:
    """The draft length of fewest seconds a token, 0 where drafting does not pay; and two rounds at once where that is
    faster at this length. Shorter drafts may be faster still of two rounds, at the price of more passes of the server,
    which others wait for.
    """
    best = Plan(length=0, token_s=costs.fixed_s)
    tokens = 1.0
    for length in range(1, min(most, len(reach)) + 1):
        tokens += reach[length - 1]
        ahead = reach[length] if length < len(reach) else 0.0
        token_s = _round_s(length, ahead, costs) / tokens
        if token_s < best.token_s:
            paired_s = _paired_round_s(length, ahead, costs) / tokens
            pays = paired_s < (1 - HOPE_GAIN) * token_s
            best = Plan(length=length, token_s=token_s, paired_s=paired_s if pays else None)
    steps = [reach[0], *(after / before if before else 0.0 for before, after in pairwise(reach))]
    token_s = max(best.token_s, LEAST_S)
    return replace(
        best,
        least_drafted=min(1.0, (costs.node_s + costs.draft_s) / token_s),
        least_sent=min(1.0, costs.node_s / token_s),
        steps=tuple(steps[:most]),
    )


def _round_s(length: int, ahead: float, costs: RoundCosts) -> float:
    """Seconds a round, on average. ahead: the chance that it is accepted whole and the token behind it was guessed.

    While a verdict is awaited the drafter goes on behind the draft: then the next draft is there already.
    """
    drafting_s, waited_s = length * costs.draft_s, costs.fixed_s + length * costs.node_s
    return ahead * max(drafting_s, waited_s) + (1 - ahead) * (drafting_s + waited_s)


def _paired_round_s(length: int, ahead: float, costs: RoundCosts) -> float:
    """The same with a second round sent as soon as it is drafted.

    Of rounds accepted one after the other, every second one ends as long behind the one before as it was sent behind
    it, and the next takes what is left of its way.
    """
    drafting_s, waited_s = length * costs.draft_s, costs.fixed_s + length * costs.node_s
    apart_s = max(drafting_s + costs.draft_s, costs.pass_s + length * costs.node_s)
    left_s = max(apart_s, waited_s - apart_s)
    met_s = min(max(drafting_s, waited_s), (apart_s + ahead * left_s) / (1 + ahead))
    return ahead * met_s + (1 - ahead) * (drafting_s + waited_s)
