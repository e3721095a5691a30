"""Rounds with the server: what was asked and is not answered, and how much of the text it holds.

One round is under way, and perhaps a second, sent in the hope that the first is accepted whole and that the token
behind it is the one guessed. A hope that fails costs its bytes: the server finds another prefix, and makes no pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from splitrt.device.events import Statistics
from splitrt.device.verifier_link import VerifierLink
from splitrt.language.draft import Draft
from splitrt.language.prefix import prefix_hash
from splitrt.policy.modes import Mode
from splitrt.rpc.rounds import Round, Verdict, check_verdict


@dataclass(slots=True)
class Asked:
    round: Round
    at: float
    sent_bytes: int
    confidences: tuple[float, ...]
    mode: Mode
    left: int  # tokens that the server goes on to say alone
    is_answered: bool = False


class Exchange:
    def __init__(self, link: VerifierLink, vocabulary: int, statistics: Statistics) -> None:
        self.asked: Asked | None = None
        self.hoped: Asked | None = None
        self.connection = 0  # the one that what was asked and held is of; 0 before the first
        self._link, self._vocabulary, self._statistics = link, vocabulary, statistics
        self._early: Verdict | None = None  # on the hope, while the round before it waits
        self._held = 0  # committed tokens that the server holds
        self._rounds = 0

    def see_connection(self, committed: Sequence[int]) -> None:
        """Another connection than the one asked over has forgotten the rounds. Raises the server's refusal."""
        if (refusal := self._link.refusal) is not None:
            raise refusal
        opened = self._link.opened
        if opened is None:
            self.forget()
        elif self._link.connections != self.connection:
            self.forget()
            self.connection = self._link.connections
            held = min(opened.held, len(committed))
            is_same = opened.held == held and prefix_hash(committed[:held]) == opened.held_hash
            self._held = held if is_same else 0

    def ask(
        self,
        committed: Sequence[int],
        draft: Draft,
        mode: Mode = "split",
        *,
        more: int = 0,
        drafted: int = 0,
        stated: int = 0,
    ) -> None:
        """more: tokens that the server then goes on to say alone, by drafts of `drafted`; stated: first tokens whose
        states are here.
        """
        self.forget()
        start = min(self._held, len(committed))
        self.asked = self._send(committed, start, draft, mode, more=more, drafted=drafted, stated=stated)
        self._count(self.asked)

    def hope(self, committed: Sequence[int], draft: Draft, *, stated: int = 0) -> None:
        """committed: as it will be, if the round under way fares as hoped; the server then holds all of it."""
        self.hoped = self._send(committed, len(committed), draft, "split", stated=stated)
        self._statistics.hopes += 1

    def forget(self) -> None:
        """No verdict is waited for."""
        self.asked = self.hoped = self._early = None

    def take(self, base: int) -> Verdict | None:
        """The next verdict on what was asked, behind `base` tokens. Raises its error, or InvalidInput."""
        while (verdict := self._next()) is not None:
            if self.hoped is not None and verdict.round == self.hoped.round.round:
                self._early = verdict  # it overtook the one before
                continue
            asked = self.asked
            if asked is None or verdict.round != asked.round.round or verdict.base != base:
                self._statistics.strays += 1
                continue
            check_verdict(verdict, asked.round, self._vocabulary)
            if verdict.error is not None:
                raise verdict.error
            if verdict.need_prefix:
                self.forget()
                self._held = 0
                self._statistics.replays += 1
                continue
            self._held = base + len(verdict.path) + len(verdict.tokens)
            return verdict
        return None

    def settle(self, committed: Sequence[int]) -> None:
        """A verdict is committed. Where nothing more is asked, what was hoped is asked now, or has failed."""
        self._held = min(self._held, len(committed))
        if self.asked is not None:
            return
        hoped, self.hoped = self.hoped, None
        if hoped is not None and hoped.round.base == len(committed) and hoped.round.base_hash == prefix_hash(committed):
            self.asked = hoped
            self._statistics.hopes_met += 1
            self._count(hoped)
        else:
            self._early = None

    def _next(self) -> Verdict | None:
        early, asked = self._early, self.asked
        if early is not None and asked is not None and early.round == asked.round.round:
            self._early = None
            return early
        return self._link.take()

    def _send(
        self,
        committed: Sequence[int],
        start: int,
        draft: Draft,
        mode: Mode,
        *,
        more: int = 0,
        drafted: int = 0,
        stated: int = 0,
    ) -> Asked:
        self._rounds += 1
        one = Round(
            round=self._rounds,
            base=len(committed),
            base_hash=prefix_hash(committed),
            start=start,
            prefix=tuple(committed[start:]),
            ids=draft.ids,
            parents=draft.parents,
            more=more,
            drafted=drafted,
            stated=stated,
        )
        sent_bytes = self._link.send(one)
        at = asyncio.get_running_loop().time()
        return Asked(one, at, sent_bytes, draft.confidences if draft.is_chain else (), mode, more)

    def _count(self, asked: Asked) -> None:
        statistics, one = self._statistics, asked.round
        statistics.rounds += 1
        statistics.rounds_by_mode[asked.mode] = statistics.rounds_by_mode.get(asked.mode, 0) + 1
        statistics.drafted += len(one.ids)
        if len(one.prefix) <= 1:
            statistics.draft_bytes += asked.sent_bytes
