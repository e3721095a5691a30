"""Would a second round in flight pay? In virtual time, as `turns`: the next round is sent before the verdict on the one
under way, as if that will be accepted whole and the token behind it is the one guessed. Where it is not, the server
finds another prefix and says so without a pass, so a wrong hope costs its bytes alone: the most that this can gain.
"""

from __future__ import annotations

from dataclasses import dataclass

from splitrt.bench.profiles import Costs, Profile
from splitrt.bench.stories import Told
from splitrt.bench.turns import Course, Way, down_size, up_size


@dataclass(frozen=True, slots=True)
class _Flight:
    nodes: int
    sent_at: float
    done_at: float  # by the server
    back_at: float


def two_in_flight(length: int) -> Way:
    def way(told: Told, profile: Profile, costs: Costs, at: float) -> Course:
        course, place, ahead = Course(at), 0, 0
        hoped: _Flight | None = None
        while place < len(told.tokens):
            nodes = min(length, len(told.tokens) - place - 1)
            here = hoped or _sent(told, profile, costs, place, nodes, at + max(0, nodes - ahead) * costs.draft_s, at)
            accepted = told.accepted(place, here.nodes)
            course.calls, course.up_bytes = course.calls + 1, course.up_bytes + up_size(here.nodes)
            course.down_bytes += down_size(accepted)
            course.server_s += costs.verify_s(here.nodes)
            course.drafted.append(here.nodes)
            behind = place + here.nodes + 1
            is_met = accepted == here.nodes and behind <= len(told.met) and told.met[behind - 1]
            hoped, sent_at = None, here.sent_at + (length + 1) * costs.draft_s
            if sent_at < here.back_at and behind < len(told.tokens):
                nodes = min(length, len(told.tokens) - behind - 1)
                if is_met:
                    hoped = _sent(told, profile, costs, behind, nodes, sent_at, here.done_at)
                else:  # its bytes went for nothing
                    course.up_bytes += up_size(nodes)
            made = int((here.back_at - here.sent_at) / max(costs.draft_s, 1e-9)) - 1 if is_met else 0
            ahead, at = max(0, min(made, length)), here.back_at
            course.said(min(accepted + 1, len(told.tokens) - place), at)
            place += accepted + 1
        return course

    return way


def _sent(
    told: Told, profile: Profile, costs: Costs, place: int, nodes: int, sent_at: float, free_at: float
) -> _Flight:
    """free_at: when the server is done with the round before."""
    done_at = max(free_at, profile.up(sent_at, up_size(nodes))) + costs.verify_s(nodes)
    return _Flight(nodes, sent_at, done_at, profile.down(done_at, down_size(told.accepted(place, nodes))))
