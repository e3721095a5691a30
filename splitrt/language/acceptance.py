"""How many tokens a round says: rounds of a fixed length as server and device play them, without a link between.

States go through their bytes, and are had of verified tokens only, as over the link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitrt.language.context import Context
from splitrt.language.draft import Drafter, chain
from splitrt.language.moa import MoaDrafter
from splitrt.language.model import Model
from splitrt.language.sampling import Sampling
from splitrt.language.states import StateMaker
from splitrt.language.target import verify


@dataclass(frozen=True, slots=True)
class Played:
    tokens: int
    rounds: int

    def __add__(self, other: Played) -> Played:
        return Played(self.tokens + other.tokens, self.rounds + other.rounds)

    @property
    def tokens_per_round(self) -> float:
        return self.tokens / self.rounds


def play(
    target: Model,
    drafter: Drafter,
    prompt: Sequence[int],
    sampling: Sampling,
    tokens: int,
    drafted: int,
    maker: StateMaker | None = None,
) -> Played:
    """Say at least `tokens` behind a prompt, by drafts of `drafted`. maker: gives a drafter its states."""
    context, said, rounds = Context(target), list(prompt), 0
    while len(said) < len(prompt) + tokens:
        draft = chain(drafter, said, sampling, min(drafted, target.config.context - len(said) - 1))
        logits_TV = context.look(said, draft.ids, draft.parents)
        verified = verify(context, logits_TV, said, draft.ids, draft.parents, sampling)
        said += [*(draft.ids[node] for node in verified.path), verified.token]
        rounds += 1
        if maker is not None and isinstance(drafter, MoaDrafter):
            end = context.cache.length
            start = max(drafter.stated, end - maker.config.window)
            drafter.hear(end, maker.make(context.cache, start, end))
    return Played(len(said) - len(prompt), rounds)
