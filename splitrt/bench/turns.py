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


def split(
    length: int | None = None, pace: Pace | None = None, least_confidence: float = 0.0, *, alone: bool = True
) -> Way:
    """Drafts of a fixed length, or of the policy's. alone: the device goes on in an outage."""

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course, place, ready = Course(at), 0, 0
        while place < len(told.tokens):
            at, place, ready = _round(
                told, profile, costs, at, place, ready, length, pace, least_confidence, course, alone
            )
        return course

    return way


def _round(
    told: Told,
    profile: Profile,
    costs: Costs,
    at: float,
    place: int,
    ready: int,
    length: int | None,
    pace: Pace | None,
    least_confidence: float,
    course: Course,
    alone: bool,
) -> tuple[float, int, int]:
    """(when its verdict is there, tokens said by then, tokens of the next draft that are made already)."""
    most = min(LONGEST, len(told.tokens) - place - 1)
    drafted, nodes = _draft(told, place, most, ready, length, pace, least_confidence)
    if pace is not None:
        pace.drafted(costs.draft_s)
    sent_at = at + max(0, drafted - ready) * costs.draft_s
    server_s = costs.verify_s(nodes)
    accepted = told.accepted(place, nodes)
    back_at = profile.down(profile.up(sent_at, up_size(nodes)) + server_s, down_size(accepted))
    course.calls += 1
    course.up_bytes += up_size(nodes)
    course.down_bytes += down_size(accepted)
    course.server_s += server_s
    course.drafted.append(nodes)
    _wait(told, costs, place, sent_at, back_at, course, alone)
    if pace is not None:
        _learn(told, pace, place, nodes, accepted, server_s, sent_at, back_at)
    said = min(accepted + 1, len(told.tokens) - place)
    course.said(said, back_at)
    guessed = accepted == nodes and place + nodes < len(told.met) and told.met[place + nodes]
    if not guessed:
        return back_at, place + said, 0
    usual = length if pace is None else pace.plan(LONGEST).length
    made = max(drafted, min(drafted + int((back_at - sent_at) / max(costs.draft_s, 1e-9)), 2 * (usual or 0) + 1))
    return back_at, place + said, max(0, made - nodes - 1)


def _draft(
    told: Told, place: int, most: int, ready: int, length: int | None, pace: Pace | None, least_confidence: float
) -> tuple[int, int]:
    """Tokens that are drafted by the time the round is sent, `ready` of them before; and how many of them are sent."""
    if length is not None:
        most = min(length, most)
        unsure = (node for node in range(most) if told.confidences[place + node] < least_confidence)
        nodes = min(most, next(unsure, most) + 1)
        return max(ready, nodes), nodes
    assert pace is not None
    plan, chances = pace.plan(LONGEST), pace.chances(told.confidences[place : place + most])
    drafted = min(ready, most)
    while drafted < most and plan.goes_on(chances[:drafted]):
        drafted += 1
    return max(ready, drafted), plan.sent(chances[:drafted])


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

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course, place, ready = Course(at), 0, 0
        while place < len(told.tokens):
            mode = pace.mode(LONGEST)
            if mode == "split":
                at, place, ready = _round(told, profile, costs, at, place, ready, None, pace, 0.0, course, True)
            else:
                at, place = _stretch(told, profile, costs, at, place, mode, pace, course)
                ready = 0
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
