"""Keys and values of the tokens that a decoder has read: append, crop, gather.

Shape letters: S slots, R rows, K key/value heads, E head dimension.
Keys lie here already turned by their position, so rows of a tree can be moved without turning them again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from splitrt.errors import InvalidInput

FIRST_SLOTS = 64


class Cache:
    """One sequence's; slots 0 .. length-1 are filled. Grows by doubling, never shrinks its memory."""

    def __init__(self, layers: int, heads: int, head_dim: int, device: torch.device) -> None:
        self.length = 0
        self.keys = [torch.zeros(FIRST_SLOTS, heads, head_dim, device=device) for _ in range(layers)]
        self.values = [torch.zeros(FIRST_SLOTS, heads, head_dim, device=device) for _ in range(layers)]

    @property
    def held_bytes(self) -> int:
        return 2 * sum(k_SKE.numel() * k_SKE.element_size() for k_SKE in self.keys)

    def append(self, rows: int) -> slice:
        """Room for so many more; every layer writes its own there."""
        start, self.length = self.length, self.length + rows
        have = len(self.keys[0])
        if self.length > have:
            more = max(self.length, 2 * have) - have
            self.keys = [_grown(k_SKE, more) for k_SKE in self.keys]
            self.values = [_grown(v_SKE, more) for v_SKE in self.values]
        return slice(start, self.length)

    def crop(self, length: int) -> None:
        """Forget all slots from `length` on. Raises InvalidInput for more than there are."""
        if not 0 <= length <= self.length:
            raise InvalidInput(f"a cache of {self.length} tokens must be cropped to at most that, got {length}")
        self.length = length

    def copy(self, other: Cache, length: int) -> None:
        """Hold what another holds of its first tokens."""
        self.crop(0)
        slots = self.append(length)
        for mine_SKE, theirs_SKE in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            mine_SKE[slots] = theirs_SKE[:length]

    def gather(self, start: int, rows: Sequence[int]) -> None:
        """Keep of the slots from `start` on those that lie `rows` behind it, in this order; forget the others."""
        if any(not 0 <= row < self.length - start for row in rows):
            raise InvalidInput(f"rows must lie in the {self.length - start} slots from {start} on, got {list(rows)}")
        if list(rows) != [*range(len(rows))]:
            source = torch.tensor([start + row for row in rows], device=self.keys[0].device)
            for tensor_SKE in (*self.keys, *self.values):
                tensor_SKE[start : start + len(rows)] = tensor_SKE[source]
        self.length = start + len(rows)


def _grown(tensor_SKE: Tensor, more: int) -> Tensor:
    return torch.cat([tensor_SKE, tensor_SKE.new_zeros(more, *tensor_SKE.shape[1:])])
