"""The device's own guesses at a text: how far ahead, in what shape, and by whom.

Drafters run on another thread, a step at a time, so that a verdict is never waited out by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from splitrt.device.guess import Guess
from splitrt.device.pace import Pace
from splitrt.device.wish import LONGEST_DRAFT, Wish
from splitrt.language.draft import Draft, Drafter, ModelDrafter

LONGEST_GUESS = 64  # tokens that are not shown
PROBE = 16  # rounds of which one has a draft of a token where none pays: else nobody learnt that they pay again


class Thinking:
    """The guess behind the committed tokens, which the caller holds."""

    def __init__(self, drafter: Drafter, wish: Wish, pace: Pace) -> None:
        self.guess = Guess()
        self.has_idea = True  # False where the drafter has no guess at what comes next
        self._drafter, self._wish, self._pace = drafter, wish, pace

    def meets(self, token: int) -> bool:
        """The target's next token."""
        self.has_idea = True
        return self.guess.meets(token)

    async def draft(self, committed: Sequence[int], most: int, *, alone: bool) -> Draft:
        """The next round's, of at most `most` tokens in depth. alone: all that was guessed meanwhile goes into it."""
        if not alone and self._is_probe():
            if not len(self.guess):
                await self._step(committed)
            return self._of_guess(0, min(most, 1))
        if self._wish.branches > 1 and not alone and isinstance(self._drafter, ModelDrafter):
            return await self._tree(self._drafter, committed, most)
        if alone:
            wanted = min(most, self._wish.draft_tokens or 0)
            while len(self.guess) < wanted and await self._step(committed):
                pass
            return self._of_guess(0, most)
        while self._goes_on(0, most) and await self._step(committed):
            pass
        return self._of_guess(0, self._sent(0, most))

    def behind(self, drafted: int, most: int) -> Draft | None:
        """The draft behind one of `drafted` tokens and the token that the target then says itself, as guessed.

        None while it is worth drafting further, and where a second round in flight does not pay.
        """
        start = drafted + 1
        if len(self.guess) <= start or most < 1 or not self._is_paired:
            return None
        if self.has_idea and len(self.guess) < self._most_ahead and self._goes_on(start, most):
            return None
        return self._of_guess(start, self._sent(start, most))

    async def ahead(self, committed: Sequence[int], shown: int, room: int, *, alone: bool) -> bool:
        """One token more while a verdict is awaited: up to the next draft, or on and on where nobody answers.

        False where there is no room or no idea.
        """
        if alone:
            most = LONGEST_GUESS + shown
        elif self._wish.branches > 1:
            most = 0
        else:
            most = self._most_ahead
        return len(self.guess) < min(most, room) and await self._step(committed)

    @property
    def _most_ahead(self) -> int:
        """The draft under way, the target's own token behind it, and the next draft; none where none is sent."""
        fixed = self._wish.draft_tokens
        length = self._pace.plan(LONGEST_DRAFT).length if fixed is None else fixed
        return 2 * length + 1 if length else 0

    def _is_probe(self) -> bool:
        """Whether a draft that does not pay is due, to measure what drafts are worth by now."""
        if self._wish.draft_tokens is not None or self._pace.plan(LONGEST_DRAFT).length:
            return False
        self._pace.undrafted = (self._pace.undrafted + 1) % PROBE
        return not self._pace.undrafted

    @property
    def _is_paired(self) -> bool:
        if self._wish.branches > 1:
            return False
        in_flight = self._wish.in_flight
        return (self._pace.plan(LONGEST_DRAFT).in_flight if in_flight is None else in_flight) > 1

    def _goes_on(self, start: int, most: int) -> bool:
        """Whether a draft that begins with the guess's token `start` is worth a further token."""
        made, fixed = len(self.guess) - start, self._wish.draft_tokens
        if made >= min(most, LONGEST_DRAFT if fixed is None else fixed):
            return False
        chances = self._pace.chances(self.guess.confidences[start:])
        return fixed is not None or self._pace.plan(LONGEST_DRAFT).goes_on(chances)

    def _sent(self, start: int, most: int) -> int:
        """How much of the guess from `start` on is worth sending."""
        if (fixed := self._wish.draft_tokens) is not None:
            return min(most, fixed)
        chances = self._pace.chances(self.guess.confidences[start : start + min(most, LONGEST_DRAFT)])
        return self._pace.plan(LONGEST_DRAFT).sent(chances)

    def _of_guess(self, start: int, tokens: int) -> Draft:
        chosen = slice(start, start + tokens)
        ids = tuple(self.guess.ids[chosen])
        return Draft(ids, tuple(range(-1, len(ids) - 1)), tuple(self.guess.confidences[chosen]))

    async def _tree(self, drafter: ModelDrafter, committed: Sequence[int], most: int) -> Draft:
        fixed = self._wish.draft_tokens
        depth = min(most, self._pace.plan(LONGEST_DRAFT).length if fixed is None else fixed)
        if depth < 1:
            return Draft()
        branches = self._wish.branches
        nodes = min(branches * depth, most)
        sampling = self._wish.sampling
        return await asyncio.to_thread(drafter.tree, committed, sampling, nodes=nodes, breadth=branches, depth=depth)

    async def _step(self, committed: Sequence[int]) -> bool:
        if not self.has_idea:
            return False
        clock = asyncio.get_running_loop().time
        started_at = clock()
        step = await asyncio.to_thread(self._drafter.step, [*committed, *self.guess.ids], self._wish.sampling)
        if step is None:
            self.has_idea = False
            return False
        self._pace.drafted(clock() - started_at)
        self.guess.append(*step)
        return True
