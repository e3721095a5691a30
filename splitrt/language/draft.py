"""Drafters: cheap guesses at what the target will say. Whatever they guess, the text is the target's.

Shape letters: V vocabulary.
Dynamic trees: Li et al. (EAGLE-2), EMNLP 2024, arXiv:2406.16858. Prompt lookup: Saxena, 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from splitrt.language.context import Context
from splitrt.language.model import Model
from splitrt.language.noise import gumbel
from splitrt.language.sampling import Sampling, warp


@dataclass(frozen=True, slots=True)
class Draft:
    """Nodes, parents first. `parents`: -1 for what follows the committed tokens."""

    ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()  # the drafter's own probability of each, given its path

    @property
    def is_chain(self) -> bool:
        return self.parents == tuple(range(-1, len(self.ids) - 1))


class Drafter(Protocol):
    """`sampling` says how the target will choose: a draft made with the same noise is met more often."""

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        """The next token and its probability; None: no guess."""
        ...


def chain(
    drafter: Drafter, tokens: Sequence[int], sampling: Sampling, most: int, least_confidence: float = 0.0
) -> Draft:
    """Up to `most` tokens, one after the other, while the product of confidences is above a bound."""
    ids: list[int] = []
    confidences: list[float] = []
    product = 1.0
    while len(ids) < most and (guess := drafter.step([*tokens, *ids], sampling)) is not None:
        product *= guess[1]
        if ids and product < least_confidence:
            break
        ids.append(guess[0])
        confidences.append(guess[1])
    return Draft(tuple(ids), tuple(range(-1, len(ids) - 1)), tuple(confidences))


class ModelDrafter:
    """A small decoder of the same vocabulary."""

    def __init__(self, model: Model) -> None:
        self._context = Context(model)
        self._window = model.config.context

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        if len(tokens) > self._window:
            return None
        logits_V = self._context.look(tokens)[0].cpu().numpy()
        log_q_V = warp(logits_V, tokens, sampling)
        noisy_V = log_q_V
        if sampling.temperature > 0:
            noisy_V = log_q_V + gumbel(sampling.seed, len(tokens), len(log_q_V))
        token = int(noisy_V.argmax())
        return token, float(np.exp(log_q_V[token]))

    def tree(self, tokens: Sequence[int], sampling: Sampling, *, nodes: int, breadth: int, depth: int) -> Draft:
        """The `nodes` likeliest of a tree grown level by level: at each the `breadth` best leaves get as many
        children. A child is never likelier than its parent, so what is kept has its ancestors.

        With noise, siblings are the top of log q + noise: draws without replacement, the first as in a chain.
        """
        depth = min(depth, self._window - len(tokens))
        ids: list[int] = []
        parents: list[int] = []
        scores: list[float] = []  # log of the product of confidences down to the node
        frontier = [-1]
        for _ in range(depth):
            logits_TV = self._context.look(tokens, ids, parents).cpu().numpy()
            grown: list[int] = []
            for leaf in frontier:
                path = _path(leaf, parents)
                prefix = [*tokens, *(ids[node] for node in path)]
                log_q_V = warp(logits_TV[leaf + 1], prefix, sampling)
                order_V = log_q_V
                if sampling.temperature > 0:
                    order_V = log_q_V + gumbel(sampling.seed, len(prefix), len(log_q_V))
                for token in np.argsort(-order_V, kind="stable")[:breadth]:
                    if log_q_V[token] == -np.inf:
                        break
                    ids.append(int(token))
                    parents.append(leaf)
                    scores.append((scores[leaf] if leaf >= 0 else 0.0) + float(log_q_V[token]))
                    grown.append(len(ids) - 1)
            frontier = sorted(grown, key=lambda node: -scores[node])[:breadth]
        kept = sorted(sorted(range(len(ids)), key=lambda node: (-scores[node], node))[:nodes])
        place = {-1: -1} | {node: index for index, node in enumerate(kept)}
        above = {node: scores[node] - (scores[parents[node]] if parents[node] >= 0 else 0.0) for node in kept}
        return Draft(
            tuple(ids[node] for node in kept),
            tuple(place[parents[node]] for node in kept),
            tuple(float(np.exp(above[node])) for node in kept),
        )


class PromptLookup:
    """What stood after the last earlier occurrence of the latest tokens: no model, good where texts repeat."""

    CONFIDENCE = 0.5

    def __init__(self, longest: int = 4) -> None:
        self._longest = longest

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        for length in range(min(self._longest, len(tokens) - 1), 0, -1):
            tail = list(tokens[-length:])
            for start in range(len(tokens) - length - 1, -1, -1):
                if list(tokens[start : start + length]) == tail:
                    return tokens[start + length], self.CONFIDENCE
        return None


def _path(node: int, parents: Sequence[int]) -> list[int]:
    path: list[int] = []
    while node >= 0:
        path.append(node)
        node = parents[node]
    return path[::-1]
