"""A decoder and the tokens whose keys its cache holds.

One rule serves rollback, resumption, disconnection and further turns: find the longest common prefix of what is held
and what is wanted, crop to it, read the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from splitrt.language.decoder import Decoder


class Context:
    """One sequence of one decoder. Not for two threads at once."""

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.cache = model.cache()
        self.tokens: list[int] = []  # those that the cache holds

    def read_up_to(self, tokens: Sequence[int]) -> None:
        """Hold exactly these tokens."""
        shared = common(self.tokens, tokens)
        self.cache.crop(shared)
        del self.tokens[shared:]
        rest = list(tokens[shared:])
        if rest:
            self.model.read(rest, self.cache, skip=len(rest))
            self.tokens += rest

    def look(self, tokens: Sequence[int], ids: Sequence[int] = (), parents: Sequence[int] = ()) -> Tensor:
        """logits_TV after `tokens` and after each node of a draft behind them (1 + nodes rows). The nodes stay in the
        cache until `keep`. parents: -1 for a node that follows `tokens` directly.
        """
        self.read_up_to(tokens[:-1])
        feed, before = [tokens[-1], *ids], [-1, *(parent + 1 for parent in parents)]
        logits_TV = self.model.read(feed, self.cache, before)
        self.tokens.append(tokens[-1])  # the nodes lie behind it, and are cropped by whatever comes but `keep`
        return logits_TV

    def keep(self, length: int, path: Sequence[int], ids: Sequence[int]) -> None:
        """After `look` at `length` tokens: of the draft's nodes only those of an accepted path stay."""
        self.cache.gather(length, path)
        self.tokens[length:] = [ids[node] for node in path]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
