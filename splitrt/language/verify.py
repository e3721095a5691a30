"""Which of a draft's tokens stand, and what comes after them: rules that leave the target's law as it is.

    committed ─ draft node ─ draft node ─ ...        accepted: nodes of one path from the root
                   └─ draft node                     recovered or bonus: the token of the target's own behind it

Words as in vLLM's rejection sampler. `match` asks the target for its token at each place and follows the child that
equals it: right for any draft whatever, greedy or drawn. `reject` needs the law that each node was drawn from, and
accepts more of a draft that was not made with the target's noise (Leviathan et al., ICML 2023, arXiv:2211.17192;
for trees SpecInfer: Miao et al., ASPLOS 2024, arXiv:2305.09781).

Shape letters: V vocabulary. Nodes are numbered parents first; -1 is the committed prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verified:
    path: tuple[int, ...]  # accepted nodes, from the root down
    token: int  # the target's own behind them: recovered after a refusal, bonus at a leaf


def match(ids: Sequence[int], parents: Sequence[int], choose: Callable[[tuple[int, ...]], int]) -> Verified:
    """choose: the target's token behind a path. Every token that is said is the target's, so its law is the target's,
    whatever was drafted; the draft decides only how many are had at once.
    """
    child = {(parent, token): node for node, (parent, token) in reversed([*enumerate(zip(parents, ids, strict=True))])}
    path: tuple[int, ...] = ()
    while True:
        token = choose(path)
        node = child.get((path[-1] if path else -1, token))
        if node is None:
            return Verified(path, token)
        path = (*path, node)


def reject(
    ids: Sequence[int],
    parents: Sequence[int],
    q_of: Callable[[int], Float64],
    p_of: Callable[[tuple[int, ...]], Float64],
    coin: Callable[[int, int], float],
) -> Verified:
    """Children must have been drawn, each for itself, from `q_of` their parent (-1: of the prefix).

    p_of: the target's law behind a path; coin(depth, toss): uniform in (0, 1), a fresh one for each.
    """
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    path: tuple[int, ...] = ()
    while True:
        here, depth = path[-1] if path else -1, len(path)
        p_V, tosses, accepted = p_of(path), 0, None
        for node in children.get(here, ()):
            q_V, token = q_of(here), ids[node]
            tosses += 1
            if coin(depth, tosses - 1) * q_V[token] < p_V[token]:
                accepted = node
                break
            p_V = _left(p_V, q_V)
        if accepted is None:
            return Verified(path, draw(p_V, coin(depth, tosses)))
        path = (*path, accepted)


def draw(p_V: Float64, u: float) -> int:
    """A token of this law by the inverse of its distribution function."""
    total_V = np.cumsum(p_V)
    return int(np.searchsorted(total_V, u * total_V[-1], side="right").clip(0, len(p_V) - 1))


def _left(p_V: Float64, q_V: Float64) -> Float64:
    """What the target has beyond the draft, a law again. Where the two are one, nothing is left: then the target's."""
    left_V = np.maximum(p_V - q_V, 0.0)
    total = left_V.sum()
    return left_V / total if total > 0 else p_V
