"""Texts that the server says alone, and the client that takes the way expected to be fastest, in virtual time."""

from __future__ import annotations

from splitrt.bench.course import Course, Way, down_size, learn, up_size, wait
from splitrt.bench.profiles import Costs, Profile
from splitrt.bench.stories import Told
from splitrt.bench.turns import LONGEST, Drafting, Turn, play_round
from splitrt.device.pace import Pace
from splitrt.policy.modes import Mode
from splitrt.rpc.rounds import Round, Verdict

RECONSIDER = 16


def server_alone(length: int) -> Way:
    """A call for the whole text; the server streams it, plainly (0) or speculating with drafts of this length."""

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course = Course(at)
        now, place = profile.up(at, up_size(0)), 0
        course.calls, course.up_bytes = 1, up_size(0)
        shown_at = at
        while place < len(told.tokens):
            now, place, there_at = _pass(told, profile, costs, now, place, length, course)
            wait(told, costs, place, shown_at, there_at, course, alone=False)
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

    drafting = Drafting(pace=pace)

    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course, turn = Course(at), Turn(at)
        while turn.place < len(told.tokens):
            mode = pace.mode(LONGEST)
            if mode == "split":
                turn = play_round(told, profile, costs, turn, drafting, course, alone=True)
            else:
                turn = Turn(*_stretch(told, profile, costs, turn.at, turn.place, mode, pace, course))
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
        wait(told, costs, before, shown_at, there_at, course, alone=True)
        verdict = Verdict(round=1, base=1, tokens=(1,) * (place - before), verify_s=now - began)
        if is_first:
            learn(told, pace, before, 0, 0, now - began, at, there_at)
        else:
            pace.went_on(one, verdict)
        is_first, since = False, since + place - before
        if since >= RECONSIDER:
            since = 0
            if pace.mode(LONGEST, len(told.tokens) - place) != mode:
                break
    return there_at, place
