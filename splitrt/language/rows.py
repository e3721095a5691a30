"""Which token sees which: rows of a decoder's tile, their positions, the slots of their keys.

Shape letters: R rows, L keys padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splitrt.errors import InvalidInput
from splitrt.language.cache import Cache

BLOCK = 32  # keys of a row are padded to a multiple


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Tokens to append to one cache.

    parents: for each token the index among `ids` of the one before it, -1 for what the cache holds; None is a chain.
    skip: so many first tokens whose logits nobody wants.
    """

    ids: Sequence[int]
    cache: Cache
    parents: Sequence[int] | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    reading: Reading
    token: int
    slot: int
    start: int  # tokens that the cache held before the reading
    path: list[int]  # its ancestors in the reading and itself
    is_wanted: bool

    @property
    def position(self) -> int:
        return self.start + len(self.path) - 1


def rows_of(reading: Reading, vocabulary: int, context: int) -> list[Row]:
    """Raises InvalidInput on ids or parents that cannot be, or where a position would lie beyond the context."""
    start, ids = reading.cache.length, reading.ids
    parents = range(-1, len(ids) - 1) if reading.parents is None else reading.parents
    paths = paths_of(parents, len(ids))
    if any(not 0 <= one < vocabulary for one in ids):
        raise InvalidInput(f"token ids must be below {vocabulary}, got {max(ids)} and {min(ids)}")
    deepest = start + max((len(path) for path in paths), default=0)
    if deepest > context:
        raise InvalidInput(f"a sequence must be at most {context} tokens here, got {deepest}")
    return [
        Row(reading, token, start + node, start, path, node >= reading.skip)
        for node, (token, path) in enumerate(zip(ids, paths, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a tile of one cache whose keys are padded to one length, and the slots of these by position."""

    cache: Cache
    rows: list[int]
    positions_R: Tensor
    slots_RL: Tensor


def groups_of(rows: Sequence[Row], device: torch.device) -> list[Group]:
    alike: dict[tuple[int, int], list[int]] = {}
    for number, row in enumerate(rows):
        length = -(-(row.position + 1) // BLOCK) * BLOCK
        alike.setdefault((id(row.reading), length), []).append(number)
    groups = []
    for (_, length), numbers in alike.items():
        some = [rows[number] for number in numbers]
        slots_RL = torch.zeros(len(some), length, dtype=torch.int64)
        slots_RL[:, : some[0].start] = torch.arange(some[0].start)
        for place, row in enumerate(some):
            slots_RL[place, row.start : row.position + 1] = row.start + torch.tensor(row.path)
        positions_R = torch.tensor([row.position for row in some])
        groups.append(Group(some[0].reading.cache, numbers, positions_R.to(device), slots_RL.to(device)))
    return groups


def stretches_of(rows: Sequence[Row]) -> list[tuple[Cache, slice, slice]]:
    """Neighbouring rows of one cache, and where their keys go: slots are neighbours too."""
    stretches: list[tuple[Cache, slice, slice]] = []
    first = 0
    for number in range(1, len(rows) + 1):
        if number == len(rows) or rows[number].reading is not rows[first].reading:
            slots = slice(rows[first].slot, rows[number - 1].slot + 1)
            stretches.append((rows[first].reading.cache, slice(first, number), slots))
            first = number
    return stretches


def paths_of(parents: Sequence[int], nodes: int) -> list[list[int]]:
    """Each node's ancestors and itself, from the root down. Raises InvalidInput on orphans and cycles: a parent must
    come before its child, or be -1.
    """
    if len(parents) != nodes:
        raise InvalidInput(f"a tree of {nodes} nodes must have as many parents, got {len(parents)}")
    paths: list[list[int]] = []
    for node, parent in enumerate(parents):
        if not -1 <= parent < node:
            raise InvalidInput(f"a node's parent must come before it, or be -1: node {node} has {parent}")
        paths.append([*(paths[parent] if parent >= 0 else []), node])
    return paths
