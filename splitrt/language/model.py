"""What a target or a drafter must do to be served: read tokens behind a cache of its own, and say what comes next.

Ours (`decoder`) and those of `transformers` that pass a test of theirs (`adapter`) do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from splitrt.language.cache import Cache
from splitrt.language.rows import Reading


class Sizes(Protocol):
    @property
    def vocabulary(self) -> int: ...

    @property
    def context(self) -> int: ...


class Model(Protocol):
    """Frozen: sequences' state is in their caches."""

    @property
    def config(self) -> Sizes: ...

    def cache(self) -> Cache: ...

    def read(self, ids: Sequence[int], cache: Cache, parents: Sequence[int] | None = None, skip: int = 0) -> Tensor:
        """logits_TV of tokens appended to a cache: see `Reading`."""
        ...

    def read_many(self, readings: Sequence[Reading]) -> list[Tensor]:
        """Of several caches. Raises InvalidInput, before any has changed, on what cannot be read."""
        ...


def row_difference(model: Model, tokens: int = 40) -> float:
    """Largest difference between logits of tokens read one at a time, in chunks and as a tree of two branches: 0.0
    where a row's result does not depend on the rows beside it on this machine.
    """
    tokens = min(tokens, model.config.context - 1)
    ids = [(7 * place + place * place) % model.config.vocabulary for place in range(tokens)]
    alone, together = model.cache(), model.cache()
    one_TV = torch.cat([model.read([one], alone) for one in ids])
    half = tokens // 2
    chunk_TV = model.read(ids[:half], together)
    tail = ids[half:]
    doubled = [one for one in tail for _ in range(2)]  # a branch of every other node, each followed by its own
    parents = [max(-1, node - 2) if node > 1 else -1 for node in range(len(doubled))]
    tree_TV = model.read(doubled, together, parents)
    differences = [chunk_TV - one_TV[:half], tree_TV[0::2] - one_TV[half:], tree_TV[1::2] - one_TV[half:]]
    return max(float(difference.abs().max()) for difference in differences if len(difference))
