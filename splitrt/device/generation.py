"""One text: the device drafts, the server verifies, and what is committed is the target's own word.

    committed ──┬── guess: what the drafter says comes next; its first part is the round under way
                │      shown ──────┤   while the server does not answer, provisional
                └── verdict: accepted tokens and one of the target's own; the guess lives on where they agree

The drafter is never idle while a verdict is awaited: the guess grows behind the round, and when the round is accepted
whole and its last token guessed too, the next round is ready.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from splitrt.device.events import Confirm, Done, Event, Link, Retract, Statistics, Token
from splitrt.device.verifier_link import VerifierLink
from splitrt.errors import InvalidInput, LinkLost
from splitrt.language.bundle import LanguageBundle
from splitrt.language.draft import Draft, Drafter
from splitrt.language.prefix import prefix_hash
from splitrt.language.sampling import Sampling
from splitrt.language.text import Stop, Text
from splitrt.language.tokens import Tokenizer
from splitrt.policy.patience import Patience
from splitrt.rpc.speculation import SESSION_BYTES, Opening, Round, Verdict, check_verdict

Offline = Literal["verify", "keep", "hold"]
OFFLINE = ("verify", "keep", "hold")
LONGEST_GUESS = 64  # tokens that are not shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the caller asked for. offline: what becomes of tokens said while the server could not be asked."""

    prompt: tuple[int, ...]
    vocabulary: int
    sampling: Sampling
    stop: Stop
    offline: Offline = "verify"
    draft_tokens: int = 4
    patience_s: float | None = None  # None: learnt from the rounds

    def __post_init__(self) -> None:
        if self.offline not in OFFLINE:
            raise InvalidInput(f"offline must be one of {', '.join(OFFLINE)}, got {self.offline!r}")
        if not self.prompt:
            raise InvalidInput("a prompt must be at least one token, got none")
        if not 0 <= self.draft_tokens <= LONGEST_GUESS:
            raise InvalidInput(f"draft_tokens must be 0 to {LONGEST_GUESS}, got {self.draft_tokens}")


@dataclass(slots=True)
class _Asked:
    round: Round
    at: float
    left: int  # tokens that the server goes on to say alone


