"""Drafting here and verifying there, in virtual time: the real policies, the real verdicts, stated costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitrt.bench.course import Course, Way, down_size, learn, up_size, wait
from splitrt.bench.profiles import Costs, Profile
from splitrt.bench.stories import Told
from splitrt.device.pace import Pace

LONGEST = 48


@dataclass(frozen=True, slots=True)
class _Flight:
    """A round on its way. drafted: tokens guessed by the time it was sent, of which it holds the first `nodes`."""

    nodes: int
    drafted: int
    sent_at: float
    done_at: float  # by the server
    back_at: float


@dataclass(slots=True)
class Turn:
    """Between two rounds: now, tokens said, tokens of the next draft that are made, and the round that is hoped for."""

    at: float
    place: int = 0
    ready: int = 0
    hoped: _Flight | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """Drafts of a fixed length, ended by a token below a confidence, and so many rounds at once; or the policy's."""

    length: int | None = None
    pace: Pace | None = None
    least_confidence: float = 0.0
    in_flight: int = 1

    def usual(self) -> int:
        return self.pace.plan(LONGEST).length if self.pace is not None else self.length or 0

    def at_once(self) -> int:
        return self.pace.plan(LONGEST).in_flight if self.pace is not None else self.in_flight

    def draft(self, confidences: Sequence[float], ready: int) -> tuple[int, int]:
        """Tokens that are drafted by the time a round is sent, `ready` of them before; how many of them are sent.

        confidences: of the tokens that there is room for.
        """
        most = len(confidences)
        if self.pace is None:
            most = min(self.length or 0, most)
            unsure = (node for node in range(most) if confidences[node] < self.least_confidence)
            nodes = min(most, next(unsure, most) + 1)
            return max(ready, nodes), nodes
        plan, chances = self.pace.plan(LONGEST), self.pace.chances(confidences)
        drafted = min(ready, most)
        while drafted < most and plan.goes_on(chances[:drafted]):
            drafted += 1
        return max(ready, drafted), plan.sent(chances[:drafted])


def split(
    length: int | None = None,
    pace: Pace | None = None,
    least_confidence: float = 0.0,
    *,
    in_flight: int = 1,
    alone: bool = True,
) -> Way:
    """Drafts of a fixed length, or of the policy's. alone: the device goes on in an outage."""
    drafting = Drafting(length=length, pace=pace, least_confidence=least_confidence, in_flight=in_flight)

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course, turn = Course(at), Turn(at)
        while turn.place < len(told.tokens):
            turn = play_round(told, profile, costs, turn, drafting, course, alone=alone)
        return course

    return way


def play_round(
    told: Told, profile: Profile, costs: Costs, turn: Turn, drafting: Drafting, course: Course, *, alone: bool
) -> Turn:
    place, pace = turn.place, drafting.pace
    here = turn.hoped or _sent(told, profile, costs, place, turn.at, turn.ready, drafting, turn.at)
    accepted = told.accepted(place, here.nodes)
    course.calls += 1
    course.up_bytes += up_size(here.nodes)
    course.down_bytes += down_size(accepted)
    course.server_s += costs.verify_s(here.nodes)
    course.drafted.append(here.nodes)
    behind = place + here.nodes + 1
    is_met = accepted == here.nodes and behind <= len(told.met) and told.met[behind - 1]
    hoped = None
    if drafting.at_once() > 1 and behind < len(told.tokens) - 1:
        # A hope is sent once there is none before it. Ready below 0: the token between the two is not guessed yet.
        since, made = (here.sent_at, here.drafted) if turn.hoped is None else (turn.at, turn.ready)
        hope = _sent(told, profile, costs, behind, since, made - here.nodes - 1, drafting, here.done_at)
        if hope.sent_at < here.back_at and hope.nodes and is_met:
            hoped = hope
        elif hope.sent_at < here.back_at and hope.nodes:  # its bytes went for nothing
            course.up_bytes += up_size(hope.nodes)
            course.down_bytes += down_size(0, 0)
    wait(told, costs, place, max(turn.at, here.sent_at), here.back_at, course, alone)
    if pace is not None:
        pace.drafted(costs.draft_s)
        server_s = costs.verify_s(here.nodes)
        learn(told, pace, place, here.nodes, accepted, server_s, here.sent_at, here.back_at)
    said = min(accepted + 1, len(told.tokens) - place)
    course.said(said, here.back_at)
    if not is_met:
        return Turn(here.back_at, place + said)
    made = here.drafted + int((here.back_at - here.sent_at) / max(costs.draft_s, 1e-9))
    made = max(here.drafted, min(made, 2 * drafting.usual() + 1))
    return Turn(here.back_at, place + said, max(0, made - here.nodes - 1), hoped)


def _sent(
    told: Told,
    profile: Profile,
    costs: Costs,
    place: int,
    at: float,
    ready: int,
    drafting: Drafting,
    free_at: float,
) -> _Flight:
    """A round behind `place` tokens, drafted from `at` on; free_at: when the server is done with the one before."""
    most = max(0, min(LONGEST, len(told.tokens) - place - 1))
    drafted, nodes = drafting.draft(told.confidences[place : place + most], max(0, ready))
    sent_at = at + max(0, drafted - ready) * costs.draft_s
    done_at = max(free_at, profile.up(sent_at, up_size(nodes))) + costs.verify_s(nodes)
    back_at = profile.down(done_at, down_size(told.accepted(place, nodes)))
    return _Flight(nodes, drafted, sent_at, done_at, back_at)
