"""The order in which a map's symbols are coded, and the four neighbours that each of them then knows.

Shape letters: P places of one map (H x W, row by row), N places of one pass.
A coarse grid of every fourth row and column comes first and knows nothing. Each further pass halves the
grid in one direction: places amid four known diagonal neighbours, then amid four direct ones, with
steps 2 and then 1. So fifteen of sixteen symbols are coded knowing all sides, and a pass is one
vectorised operation. Only places, no probabilities. The order is that of HINT (Roos et al., IEEE TMI
1988); three passes from a step of 2 cost 3-5 % more bytes.

    step 4: 0 . . .   diagonal: 0 . . .   direct: 0 . 2 .   then the same with step 1
            . . . .             . . . .           . . . .
            . . . .             . . 1 .           2 . 1 .
            . . . .             . . . .           . . . .
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.intp]

FIRST_STEP = 4
PASSES = 5
NEIGHBOURS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Places coded at once, and for each four that were coded in earlier passes: None in the first pass."""

    places_N: Places
    neighbours_4N: Places | None


@lru_cache(maxsize=64)
def passes(height: int, width: int) -> tuple[Pass, ...]:
    """All PASSES in order; some are empty on small maps. Any size from 1 x 1."""
    rows, columns = _grid(range(0, height, FIRST_STEP), range(0, width, FIRST_STEP))
    found, step = [Pass(places_N=rows * width + columns, neighbours_4N=None)], FIRST_STEP // 2
    while step:
        found += [_diagonal(height, width, step), _direct(height, width, step)]
        step //= 2
    return tuple(found)


def _diagonal(height: int, width: int, step: int) -> Pass:
    rows, columns = _grid(range(step, height, 2 * step), range(step, width, 2 * step))
    (up, down), (left, right) = _beside(rows, step, height), _beside(columns, step, width)
    around = [row * width + column for row in (up, down) for column in (left, right)]
    return Pass(places_N=rows * width + columns, neighbours_4N=np.stack(around))


def _direct(height: int, width: int, step: int) -> Pass:
    rows, columns = _grid(range(0, height, step), range(0, width, step))
    is_new = (rows // step + columns // step) % 2 == 1
    rows, columns = rows[is_new], columns[is_new]
    vertical = np.stack([row * width + columns for row in _beside(rows, step, height)])
    horizontal = np.stack([rows * width + column for column in _beside(columns, step, width)])
    # A map of one row has nothing above or below, one of one column nothing beside: never both.
    vertical, horizontal = (
        np.where((rows < step) & (rows + step >= height), horizontal, vertical),
        np.where((columns < step) & (columns + step >= width), vertical, horizontal),
    )
    return Pass(places_N=rows * width + columns, neighbours_4N=np.concatenate([vertical, horizontal]))


def _grid(rows: range, columns: range) -> tuple[Places, Places]:
    across = np.meshgrid(np.asarray(rows, np.intp), np.asarray(columns, np.intp), indexing="ij")
    return across[0].reshape(-1), across[1].reshape(-1)


def _beside(at_N: Places, step: int, size: int) -> tuple[Places, Places]:
    """The coordinates before and after, at a border the other one twice."""
    before, after = at_N - step, at_N + step
    return np.where(before < 0, after, before), np.where(after >= size, before, after)
