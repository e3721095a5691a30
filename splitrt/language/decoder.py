"""A decoder in plain torch: Llama, Qwen2, Qwen3 and Mistral are settings of it.

    ids -> embedding -> [norm, attention over the cache, norm, SwiGLU] x layers -> norm -> head -> logits

Shape letters: T tokens, R rows of a tile, D hidden, H query heads, K key/value heads, G = H/K, E head dimension,
L keys padded, V vocabulary.

A row's result does not depend on the rows beside it. Kernels choose their order of summation by the shape of what
they are given, so the logits of one token read alone and of the same token read among drafts usually differ in the
last bits, which flips near-ties and makes speculative decoding not quite lossless. Here every matrix product has the
same shape always: rows come in tiles of `TILE`, a row's keys are laid out by position and padded to a multiple of
`BLOCK`. `row_difference` measures on the machine at hand that the kernels hold to this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor
from torch.nn import functional as F

from splitrt.errors import BundleError, ConfigError
from splitrt.language.cache import Cache
from splitrt.language.rope import Rope
from splitrt.language.rows import Group, Reading, Row, groups_of, rows_of, stretches_of

TILE = 16
MOST_LAYERS, MOST_WIDTH, MOST_VOCABULARY, MOST_CONTEXT = 512, 1 << 16, 1 << 20, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    vocabulary: int
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    norm_eps: float = 1e-5
    rope: Rope = field(default_factory=Rope)
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    window: int | None = None  # a token attends to so many before it, itself counted

    def __post_init__(self) -> None:
        bounds = {
            "vocabulary": MOST_VOCABULARY,
            "hidden": MOST_WIDTH,
            "feed_forward": 4 * MOST_WIDTH,
            "layers": MOST_LAYERS,
            "heads": 1024,
            "kv_heads": 1024,
            "head_dim": 1024,
            "context": MOST_CONTEXT,
        }
        for name, most in bounds.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"a decoder's {name} must be from 1 to {most}, got {getattr(self, name)}")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ConfigError(
                f"heads must be a multiple of kv_heads and head_dim even, got {self.heads}, {self.kv_heads} and "
                f"{self.head_dim}"
            )
        if self.window is not None and self.window < 1:
            raise ConfigError(f"window must be at least 1, got {self.window}")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight by Hugging Face's name, without its `model.`."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            here = f"layers.{layer}."
            for name, rows in (("q", wide), ("k", narrow), ("v", narrow)):
                shapes[f"{here}self_attn.{name}_proj.weight"] = (rows, self.hidden)
                if self.qkv_bias:
                    shapes[f"{here}self_attn.{name}_proj.bias"] = (rows,)
            if self.qk_norm:
                shapes[f"{here}self_attn.q_norm.weight"] = shapes[f"{here}self_attn.k_norm.weight"] = (self.head_dim,)
            shapes[f"{here}self_attn.o_proj.weight"] = (self.hidden, wide)
            if self.output_bias:
                shapes[f"{here}self_attn.o_proj.bias"] = (self.hidden,)
            for name in ("input_layernorm", "post_attention_layernorm"):
                shapes[f"{here}{name}.weight"] = (self.hidden,)
            for name in ("gate_proj", "up_proj"):
                shapes[f"{here}mlp.{name}.weight"] = (self.feed_forward, self.hidden)
            shapes[f"{here}mlp.down_proj.weight"] = (self.hidden, self.feed_forward)
        shapes["norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocabulary, self.hidden)
        return shapes


class Decoder:
    """Frozen weights; sequences' state is in their caches, so one decoder serves many."""

    def __init__(self, config: DecoderConfig, weights: Mapping[str, Tensor], device: str = "cpu") -> None:
        """Weights by the names of `config.shapes()`. Raises BundleError where one is missing or of another shape."""
        self.config, self.device = config, torch.device(device)
        self._weights: dict[str, Tensor] = {}
        for name, shape in config.shapes().items():
            if name not in weights or tuple(weights[name].shape) != shape:
                given = tuple(weights[name].shape) if name in weights else "nothing"
                raise BundleError(f"weight {name} must have shape {shape}, got {given}")
            self._weights[name] = weights[name].to(self.device, torch.float32).contiguous()
        self._head_VD = self._weights["embed_tokens.weight" if config.tied else "lm_head.weight"]
        self._turned, self._turning = 0, Lock()  # several texts' threads may ask at once
        self._cos_PE = self._sin_PE = torch.empty(0)

    def named(self) -> dict[str, Tensor]:
        """Weights by the names of `config.shapes()`; not to be changed."""
        return dict(self._weights)

    def cache(self) -> Cache:
        return Cache(self.config.layers, self.config.kv_heads, self.config.head_dim, self.device)

    def read(self, ids: Sequence[int], cache: Cache, parents: Sequence[int] | None = None, skip: int = 0) -> Tensor:
        """One sequence's: see `read_many`."""
        return self.read_many([Reading(ids, cache, parents, skip)])[0]

    @torch.no_grad()
    def read_many(self, readings: Sequence[Reading]) -> list[Tensor]:
        """Append tokens to caches, each reading's to its own; logits_TV of each, without those it skips.

        A token sees what its cache held, its ancestors and itself. Raises InvalidInput, before any cache has changed,
        on ids or parents that cannot be, or where a position would lie beyond the context.
        """
        rows = [row for reading in readings for row in rows_of(reading, self.config.vocabulary, self.config.context)]
        self.turns(max((row.position for row in rows), default=-1) + 1)
        for reading in readings:
            reading.cache.append(len(reading.ids))
        found: list[list[Tensor]] = [[] for _ in readings]
        place = {id(reading): number for number, reading in enumerate(readings)}
        for first in range(0, len(rows), TILE):
            tile = rows[first : first + TILE]
            x_RD = self._tile(tile)
            if any(row.is_wanted for row in tile):
                logits_RV = F.linear(x_RD, self._head_VD)
                for number, row in enumerate(tile):
                    if row.is_wanted:
                        found[place[id(row.reading)]].append(logits_RV[number])
        nothing_TV = self._head_VD.new_empty(0, self.config.vocabulary)
        return [torch.stack(logits) if logits else nothing_TV for logits in found]

    def _tile(self, rows: Sequence[Row]) -> Tensor:
        """x_RD behind the last norm; rows beyond those given are filled and mean nothing."""
        config, spare = self.config, [0] * (TILE - len(rows))
        padded = [*(row.position for row in rows), *spare]
        cos_RE, sin_RE = self._cos_PE[padded], self._sin_PE[padded]
        groups, stretches = groups_of(rows, self.device), stretches_of(rows)
        ids_R = torch.tensor([*(row.token for row in rows), *spare], device=self.device)
        x_RD = F.embedding(ids_R, self._weights["embed_tokens.weight"])
        for layer in range(config.layers):
            here = f"layers.{layer}."
            normed_RD = self._norm(x_RD, f"{here}input_layernorm.weight")
            q_RHE = self._heads(normed_RD, f"{here}self_attn.q", config.heads, cos_RE, sin_RE)
            k_RKE = self._heads(normed_RD, f"{here}self_attn.k", config.kv_heads, cos_RE, sin_RE)
            v_RKE = self._linear(normed_RD, f"{here}self_attn.v_proj").view(TILE, config.kv_heads, config.head_dim)
            for cache, some, slots in stretches:
                cache.keys[layer][slots], cache.values[layer][slots] = k_RKE[some], v_RKE[some]
            mixed_RHE = torch.zeros_like(q_RHE)
            for group in groups:
                keys, values = group.cache.keys[layer], group.cache.values[layer]
                mixed_RHE[group.rows] = self._attend(q_RHE[group.rows], keys, values, group)
            x_RD = x_RD + self._linear(mixed_RHE.view(TILE, -1), f"{here}self_attn.o_proj")
            normed_RD = self._norm(x_RD, f"{here}post_attention_layernorm.weight")
            gate_RF = F.silu(self._linear(normed_RD, f"{here}mlp.gate_proj"))
            up_RF = self._linear(normed_RD, f"{here}mlp.up_proj")
            x_RD = x_RD + self._linear(gate_RF * up_RF, f"{here}mlp.down_proj")
        return self._norm(x_RD, "norm.weight")

    def _attend(self, q_RHE: Tensor, k_SKE: Tensor, v_SKE: Tensor, group: Group) -> Tensor:
        rows, length = group.slots_RL.shape
        kv, dim = self.config.kv_heads, self.config.head_dim
        k_BLE = k_SKE[group.slots_RL].transpose(1, 2).reshape(rows * kv, length, dim)
        v_BLE = v_SKE[group.slots_RL].transpose(1, 2).reshape(rows * kv, length, dim)
        scores_BGL = torch.bmm(q_RHE.reshape(rows * kv, -1, dim), k_BLE.transpose(1, 2)) * dim**-0.5
        places_L = torch.arange(length, device=self.device)
        hidden_RL = places_L > group.positions_R[:, None]
        if self.config.window is not None:
            hidden_RL |= places_L <= group.positions_R[:, None] - self.config.window
        scores_BGL = scores_BGL.view(rows, kv, -1, length).masked_fill(hidden_RL[:, None, None], -torch.inf)
        mixed_BGE = torch.bmm(torch.softmax(scores_BGL, -1).view(rows * kv, -1, length), v_BLE)
        return mixed_BGE.view(rows, self.config.heads, dim)

    def _heads(self, normed_RD: Tensor, name: str, heads: int, cos_RE: Tensor, sin_RE: Tensor) -> Tensor:
        x_RHE = self._linear(normed_RD, f"{name}_proj").view(TILE, heads, self.config.head_dim)
        if self.config.qk_norm:
            x_RHE = self._norm(x_RHE, f"{name}_norm.weight")
        return self.config.rope.rotate(x_RHE, cos_RE, sin_RE)

    def _linear(self, x_RD: Tensor, name: str) -> Tensor:
        return F.linear(x_RD, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))

    def _norm(self, x_RD: Tensor, name: str) -> Tensor:
        scale = torch.rsqrt(x_RD.pow(2).mean(-1, keepdim=True) + self.config.norm_eps)
        return self._weights[name] * (x_RD * scale)

    def turns(self, positions: int) -> tuple[Tensor, Tensor]:
        """cos_PE and sin_PE of at least so many positions."""
        with self._turning:
            if positions > self._turned:
                turned = min(self.config.context, max(256, 2 * positions))
                cos_PE, sin_PE = self.config.rope.tables(self.config.head_dim, turned)
                self._cos_PE, self._sin_PE = cos_PE.to(self.device), sin_PE.to(self.device)
                self._turned = turned
            return self._cos_PE, self._sin_PE
