"""Plain decoding: one token a pass of the target. What every other way of generating must equal, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from splitrt.language.context import Context
from splitrt.language.model import Model
from splitrt.language.sampling import Sampling, choose


def plain_tokens(model: Model, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
    """Tokens behind the prompt, until the context is full."""
    context, tokens = Context(model), list(prompt)
    while len(tokens) < model.config.context:
        logits_V = context.look(tokens)[0].cpu().numpy()
        tokens.append(choose(logits_V, tokens, sampling))
        yield tokens[-1]
