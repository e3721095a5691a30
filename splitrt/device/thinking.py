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
        if self._wish.branches > 1 and not alone and isinstance(self._drafter, ModelDrafter):
            return await self._tree(self._drafter, committed, most)
        while self._goes_on(most, alone=alone) and await self._step(committed):
            pass
        ids = self.guess.ids[: self._sent(most, alone=alone)]
        return Draft(tuple(ids), tuple(range(-1, len(ids) - 1)), tuple(self.guess.confidences[: len(ids)]))

    async def ahead(self, committed: Sequence[int], shown: int, room: int, *, alone: bool) -> bool:
        """One token more while a verdict is awaited: up to the next draft, or on and on where nobody answers.

        False where there is no room or no idea.
        """
        if alone:
            most = LONGEST_GUESS + shown
        elif self._wish.branches > 1:
            most = 0
        else:
            wanted = self._wish.draft_tokens
            length = self._pace.plan(LONGEST_DRAFT).length if wanted is None else wanted
            most = 2 * length + 1  # the draft under way, the target's own token behind it, and the next draft
        return len(self.guess) < min(most, room) and await self._step(committed)

    def _goes_on(self, most: int, *, alone: bool) -> bool:
        """Whether the next round's draft is worth a further token."""
        fixed = self._wish.draft_tokens
        if alone or fixed is not None:
            return len(self.guess) < min(most, fixed or 0)
        if len(self.guess) >= min(most, LONGEST_DRAFT):
            return False
        return self._pace.plan(LONGEST_DRAFT).goes_on(self._pace.chances(self.guess.confidences))

    def _sent(self, most: int, *, alone: bool) -> int:
        """How much of the guess goes into the next round."""
        fixed = self._wish.draft_tokens
        if alone:
            return most
        if fixed is not None:
            return min(most, fixed)
        chances = self._pace.chances(self.guess.confidences[: min(most, LONGEST_DRAFT)])
        return self._pace.plan(LONGEST_DRAFT).sent(chances)

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
