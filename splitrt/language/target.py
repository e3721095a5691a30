"""A target verifies drafts: one pass over the nodes, then the rule, then a cache that holds what was accepted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from splitrt.language.context import Context
from splitrt.language.sampling import Sampling, choose
from splitrt.language.verify import Verified, match


def verify(
    context: Context,
    logits_TV: Tensor,
    tokens: Sequence[int],
    ids: Sequence[int],
    parents: Sequence[int],
    sampling: Sampling,
) -> Verified:
    """What of a draft behind `tokens` stands, by the logits that `context.look` gave for it. The context then holds
    the accepted path.
    """
    rows_TV = logits_TV.cpu().numpy()

    def token_behind(path: tuple[int, ...]) -> int:
        prefix = [*tokens, *(ids[node] for node in path)]
        return choose(rows_TV[path[-1] + 1 if path else 0], prefix, sampling)

    verified = match(ids, parents, token_behind)
    context.keep(len(tokens), verified.path, ids)
    return verified
