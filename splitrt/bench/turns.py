"""Ways of saying a text across a link, in virtual time: the real policies, the real verdicts, stated costs.

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
from splitrt.policy.modes import Mode
from splitrt.rpc.rounds import Round, Verdict
from splitrt.rpc.speculation import link_bytes, round_to_wire, verdict_to_wire

LONGEST = 48
RECONSIDER = 16
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


@dataclass(frozen=True, slots=True)
class _Flight:
    """A round on its way. drafted: tokens guessed by the time it was sent, of which it holds the first `nodes`."""

    nodes: int
    drafted: int
    sent_at: float
    done_at: float  # by the server
    back_at: float


@dataclass(slots=True)
class _Turn:
    """Between two rounds: now, tokens said, tokens of the next draft that are made, and the round that is hoped for."""

    at: float
    place: int = 0
    ready: int = 0
    hoped: _Flight | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drafting:
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
    drafting = _Drafting(length=length, pace=pace, least_confidence=least_confidence, in_flight=in_flight)

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course, turn = Course(at), _Turn(at)
        while turn.place < len(told.tokens):
            turn = _round(told, profile, costs, turn, drafting, course, alone=alone)
        return course

    return way


def _round(
    told: Told, profile: Profile, costs: Costs, turn: _Turn, drafting: _Drafting, course: Course, *, alone: bool
) -> _Turn:
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
    _wait(told, costs, place, max(turn.at, here.sent_at), here.back_at, course, alone)
    if pace is not None:
        pace.drafted(costs.draft_s)
        server_s = costs.verify_s(here.nodes)
        _learn(told, pace, place, here.nodes, accepted, server_s, here.sent_at, here.back_at)
    said = min(accepted + 1, len(told.tokens) - place)
    course.said(said, here.back_at)
    if not is_met:
        return _Turn(here.back_at, place + said)
    made = here.drafted + int((here.back_at - here.sent_at) / max(costs.draft_s, 1e-9))
    made = max(here.drafted, min(made, 2 * drafting.usual() + 1))
    return _Turn(here.back_at, place + said, max(0, made - here.nodes - 1), hoped)


def _sent(
    told: Told,
    profile: Profile,
    costs: Costs,
    place: int,
    at: float,
    ready: int,
    drafting: _Drafting,
    free_at: float,
) -> _Flight:
    """A round behind `place` tokens, drafted from `at` on; free_at: when the server is done with the one before."""
    most = max(0, min(LONGEST, len(told.tokens) - place - 1))
    drafted, nodes = drafting.draft(told.confidences[place : place + most], max(0, ready))
    sent_at = at + max(0, drafted - ready) * costs.draft_s
    done_at = max(free_at, profile.up(sent_at, up_size(nodes))) + costs.verify_s(nodes)
    back_at = profile.down(done_at, down_size(told.accepted(place, nodes)))
    return _Flight(nodes, drafted, sent_at, done_at, back_at)


def _learn(
    told: Told, pace: Pace, place: int, nodes: int, accepted: int, server_s: float, sent_at: float, at: float
) -> None:
    ids = (0,) * nodes
    one = Round(round=1, base=1, base_hash=0, start=0, prefix=(1,), ids=ids, parents=tuple(range(-1, nodes - 1)))
    verdict = Verdict(round=1, base=1, path=tuple(range(accepted)), tokens=(1,), verify_s=server_s)
    pace.answered(one, verdict, told.confidences[place : place + nodes], up_size(nodes), sent_at, at)


def _wait(told: Told, costs: Costs, place: int, since: float, at: float, course: Course, alone: bool) -> None:
    """Nothing came from `since` to `at`. A device that goes on alone says provisional words meanwhile."""
    late_s = at - since - PATIENCE_S
    if late_s <= 0:
        return
    said = min(MOST_PROVISIONAL, int(late_s / max(costs.draft_s, 1e-9)), len(told.tokens) - place) if alone else 0
    course.provisional += said
    course.retracted += said - told.accepted(place, said)
    course.stalled_s += max(0.0, late_s - said * costs.draft_s)


def server_alone(length: int) -> Way:
    """A call for the whole text; the server streams it, plainly (0) or speculating with drafts of this length."""

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course = Course(at)
        now, place = profile.up(at, up_size(0)), 0
        course.calls, course.up_bytes = 1, up_size(0)
        shown_at = at
        while place < len(told.tokens):
            now, place, there_at = _pass(told, profile, costs, now, place, length, course)
            _wait(told, costs, place, shown_at, there_at, course, alone=False)
            shown_at = there_at
        return course

    return way


def _pass(
    told: Told, profile: Profile, costs: Costs, now: float, place: int, length: int, course: Course
) -> tuple[float, int, float]:
    nodes = min(length, len(told.tokens) - place - 1)
    said = told.accepted(place, nodes) + 1
    server_s = costs.verify_s(nodes) + nodes * costs.server_draft_s
    now += server_s
    there_at = profile.down(now, down_size(0, said))
    course.server_s += server_s
    course.down_bytes += down_size(0, said)
    course.said(said, there_at)
    return now, place + said, there_at


def routed(pace: Pace) -> Way:
    """What the client does by default: the way that is expected to be fastest, compared again every so often."""

    drafting = _Drafting(pace=pace)

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course, turn = Course(at), _Turn(at)
        while turn.place < len(told.tokens):
            mode = pace.mode(LONGEST)
            if mode == "split":
                turn = _round(told, profile, costs, turn, drafting, course, alone=True)
            else:
                turn = _Turn(*_stretch(told, profile, costs, turn.at, turn.place, mode, pace, course))
        return course

    return way


def _stretch(
    told: Told, profile: Profile, costs: Costs, at: float, place: int, mode: Mode, pace: Pace, course: Course
) -> tuple[float, int]:
    """The server alone, until another way is better or the text is over."""
    course.calls += 1
    course.up_bytes += up_size(0)
    now, since, there_at = profile.up(at, up_size(0)), 0, at
    is_first, drafted = True, pace.server_length if mode == "server" else 0
    one = Round(round=1, base=1, base_hash=0, start=1, drafted=drafted)
    while place < len(told.tokens):
        length = drafted if not is_first else 0
        before, began, shown_at = place, now, there_at
        now, place, there_at = _pass(told, profile, costs, now, place, length, course)
        _wait(told, costs, before, shown_at, there_at, course, alone=True)
        verdict = Verdict(round=1, base=1, tokens=(1,) * (place - before), verify_s=now - began)
        if is_first:
            _learn(told, pace, before, 0, 0, now - began, at, there_at)
        else:
            pace.went_on(one, verdict)
        is_first, since = False, since + place - before
        if since >= RECONSIDER:
            since = 0
            if pace.mode(LONGEST) != mode:
                break
    return there_at, place


def run(way: Way, texts: Sequence[Told], profile: Profile, costs: Costs, at: float = 0.0) -> list[Course]:
    """One text after the other, a second between them, the first at `at`."""
    courses: list[Course] = []
    for told in texts:
        courses.append(way(told, profile, costs, at))
        at = courses[-1].ended_at + 1.0
    return courses
