"""One text: the device drafts, the server verifies, and what is committed is the target's own word.

    committed ──┬── guess: what the drafter says comes next; its first part is the round under way
                │      shown ──────┤   while the server does not answer, provisional
                └── verdict: accepted tokens and one of the target's own; the guess lives on where they agree

The drafter is never idle while a verdict is awaited: the guess grows behind the round, and when the round is accepted
whole and its last token guessed too, the next round is ready, or sent already.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator

from splitrt.device.events import Done, Event, Link, Statistics, Token
from splitrt.device.exchange import Asked, Exchange
from splitrt.device.pace import Pace
from splitrt.device.said import Said
from splitrt.device.thinking import Thinking
from splitrt.device.verifier_link import VerifierLink
from splitrt.device.wish import LONGEST_DRAFT, Wish
from splitrt.errors import InvalidInput, LinkLost
from splitrt.language.bundle import LanguageBundle
from splitrt.language.draft import Draft, Drafter
from splitrt.language.moa import MoaDrafter
from splitrt.language.text import Text
from splitrt.language.tokens import Tokenizer
from splitrt.policy.patience import Patience
from splitrt.rpc.rounds import SESSION_BYTES, Opening, Verdict

RECONSIDER = 16  # tokens that the server says alone before its way is compared with others again


class Generation:
    def __init__(
        self,
        bundle: LanguageBundle,
        tokenizer: Tokenizer,
        drafter: Drafter,
        wish: Wish,
        open_link: Callable[[Opening], VerifierLink],
        connect_timeout_s: float = 3.0,
        pace: Pace | None = None,
    ) -> None:
        """Raises InvalidInput where the prompt fills the context."""
        self._wish, self._pace = wish, pace or Pace()
        self._thinking = Thinking(drafter, wish, self._pace)
        self._moa = drafter if isinstance(drafter, MoaDrafter) else None  # sees states, which verdicts then carry
        self._context = bundle.manifest.context
        if len(wish.prompt) >= self._context:
            raise InvalidInput(f"a prompt must be below {self._context} tokens, got {len(wish.prompt)}")
        opening = Opening(
            bundle=bundle.manifest.name,
            version=bundle.manifest.version,
            bundle_digest=bundle.digest,
            tokenizer_digest=bundle.tokenizer_digest,
            vocabulary=wish.vocabulary,
            session=os.urandom(SESSION_BYTES),
            sampling=wish.sampling,
            ends=tuple(sorted(wish.stop.ends)),
            states=self._moa is not None,
        )
        self._link = open_link(opening)
        self.statistics = Statistics()
        self._exchange = Exchange(self._link, wish.vocabulary, self.statistics)
        self._connect_timeout_s = connect_timeout_s
        self._patience = Patience(wish.patience_s)
        text = Text(tokenizer, wish.prompt, wish.stop)
        self._said = Said(text, wish, self._context, self._thinking, self.statistics)
        self._alone = False
        self._heard_at = 0.0  # when the last verdict came, or what was asked after it was sent
        self._is_next = True  # what is asked next is the first since then

    async def events(self) -> AsyncIterator[Event]:
        """Raises the server's refusal, or LinkLost where it was never reached and the drafter may not go on alone."""
        clock = asyncio.get_running_loop().time
        self._heard_at = started_at = clock()
        async with self._link:
            while not self._said.is_over(alone=self._alone):
                self._link.settle()
                self._exchange.see_connection(self._said.committed)
                for event in self._take():
                    if isinstance(event, Token) and self.statistics.first_token_s is None:
                        self.statistics.first_token_s = clock() - started_at
                    yield event
                if self._said.is_over(alone=self._alone):
                    break
                if self._exchange.asked is None and self._link.opened is not None:
                    for event in self._keep():
                        yield event
                    if self._said.is_over(alone=self._alone):
                        break
                    await self._ask()
                    if self._is_next:  # the drafter's time, and that of who takes the events, is not the server's
                        self._heard_at, self._is_next = clock(), False
                late_in_s = self._heard_at + self._patience.bound_s - clock()
                if late_in_s <= 0 and not self._alone and not self._link.is_stirred:
                    self._alone = True
                    yield Link("alone")
                if self._alone:
                    for event in self._said.show():
                        yield event
                if not self._link.is_stirred and not await self._think():
                    if not self._exchange.connection and clock() > started_at + self._connect_timeout_s:
                        raise self._link.last_error or LinkLost("no server was reached")
                    waits_from = clock()
                    await self._link.wait(self._connect_timeout_s if self._alone else max(0.0, late_in_s))
                    self.statistics.stalled_s += clock() - waits_from
            for event in self._keep():
                yield event
        self.statistics.seconds = clock() - started_at
        self.statistics.connections = self._link.connections
        self.statistics.up_bytes, self.statistics.down_bytes = self._link.up_bytes, self._link.down_bytes
        text = self._said.text
        yield Done(text.shown, tuple(text.tokens), text.reason or "length", self.statistics)

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self) -> None:
        """Draft and send a round, or let the server go on alone."""
        assert self._link.opened is not None
        base, stated = len(self._said.committed), self._moa.stated if self._moa is not None else 0
        mode = self._pace.mode(LONGEST_DRAFT) if self._wish.mode == "auto" else self._wish.mode
        if mode != "split" and not self._alone:
            more = max(0, min(self._room(base), self._left(base)))
            drafted = self._pace.server_length if mode == "server" else 0
            self._exchange.ask(self._said.committed, Draft(), mode, more=more, drafted=drafted, stated=stated)
        else:
            most = min(self._room(base), max(self._left(base), self._said.shown), self._link.opened.max_nodes)
            draft = await self._thinking.draft(self._said.committed, most, alone=self._alone)
            self._exchange.ask(self._said.committed, draft, stated=stated)

    def _hope(self) -> None:
        """A second round, where it pays and its draft is made: as if the first will be accepted whole."""
        asked = self._exchange.asked
        if asked is None or asked.is_answered or self._exchange.hoped is not None or self._link.opened is None:
            return
        drafted = len(asked.round.ids)
        base = asked.round.base + drafted + 1
        most = min(self._room(base), self._left(base), self._link.opened.max_nodes)
        draft = self._thinking.behind(drafted, most)
        if draft is not None:
            hoped = [*self._said.committed, *self._thinking.guess.ids[: drafted + 1]]
            self._exchange.hope(hoped, draft, stated=base - 1 if self._moa is not None else 0)

    def _room(self, base: int) -> int:
        """Tokens of a draft behind `base` that the context has room for."""
        opened = self._link.opened
        context = self._context if opened is None else min(self._context, opened.context)
        return context - base - 1

    def _left(self, base: int) -> int:
        """Tokens that the text still wants, but for the one that the target says itself."""
        return self._wish.stop.max_tokens - (base - len(self._wish.prompt)) - 1

    async def _think(self) -> bool:
        asked = self._exchange.asked
        if not self._alone:
            if asked is not None and asked.mode != "split":
                return False
            self._hope()
        room = self._context - len(self._said.committed) - 1
        return await self._thinking.ahead(self._said.committed, self._said.shown, room, alone=self._alone)

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────

    def _take(self) -> Iterator[Event]:
        while (verdict := self._exchange.take(len(self._said.committed))) is not None:
            yield from self._hear(verdict)
            self._exchange.settle(self._said.committed)

    def _hear(self, verdict: Verdict) -> Iterator[Event]:
        asked = self._exchange.asked
        assert asked is not None
        said = [*(asked.round.ids[node] for node in verdict.path), *verdict.tokens]
        if self._learn(verdict, asked):
            self._exchange.asked = None
        if self._alone:
            self._alone = False
            yield Link("up")
        if self._wish.offline == "keep" and self._said.shown:
            self._exchange.forget()
            yield from self._keep()
        else:
            self._see_states(verdict)
            yield from self._said.commit(said)

    def _see_states(self, verdict: Verdict) -> None:
        """Of verified tokens, which are committed now."""
        if self._moa is not None and verdict.states:
            self._moa.hear(verdict.verified, verdict.states)
            self.statistics.state_bytes += len(verdict.states)

    def _learn(self, verdict: Verdict, asked: Asked) -> bool:
        """Whether what was asked is answered: nothing more is waited for."""
        statistics, self._heard_at, self._is_next = self.statistics, asyncio.get_running_loop().time(), True
        statistics.answered += 1
        statistics.server_s += verdict.queue_s + verdict.verify_s
        if asked.is_answered:
            self._pace.went_on(asked.round, verdict)
            before, asked.left = asked.left, asked.left - len(verdict.tokens)
            is_time = asked.left // RECONSIDER < before // RECONSIDER
            return asked.left <= 0 or (is_time and self._wish.mode == "auto" and self._other_way(asked))
        asked.is_answered = True
        self._patience.answered(self._heard_at - asked.at)
        self._pace.answered(asked.round, verdict, asked.confidences, asked.sent_bytes, asked.at, self._heard_at)
        statistics.verified(len(asked.round.ids), len(verdict.path))
        return asked.left <= 0

    def _other_way(self, asked: Asked) -> bool:
        return self._pace.mode(LONGEST_DRAFT, asked.left) != asked.mode

    def _keep(self) -> Iterator[Event]:
        """Under `keep`, what was said alone becomes the text's own: what the server holds beyond is another text."""
        self._exchange.settle(self._said.committed)
        yield from self._said.keep()
