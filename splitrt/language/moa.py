"""A drafter that sees what the target thought: Mixture of Attentions, its device's part.

    target's keys and values of verified tokens ─ [across layers] ─ W ─ state, int8 ══ link ══▶ keys, values ─┐
      server (`states`)                                                                                       +
                                                                                                              ▼
    tokens, drafted ones too ─ embedding ─ [self-attention, SwiGLU] ─ keys, values ─────────▶ [attention, SwiGLU] ─ head
      device

The first block attends to all tokens before. The second attends to them and, at verified positions alone, to the
target's states, so a draft of any length needs nothing more of the target (Zimmer et al., ICLR 2025, arXiv:2410.03804).
Not as in the paper: its second block sees states alone, here a state's keys and values are added to its token's own; a
state is made of keys turned back by their position; embedding and head are the drafter's own, and narrow, as a small
device needs; the last `window` states are seen. Without any state it is a small decoder of two layers.

Shape letters: B batch, T tokens, S keys, D hidden, H heads, E head dimension, C state, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from splitrt.errors import BundleError, InvalidInput
from splitrt.language.cache import Cache
from splitrt.language.moa_config import MoaConfig, unpack
from splitrt.language.noise import gumbel
from splitrt.language.prefix import common
from splitrt.language.rope import Rope
from splitrt.language.sampling import Sampling, warp

Weights = Mapping[str, Tensor]
ROPE = Rope(interleaved=True)
NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Seen:
    """Keys, turned by their position, and values."""

    k_BHSE: Tensor
    v_BHSE: Tensor


Turns = tuple[Tensor, Tensor]  # cos_TE and sin_TE of the rows' positions


def tokens_seen(weights: Weights, config: MoaConfig, part: str, x_BTD: Tensor, turns: Turns) -> Seen:
    """Of tokens, for one of the two blocks."""
    return _seen(weights, config, part, norm(x_BTD, weights[f"{part}.norm.weight"]), turns)


def states_seen(weights: Weights, config: MoaConfig, state_BSC: Tensor, turns: Turns) -> Seen:
    return _seen(weights, config, "states", state_BSC, turns)


def queries(weights: Weights, config: MoaConfig, part: str, x_BTD: Tensor, turns: Turns) -> Tensor:
    """q_BHTE."""
    normed_BTD = norm(x_BTD, weights[f"{part}.norm.weight"])
    heads = (*x_BTD.shape[:2], config.heads, config.head_dim)
    return ROPE.rotate(F.linear(normed_BTD, weights[f"{part}.q.weight"]).view(heads), *turns).transpose(1, 2)


def rest_of_block(weights: Weights, part: str, x_BTD: Tensor, mixed_BHTE: Tensor) -> Tensor:
    """x_BTD behind a block, given what its attention found."""
    x_BTD = x_BTD + F.linear(mixed_BHTE.transpose(1, 2).flatten(2), weights[f"{part}.o.weight"])
    normed_BTD = norm(x_BTD, weights[f"{part}.mlp_norm.weight"])
    gate, up = (F.linear(normed_BTD, weights[f"{part}.{name}.weight"]) for name in ("gate", "up"))
    return x_BTD + F.linear(F.silu(gate) * up, weights[f"{part}.down.weight"])


def head(weights: Weights, x_BTD: Tensor) -> Tensor:
    return F.linear(norm(x_BTD, weights["norm.weight"]), weights["embed.weight"])


def norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, NORM_EPS)


def _seen(weights: Weights, config: MoaConfig, part: str, x_BSD: Tensor, turns: Turns) -> Seen:
    heads = (*x_BSD.shape[:2], config.heads, config.head_dim)
    k_BSHE = ROPE.rotate(F.linear(x_BSD, weights[f"{part}.k.weight"]).view(heads), *turns)
    v_BSHE = F.linear(x_BSD, weights[f"{part}.v.weight"]).view(heads)
    return Seen(k_BSHE.transpose(1, 2), v_BSHE.transpose(1, 2))


class MoaDrafter:
    """One text's. What it has no states for, it drafts without: while the server is away the last ones serve."""

    def __init__(self, config: MoaConfig, weights: Weights) -> None:
        for name, shape in config.shapes().items():
            if name not in weights or tuple(weights[name].shape) != shape:
                raise BundleError(f"weight {name} must have shape {shape}")
        self.config, self._weights = config, {name: weights[name].float() for name in config.shapes()}
        self._cos_PE, self._sin_PE = ROPE.tables(config.head_dim, config.context)
        self._tokens: list[int] = []  # those that the first two caches hold; the third holds states by position
        self._own, self._both, self._states = (
            Cache(1, config.heads, config.head_dim, torch.device("cpu")) for _ in range(3)
        )
        self.stated = 0  # verified tokens up to here have their states

    @torch.no_grad()
    def hear(self, verified: int, packed: bytes) -> None:
        """States of the last of so many verified tokens. Those before a gap are forgotten.

        Raises InvalidInput on what cannot be states of theirs.
        """
        states_SC = unpack(packed, self.config)
        start = verified - len(states_SC)
        if not 0 <= start <= verified <= self.config.context:
            raise InvalidInput(f"states must be of {verified} verified tokens at most, got {len(states_SC)}")
        if verified <= self.stated:
            return
        if start > self.stated:  # those between never come: nothing is seen there
            gap = self._states.append(start - self.stated)
            self._states.keys[0][gap], self._states.values[0][gap] = 0.0, 0.0
        fresh_SC = states_SC[max(0, self.stated - start) :]
        turns = self._turns(verified - len(fresh_SC), verified)
        _keep(self._states, states_seen(self._weights, self.config, fresh_SC[None], turns))
        self.stated = verified

    @torch.no_grad()
    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        if len(tokens) > self.config.context:
            return None
        log_q_V = warp(self.look(tokens).numpy(), tokens, sampling)
        noisy_V = log_q_V
        if sampling.temperature > 0:
            noisy_V = log_q_V + gumbel(sampling.seed, len(tokens), len(log_q_V))
        token = int(noisy_V.argmax())
        return token, float(np.exp(log_q_V[token]))

    @torch.no_grad()
    def look(self, tokens: Sequence[int]) -> Tensor:
        """logits_V of what comes behind `tokens`."""
        weights, config, end = self._weights, self.config, len(tokens)
        shared = min(common(self._tokens, tokens), end - 1)
        self._own.crop(shared)
        self._both.crop(shared)
        self._tokens = list(tokens)
        turns, last = self._turns(shared, end), self._turns(end - 1, end)
        x_1TD = F.embedding(torch.tensor([self._tokens[shared:]]), weights["embed.weight"])
        own = _keep(self._own, tokens_seen(weights, config, "own", x_1TD, turns))
        places_S = torch.arange(end)
        causal_TS = None if end - shared == 1 else places_S <= places_S[shared:, None]
        q_1HTE = queries(weights, config, "own", x_1TD, turns)
        mixed_1HTE = F.scaled_dot_product_attention(q_1HTE, own.k_BHSE, own.v_BHSE, attn_mask=causal_TS)
        x_1TD = rest_of_block(weights, "own", x_1TD, mixed_1HTE)
        both = self._with_states(_keep(self._both, tokens_seen(weights, config, "both", x_1TD, turns)))
        x_11D, q_1H1E = x_1TD[:, -1:], queries(weights, config, "both", x_1TD[:, -1:], last)
        mixed_1H1E = F.scaled_dot_product_attention(q_1H1E, both.k_BHSE, both.v_BHSE)
        return head(weights, rest_of_block(weights, "both", x_11D, mixed_1H1E))[0, 0]

    def _with_states(self, both: Seen) -> Seen:
        """Keys and values of all tokens, and what the last states add to those of theirs."""
        end = min(self.stated, both.k_BHSE.shape[2])
        slots = slice(max(0, self.stated - self.config.window), end)
        k_BHSE, v_BHSE = both.k_BHSE.clone(), both.v_BHSE.clone()
        k_BHSE[0, :, slots] += self._states.keys[0][slots].transpose(0, 1)
        v_BHSE[0, :, slots] += self._states.values[0][slots].transpose(0, 1)
        return Seen(k_BHSE, v_BHSE)

    def _turns(self, start: int, end: int) -> Turns:
        return self._cos_PE[start:end], self._sin_PE[start:end]


def _keep(cache: Cache, seen: Seen) -> Seen:
    """All that the cache then holds."""
    slots = cache.append(seen.k_BHSE.shape[2])
    cache.keys[0][slots] = seen.k_BHSE[0].transpose(0, 1)
    cache.values[0][slots] = seen.v_BHSE[0].transpose(0, 1)
    keys, values = (one[: cache.length].transpose(0, 1)[None] for one in (cache.keys[0], cache.values[0]))
    return Seen(keys, values)
