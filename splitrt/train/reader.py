"""The decoder that is trained: the same weights by the same names as `splitrt.language.decoder`, whole texts at once.

Shape letters: B batch, T tokens, H query heads, K key/value heads, E head dimension, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.language.bundle import LanguageBundle
from splitrt.language.decoder import Decoder, DecoderConfig
from splitrt.language.tokens import STORIES_BOS


class Reader(nn.Module):
    """Logits of every place of texts that begin at position 0. Tied head, no biases: what recipes build."""

    cos_TE: Tensor
    sin_TE: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.weights = nn.ParameterDict()
        for name, shape in config.shapes().items():
            key = name.replace(".", "/")
            normal = torch.randn(shape) * (0.02 if "embed" in name else shape[-1] ** -0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                normal /= (2 * config.layers) ** 0.5
            self.weights[key] = nn.Parameter(torch.ones(shape) if "norm" in name else normal)
        cos_TE, sin_TE = config.rope.tables(config.head_dim, config.context)
        self.register_buffer("cos_TE", cos_TE, persistent=False)
        self.register_buffer("sin_TE", sin_TE, persistent=False)

    def named(self) -> dict[str, Tensor]:
        """Weights by the names of `DecoderConfig.shapes`."""
        return {name.replace("/", "."): weight.detach().clone() for name, weight in self.weights.items()}

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Weights by the same names."""
        for name, weight in self.weights.items():
            weight.data.copy_(weights[name.replace("/", ".")])

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = F.embedding(ids_BT, self._weight("embed_tokens"))
        for layer in range(self.config.layers):
            here = f"layers.{layer}."
            x_BTD = x_BTD + self._attend(self._norm(x_BTD, f"{here}input_layernorm"), here)
            normed_BTD = self._norm(x_BTD, f"{here}post_attention_layernorm")
            gate, up = (F.linear(normed_BTD, self._weight(f"{here}mlp.{name}_proj")) for name in ("gate", "up"))
            x_BTD = x_BTD + F.linear(F.silu(gate) * up, self._weight(f"{here}mlp.down_proj"))
        return F.linear(self._norm(x_BTD, "norm"), self._weight("embed_tokens"))

    def _attend(self, x_BTD: Tensor, here: str) -> Tensor:
        batch, tokens, _ = x_BTD.shape
        turned = []
        for name, heads in (("q", self.config.heads), ("k", self.config.kv_heads), ("v", self.config.kv_heads)):
            flat = F.linear(x_BTD, self._weight(f"{here}self_attn.{name}_proj"))
            x_RHE = flat.view(batch * tokens, heads, self.config.head_dim)
            if name != "v":
                cos_RE, sin_RE = (table[:tokens].repeat(batch, 1) for table in (self.cos_TE, self.sin_TE))
                x_RHE = self.config.rope.rotate(x_RHE, cos_RE, sin_RE)
            turned.append(x_RHE.view(batch, tokens, heads, -1).transpose(1, 2))
        q_BHTE, k_BKTE, v_BKTE = turned
        mixed = F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=True)
        return F.linear(mixed.transpose(1, 2).reshape(batch, tokens, -1), self._weight(f"{here}self_attn.o_proj"))

    def _norm(self, x_BTD: Tensor, name: str) -> Tensor:
        return F.rms_norm(x_BTD, x_BTD.shape[-1:], self._weight(name), self.config.norm_eps)

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self.weights[f"{name}/weight".replace(".", "/")]
        return weight


def windows(ids: Tensor, context: int, batch: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """x_BT and y_BT, one further along."""
    starts = torch.randint(0, max(1, len(ids) - context), (batch,), generator=draw)
    y_BT = torch.stack([ids[start : start + context] for start in starts.tolist()])
    x_BT = torch.cat([torch.full((batch, 1), STORIES_BOS), y_BT[:, :-1]], 1)
    return x_BT, y_BT


def reader_of(bundle: LanguageBundle, half: Literal["draft", "target"]) -> Reader:
    served = decoder_of(bundle, half)
    reader = Reader(served.config)
    reader.take(served.named())
    return reader


def decoder_of(bundle: LanguageBundle, half: Literal["draft", "target"]) -> Decoder:
    """Raises ConfigError where it is not one of ours."""
    served = bundle.model(half)
    if not isinstance(served, Decoder):
        raise ConfigError(f"a bundle to train from must have a {half} of a kind of ours, {bundle.name} has another")
    return served
