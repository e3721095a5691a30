"""What saying a text across a link takes, in virtual time.

A message takes its bytes over the rate and half a round trip; in an outage it waits for the end. The server works on
one thing at a time, and here for one client alone; `crowd` has many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from splitrt.bench.profiles import Costs, Profile
from splitrt.bench.stories import Told
from splitrt.device.pace import Pace
from splitrt.rpc.rounds import Round, Verdict
from splitrt.rpc.speculation import link_bytes, round_to_wire, verdict_to_wire

PATIENCE_S = 0.5
MOST_PROVISIONAL = 64


@dataclass(slots=True)
class Course:
    """What saying one text took."""

    began_at: float
    ended_at: float = 0.0
    first_s: float = 0.0
    tokens: int = 0
    calls: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    server_s: float = 0.0
    stalled_s: float = 0.0  # nothing new to show for longer than PATIENCE_S
    provisional: int = 0
    retracted: int = 0
    drafted: list[int] = field(default_factory=list)

    def said(self, tokens: int, at: float) -> None:
        if not self.tokens:
            self.first_s = at - self.began_at
        self.tokens += tokens
        self.ended_at = at

    @property
    def token_s(self) -> float:
        return (self.ended_at - self.began_at) / self.tokens


Way = Callable[[Told, Profile, Costs, float], Course]


@lru_cache(4096)
def up_size(nodes: int) -> int:
    ids = tuple(300 + node for node in range(nodes))
    one = Round(
        round=50, base=300, base_hash=1 << 63, start=299, prefix=(300,), ids=ids, parents=tuple(range(-1, nodes - 1))
    )
    return link_bytes(round_to_wire(one))


@lru_cache(4096)
def down_size(path: int, tokens: int = 1) -> int:
    verdict = Verdict(round=50, base=300, path=tuple(range(path)), tokens=(300,) * tokens, queue_s=1e-3, verify_s=0.02)
    return link_bytes(verdict_to_wire(verdict))


def run(way: Way, texts: Sequence[Told], profile: Profile, costs: Costs, at: float = 0.0) -> list[Course]:
    """One text after the other, a second between them, the first at `at`."""
    courses: list[Course] = []
    for told in texts:
        courses.append(way(told, profile, costs, at))
        at = courses[-1].ended_at + 1.0
    return courses


def wait(told: Told, costs: Costs, place: int, since: float, at: float, course: Course, alone: bool) -> None:
    """Nothing came from `since` to `at`. A device that goes on alone says provisional words meanwhile."""
    late_s = at - since - PATIENCE_S
    if late_s <= 0:
        return
    said = min(MOST_PROVISIONAL, int(late_s / max(costs.draft_s, 1e-9)), len(told.tokens) - place) if alone else 0
    course.provisional += said
    course.retracted += said - told.accepted(place, said)
    course.stalled_s += max(0.0, late_s - said * costs.draft_s)


def learn(
    told: Told, pace: Pace, place: int, nodes: int, accepted: int, server_s: float, sent_at: float, at: float
) -> None:
    ids = (0,) * nodes
    one = Round(round=1, base=1, base_hash=0, start=0, prefix=(1,), ids=ids, parents=tuple(range(-1, nodes - 1)))
    verdict = Verdict(round=1, base=1, path=tuple(range(accepted)), tokens=(1,), verify_s=server_s)
    pace.answered(one, verdict, told.confidences[place : place + nodes], up_size(nodes), sent_at, at)
