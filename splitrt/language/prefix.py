"""Tokens named by a hash, so that two sides know whether they mean the same text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def prefix_hash(tokens: Sequence[int]) -> int:
    """64 bits of BLAKE2b over the ids, four little-endian bytes each."""
    data = np.asarray(tokens, "<u4").tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
