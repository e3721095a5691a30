"""A decoder and the tokens whose keys its cache holds.

One rule serves rollback, resumption, disconnection and further turns: find the longest common prefix of what is held
and what is wanted, crop to it, read the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from splitrt.language.model import Model
from splitrt.language.prefix import common
from splitrt.language.rows import Reading

PIECE = 128  # tokens of a text that are read at once


class Context:
    """One sequence of one decoder. Not for two threads at once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.cache = model.cache()
        self.tokens: list[int] = []  # those that the cache holds

    def look(self, tokens: Sequence[int], ids: Sequence[int] = (), parents: Sequence[int] = ()) -> Tensor:
        """logits_TV after `tokens` and after each node of a draft behind them (1 + nodes rows). The nodes stay in the
        cache until `keep`. parents: -1 for a node that follows `tokens` directly.
        """
        while True:
            reading, is_last = self.next_reading(tokens, ids, parents)
            (logits_TV,) = self.model.read_many([reading])
            if is_last:
                return logits_TV

    def next_reading(
        self, tokens: Sequence[int], ids: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> tuple[Reading, bool]:
        """What to read next for `look`, and whether it is all: long texts are read in pieces, between which others may
        be served. The caller must read it; what is not read is a defect.
        """
        shared = min(common(self.tokens, tokens), len(tokens) - 1)
        self.cache.crop(shared)
        rest = list(tokens[shared:-1])
        if len(rest) > PIECE:
            self.tokens = list(tokens[: shared + PIECE])
            return Reading(rest[:PIECE], self.cache, None, PIECE), False
        self.tokens = list(tokens)  # a draft's nodes lie behind, and are cropped by whatever comes but `keep`
        before = [*range(-1, len(rest)), *(parent + len(rest) + 1 if parent >= 0 else len(rest) for parent in parents)]
        return Reading([*rest, tokens[-1], *ids], self.cache, before, len(rest)), True

    def borrow(self, other: Context, tokens: Sequence[int]) -> None:
        """Take over what another context holds of these tokens: the same rows, to the last bit, as if read here."""
        shared = common(other.tokens, tokens)
        self.cache.copy(other.cache, shared)
        self.tokens = list(tokens[:shared])

    def forget(self) -> None:
        self.cache.crop(0)
        self.tokens = []

    def keep(self, length: int, path: Sequence[int], ids: Sequence[int]) -> None:
        """After `look` at `length` tokens: of the draft's nodes only those of an accepted path stay."""
        self.cache.gather(length, path)
        self.tokens[length:] = [ids[node] for node in path]
