"""What a client has learnt of its drafter, its link and its server, and what it decides by it: how long a draft, and
which side says the next tokens. It outlives the text that it was learnt on.
"""

from __future__ import annotations

from collections.abc import Sequence

from splitrt.policy.drafting import Calibration, PassCost, Plan, Reach, RoundCosts, plan
from splitrt.policy.link import LinkEstimate
from splitrt.policy.modes import Mode, Router
from splitrt.rpc.rounds import MOST_DRAFTED, Round, Verdict

NODE_BYTES = 4  # of a chain's node on the link: its id
SERVER_DRAFT_SHARE = 0.05  # of a pass that a draft's token takes on the server: hoped, so that it is tried
SERVER_LENGTH = 4  # of the server's drafts until its pass was measured
GAIN = 0.1


class Pace:
    def __init__(self) -> None:
        self.estimate = LinkEstimate()
        self.reach = Reach()
        self.router = Router()
        self.undrafted = 0  # rounds since a draft was sent, where none pays
        self._calibration = Calibration()
        self._pass = PassCost()
        self._draft_s: float | None = None
        self._server_draft_s: float | None = None  # a token of the server's own drafter

    def drafted(self, seconds: float) -> None:
        self._draft_s = seconds if self._draft_s is None else self._draft_s + GAIN * (seconds - self._draft_s)

    def answered(
        self, one: Round, verdict: Verdict, confidences: Sequence[float], sent_bytes: int, sent_at: float, at: float
    ) -> None:
        """The verdict on a draft, or on none."""
        server_s = verdict.queue_s + verdict.verify_s
        self.estimate.replied(sent_bytes, sent_at, at, server_s)
        if len(one.prefix) <= len(one.ids) + 1:  # else most of the pass was the prompt's
            self._pass.add(len(one.ids), server_s)
        if one.ids:
            self.reach.add(_depth(one.parents), len(verdict.path))
            self._calibration.add(confidences, len(verdict.path))

    def went_on(self, one: Round, verdict: Verdict) -> None:
        """Tokens that the server said alone: a pass, or a draft of its own and a pass."""
        seconds = verdict.queue_s + verdict.verify_s
        if not one.drafted:
            self._pass.add(0, seconds)
            return
        self.reach.add(one.drafted, len(verdict.tokens) - 1)
        pass_s, node_s = self._pass.line()
        token_s = max(0.0, seconds - pass_s) / one.drafted - node_s
        held = self._server_draft_s
        self._server_draft_s = token_s if held is None else held + GAIN * (token_s - held)

    def costs(self) -> RoundCosts:
        pass_s, node_s = self._pass.line()
        fixed_s = self.estimate.round_trip_s + pass_s
        return RoundCosts(
            fixed_s=max(1e-4, fixed_s),
            pass_s=pass_s,
            node_s=node_s + NODE_BYTES / self.estimate.rate,
            draft_s=self._draft_s or 1e-3,
        )

    def plan(self, most: int) -> Plan:
        return plan(self.reach.curve(), self.costs(), most)

    def chances(self, confidences: Sequence[float]) -> list[float]:
        """That tokens of these confidences stand, each where those before it do."""
        return [self._calibration.chance(confidence) for confidence in confidences]

    def server_plan(self) -> Plan:
        """The server's own speculation, by a token a draft at least: the round trip is not in it."""
        pass_s, node_s = self._pass.line()
        hoped_s = SERVER_DRAFT_SHARE * pass_s
        draft_s = max(0.0, hoped_s if self._server_draft_s is None else self._server_draft_s)
        costs = RoundCosts(fixed_s=pass_s, pass_s=pass_s, node_s=node_s + draft_s, draft_s=0.0)
        reach = self.reach.curve()
        best = plan(reach, costs, MOST_DRAFTED)
        return best if best.length else Plan(length=1, token_s=(costs.fixed_s + costs.node_s) / (1 + reach[0]))

    @property
    def server_length(self) -> int:
        return self.server_plan().length if self._pass.is_known else SERVER_LENGTH

    def mode(self, most: int, left: int | None = None) -> Mode:
        """Until something was measured, the way that pays the round trip once. left: tokens that the server is still to
        say alone, where it is doing so: to ask it for something else takes a round trip.
        """
        if not self._pass.is_known:
            return self.router.mode
        split = self.plan(most)
        split_s = split.token_s if split.paired_s is None else split.paired_s
        ways: dict[Mode, float] = {
            "split": split_s, "stream": self._pass.line()[0], "server": self.server_plan().token_s,
        }  # fmt: skip
        return self.router.pick(ways, self.estimate.round_trip_s / max(1, left) if left is not None else 0.0)


def _depth(parents: Sequence[int]) -> int:
    depths: list[int] = []
    for parent in parents:
        depths.append(1 + (depths[parent] if parent >= 0 else 0))
    return max(depths, default=0)
