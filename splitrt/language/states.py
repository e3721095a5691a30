"""States: what a target thought at a verified token, in few bytes. The server's part of Mixture of Attentions (`moa`).

A token's cached keys and values, layer by layer, are a short sequence: one block attends across layers (never across
positions), their mean goes through W and is sent as int8 with one scale. Made once for each verified token.

Shape letters: T tokens, L layers, K key/value heads, E head dimension, M hidden of the block, C state.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from splitrt.errors import BundleError
from splitrt.language.cache import Cache
from splitrt.language.decoder import Decoder
from splitrt.language.moa import Weights, norm
from splitrt.language.moa_config import MoaConfig, packed_state
from splitrt.language.model import Model


def state_shapes(config: MoaConfig) -> dict[str, tuple[int, ...]]:
    """The server's weights."""
    wide, deep = config.layer_hidden, config.layer_feed_forward
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (wide, wide) for name in ("q", "k", "v", "o")}
    return shapes | {
        "into.weight": (config.layers, wide, config.cached),  # each layer's own: keys of one mean nothing to another
        "into.bias": (config.layers, wide),
        "norm.weight": (wide,),
        "mlp_norm.weight": (wide,),
        "gate.weight": (deep, wide),
        "up.weight": (deep, wide),
        "down.weight": (wide, deep),
        "state.weight": (config.state, wide),
    }


def states_of(weights: Weights, config: MoaConfig, cached_TLC: Tensor) -> Tensor:
    """state_TC of tokens' keys (not turned) and values, of every layer."""
    x_TLM = torch.einsum("tlc,lmc->tlm", norm(cached_TLC), weights["into.weight"]) + weights["into.bias"]
    normed_TLM, heads = norm(x_TLM, weights["norm.weight"]), (*x_TLM.shape[:2], config.layer_heads, -1)
    q, k, v = (F.linear(normed_TLM, weights[f"{name}.weight"]).view(heads).transpose(1, 2) for name in ("q", "k", "v"))
    mixed_TLM = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x_TLM = x_TLM + F.linear(mixed_TLM, weights["o.weight"])
    normed_TLM = norm(x_TLM, weights["mlp_norm.weight"])
    gate, up = (F.linear(normed_TLM, weights[f"{name}.weight"]) for name in ("gate", "up"))
    x_TLM = x_TLM + F.linear(F.silu(gate) * up, weights["down.weight"])
    return norm(F.linear(x_TLM.mean(1), weights["state.weight"]))


class StateMaker:
    """Of one target."""

    def __init__(self, config: MoaConfig, weights: Mapping[str, Tensor], target: Model) -> None:
        """Raises BundleError where it was not made for this target."""
        if not isinstance(target, Decoder):
            raise BundleError("states must be of a target of ours: keys are turned back by its positions")
        given = (target.config.layers, 2 * target.config.kv_heads * target.config.head_dim)
        if given != (config.layers, config.cached):
            raise BundleError(
                f"states must be of a target's {config.layers} layers of {config.cached} numbers, got {given[0]} of "
                f"{given[1]}"
            )
        self.config, self._target = config, target
        self._weights = {name: weights[name].to(target.device, torch.float32) for name in state_shapes(config)}

    @torch.no_grad()
    def make(self, cache: Cache, start: int, end: int) -> bytes:
        """Of the tokens that a cache holds from `start` to `end`."""
        rope = self._target.config.rope
        cos_TE, sin_TE = (table[start:end] for table in self._target.turns(end))
        layers = []
        for keys_SKE, values_SKE in zip(cache.keys, cache.values, strict=True):
            k_TKE = rope.rotate(keys_SKE[start:end], cos_TE, -sin_TE)
            layers.append(torch.cat([k_TKE.flatten(1), values_SKE[start:end].flatten(1)], 1))
        return pack(states_of(self._weights, self.config, torch.stack(layers, 1)))


def pack(states_TC: Tensor) -> bytes:
    """int8 and a half-precision scale a token."""
    values_TC = states_TC.cpu().numpy()
    packed_T = np.empty(len(values_TC), packed_state(values_TC.shape[1]))
    scale_T = np.maximum(np.abs(values_TC).max(1) / 127, 1e-4).astype("<f2")
    packed_T["scale"] = scale_T
    packed_T["values"] = np.clip(np.rint(values_TC / scale_T.astype(np.float32)[:, None]), -127, 127)
    return packed_T.tobytes()