class Generation:
    def __init__(
        self,
        bundle: LanguageBundle,
        tokenizer: Tokenizer,
        drafter: Drafter,
        wish: Wish,
        open_link: Callable[[Opening], VerifierLink],
        connect_timeout_s: float = 3.0,
    ) -> None:
        """Raises InvalidInput where the prompt fills the context."""
        self._wish, self._drafter = wish, drafter
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
        )
        self._link = open_link(opening)
        self._connect_timeout_s = connect_timeout_s
        self._patience = Patience(wish.patience_s)
        self._text = Text(tokenizer, wish.prompt, wish.stop)
        self._committed = list(wish.prompt)
        self._guess: list[int] = []
        self._shown = 0  # of the guess
        self._held = 0  # committed tokens that the server holds
        self._asked: _Asked | None = None
        self._rounds = 0
        self._connection = 0  # the one that what was asked and held is of
        self._alone = False
        self._dumb = False  # the drafter has no guess at what comes next
        self._heard_at = 0.0  # when the last verdict came
        self.statistics = Statistics()

    async def events(self) -> AsyncIterator[Event]:
        """Raises the server's refusal, or LinkLost where it was never reached and the drafter may not go on alone."""
        clock = asyncio.get_running_loop().time
        self._heard_at = started_at = clock()
        async with self._link:
            while not self._is_over():
                self._link.settle()
                self._see_connection()
                for event in self._take():
                    if isinstance(event, Token) and self.statistics.first_token_s is None:
                        self.statistics.first_token_s = clock() - started_at
                    yield event
                if self._is_over():
                    break
                if self._asked is None and self._link.opened is not None:
                    for event in self._keep():
                        yield event
                    if self._is_over():
                        break
                    await self._ask()
                late_in_s = self._heard_at + self._patience.bound_s - clock()
                if late_in_s <= 0 and not self._alone:
                    self._alone = True
                    yield Link("alone")
                if self._alone:
                    for event in self._say():
                        yield event
                if not self._link.is_stirred and not await self._think():
                    if not self._connection and clock() > started_at + self._connect_timeout_s:
                        raise self._link.last_error or LinkLost("no server was reached")
                    waits_from = clock()
                    await self._link.wait(self._connect_timeout_s if self._alone else max(0.0, late_in_s))
                    self.statistics.stalled_s += clock() - waits_from
            for event in self._keep():
                yield event
        self.statistics.seconds = clock() - started_at
        self.statistics.connections = self._link.connections
        self.statistics.up_bytes, self.statistics.down_bytes = self._link.up_bytes, self._link.down_bytes
        yield Done(self._text.shown, tuple(self._text.tokens), self._text.reason or "length", self.statistics)

    def _is_over(self) -> bool:
        if self._wish.offline == "keep" and self._alone and self._text.reason is not None:
            return True
        has_ended = self._text.reason is not None or len(self._committed) >= self._context
        return self._shown == 0 and has_ended

    def _see_connection(self) -> None:
        """A connection that is another than the one asked over has forgotten the round."""
        if (refusal := self._link.refusal) is not None:
            raise refusal
        opened = self._link.opened
        if opened is None:
            self._asked = None
        elif self._link.connections != self._connection:
            self._connection, self._asked = self._link.connections, None
            held = min(opened.held, len(self._committed))
            is_same = opened.held == held and prefix_hash(self._committed[:held]) == opened.held_hash
            self._held = held if is_same else 0

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self) -> None:
        """Draft, and send the round."""
        assert self._link.opened is not None
        room = min(self._context, self._link.opened.context) - len(self._committed) - 1
        left = self._wish.stop.max_tokens - (len(self._committed) - len(self._wish.prompt)) - 1
        most = min(room, max(left, self._shown), self._link.opened.max_nodes)
        wanted = max(self._wish.draft_tokens, len(self._guess) if self._alone else 0)
        while len(self._guess) < min(wanted, most) and await self._think():
            pass
        draft = _chain(self._guess[: min(wanted, most)])
        self._send(draft)

    def _send(self, draft: Draft, start: int | None = None) -> None:
        base, self._rounds = len(self._committed), self._rounds + 1
        start = min(self._held, base) if start is None else start
        one = Round(
            round=self._rounds,
            base=base,
            base_hash=prefix_hash(self._committed),
            start=start,
            prefix=tuple(self._committed[start:]),
            ids=draft.ids,
            parents=draft.parents,
        )
        self._asked = _Asked(one, asyncio.get_running_loop().time(), one.more)
        sent_bytes = self._link.send(one)
        statistics = self.statistics
        statistics.rounds += 1
        statistics.drafted += len(draft.ids)
        if base - start <= 1:
            statistics.draft_bytes += sent_bytes

    async def _think(self) -> bool:
        """One more token of the guess; False where there is no room or no idea."""
        most = self._shown + (LONGEST_GUESS if self._alone else 2 * self._wish.draft_tokens)
        room = self._context - len(self._committed) - 1
        if self._dumb or len(self._guess) >= min(most, room):
            return False
        tokens = [*self._committed, *self._guess]
        step = await asyncio.to_thread(self._drafter.step, tokens, self._wish.sampling)
        if step is None:
            self._dumb = True
            return False
        self._guess.append(step[0])
        return True

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────

    def _take(self) -> Iterator[Event]:
        while (verdict := self._link.take()) is not None:
            asked = self._asked
            base = asked.round.base if asked else -1
            if asked is None or verdict.round != asked.round.round or verdict.base < base:
                self.statistics.strays += 1
                continue
            check_verdict(verdict, asked.round, self._wish.vocabulary)
            if verdict.error is not None:
                raise verdict.error
            if verdict.need_prefix:
                self._held = 0
                self.statistics.replays += 1
                self._send(Draft(asked.round.ids, asked.round.parents), start=0)
                continue
            self._heard_at = asyncio.get_running_loop().time()
            self._patience.answered(self._heard_at - asked.at)
            yield from self._hear(verdict, asked)

    def _hear(self, verdict: Verdict, asked: _Asked) -> Iterator[Event]:
        said = [*(asked.round.ids[node] for node in verdict.path), *verdict.tokens]
        self._asked = None
        self._held = len(self._committed) + len(said)
        statistics = self.statistics
        statistics.server_s += verdict.queue_s + verdict.verify_s
        statistics.accepted += len(verdict.path)
        for counts, depth in (
            (statistics.drafted_by_depth, len(asked.round.ids)),
            (statistics.accepted_by_depth, len(verdict.path)),
        ):
            counts.extend([0] * (depth - len(counts)))
            for place in range(depth):
                counts[place] += 1
        if self._alone:
            self._alone = False
            yield Link("up")
        if self._wish.offline == "keep" and self._shown:
            yield from self._keep()
        else:
            yield from self._commit(said)

    def _commit(self, said: list[int]) -> Iterator[Event]:
        """The target's own tokens, against what the device has said alone."""
        confirmed = 0
        for token in said:
            if self._shown == 0 and (self._text.reason is not None or len(self._committed) >= self._context):
                break
            agrees = bool(self._guess) and self._guess[0] == token
            if self._shown and agrees:
                self._shown -= 1
                confirmed += 1
            elif self._shown:
                if confirmed:
                    yield Confirm(confirmed)
                    confirmed = 0
                yield self._retract()
            self._guess = self._guess[1:] if agrees else []
            self._dumb = False
            self._committed.append(token)
            self.statistics.tokens += 1
            if len(self._text.tokens) < len(self._committed) - len(self._wish.prompt):
                yield Token(token, self._text.push(token))
        if confirmed:
            yield Confirm(confirmed)

    def _retract(self) -> Retract:
        kept = len(self._committed) - len(self._wish.prompt)
        tokens, self._shown = self._shown, 0
        self.statistics.retracted += tokens
        return Retract(tokens, self._text.retract(kept))

    # ── alone ───────────────────────────────────────────────────────────────────────────────────────

    def _say(self) -> Iterator[Event]:
        """Show of the guess what is not shown yet."""
        if self._wish.offline == "hold":
            return
        while self._shown < len(self._guess) and self._text.reason is None:
            token = self._guess[self._shown]
            self._shown += 1
            self.statistics.provisional += 1
            yield Token(token, self._text.push(token), provisional=True)

    def _keep(self) -> Iterator[Event]:
        """Under `keep`, what was said alone becomes the text's own."""
        if self._wish.offline != "keep" or not self._shown:
            return
        kept = self._guess[: self._shown]
        self._held = min(self._held, len(self._committed))
        self._committed += kept
        self._guess, self._shown = self._guess[self._shown :], 0
        self.statistics.kept += len(kept)
        self.statistics.tokens += len(kept)
        yield Confirm(len(kept), kept=True)


def _chain(ids: list[int]) -> Draft:
    return Draft(tuple(ids), tuple(range(-1, len(ids) - 1)))
