"""What a client has learnt of its drafter, its link and its server, and what it decides by it: how long a draft, and
which side says the next tokens. It outlives the text that it was learnt on.
"""

from __future__ import annotations

from collections.abc import Sequence

from splitrt.policy.drafting import Calibration, PassCost, Plan, Reach, RoundCosts, plan
from splitrt.policy.link import LinkEstimate
from splitrt.policy.modes import Mode, Router, server_s
from splitrt.rpc.speculation import SERVER_LENGTH, Round, Verdict

NODE_BYTES = 4  # of a chain's node on the link: its id
SERVER_DRAFT_SHARE = 0.05  # of a pass that a draft's token takes on the server: hoped, so that it is tried
GAIN = 0.1


class Pace:
    def __init__(self) -> None:
        self.estimate = LinkEstimate()
        self.reach = Reach()
        self.router = Router()
        self._calibration = Calibration()
        self._pass = PassCost()
        self._draft_s: float | None = None
        self._alone_s: dict[Mode, float] = {}  # seconds a token of the server's ways, by its own word

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

    def went_on(self, mode: Mode, verdict: Verdict) -> None:
        """Tokens that the server said alone."""
        if mode == "server":
            self.reach.add(SERVER_LENGTH, len(verdict.tokens) - 1)
        token_s = (verdict.queue_s + verdict.verify_s) / len(verdict.tokens)
        held = self._alone_s.get(mode, token_s)
        self._alone_s[mode] = held + GAIN * (token_s - held)

    def costs(self) -> RoundCosts:
        pass_s, node_s = self._pass.line()
        fixed_s = self.estimate.round_trip_s + pass_s
        return RoundCosts(
            fixed_s=max(1e-4, fixed_s), node_s=node_s + NODE_BYTES / self.estimate.rate, draft_s=self._draft_s or 1e-3
        )

    def plan(self, most: int) -> Plan:
        return plan(self.reach.curve(), self.costs(), most)

    def chance(self, confidence: float) -> float:
        return self._calibration.chance(confidence)

    def mode(self, most: int) -> Mode:
        """Until something was measured, the way that pays the round trip once."""
        if not self._pass.is_known:
            return self.router.mode
        pass_s, node_s = self._pass.line()
        guessed_s = server_s(self.reach.curve(), pass_s, node_s, SERVER_DRAFT_SHARE * pass_s, SERVER_LENGTH)
        return self.router.pick(
            {
                "split": self.plan(most).token_s,
                "stream": self._alone_s.get("stream", pass_s),
                "server": self._alone_s.get("server", guessed_s),
            }
        )


def _depth(parents: Sequence[int]) -> int:
    depths: list[int] = []
    for parent in parents:
        depths.append(1 + (depths[parent] if parent >= 0 else 0))
    return max(depths, default=0)
