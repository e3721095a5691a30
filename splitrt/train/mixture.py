"""What a Mixture of Attentions drafter is trained by: the target's thoughts of texts, and masks in place of rounds.

A text is cut into rounds of a length drawn for it. A token may look at the states of tokens before its own round alone,
as a draft may when it is made: one pass trains every depth of a draft (the paper's on-policy masks). In some texts the
states end at a place, as when the server is away.

Shape letters: B batch, T tokens, L layers, C a layer's keys and values, D hidden, S states.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.language.decoder import DecoderConfig
from splitrt.language.moa import ROPE, Seen, head, queries, rest_of_block, states_seen, tokens_seen
from splitrt.language.moa_config import MoaConfig
from splitrt.language.states import state_shapes, states_of
from splitrt.train.reader import Reader

# A drafter begins as a small decoder of two layers, to which states mean something by and by.
OF_A_LAYER = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
BEGINS_AS = {"embed.weight": "embed_tokens.weight", "norm.weight": "norm.weight"} | {
    f"{part}.{ours}.weight": f"layers.{layer}.{theirs}.weight"
    for layer, part in enumerate(("own", "both"))
    for ours, theirs in OF_A_LAYER.items()
}


class Thinker(Reader):
    """A target that keeps what it thought: keys, not turned, and values of every token and layer."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self._kept: list[Tensor] = []

    def think(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """logits_BTV and cached_BTLC."""
        self._kept = []
        logits_BTV = self(ids_BT)
        return logits_BTV, torch.stack(self._kept, 2)

    def _attend(self, x_BTD: Tensor, here: str) -> Tensor:
        keys, values = (F.linear(x_BTD, self._weight(f"{here}self_attn.{name}_proj")) for name in ("k", "v"))
        self._kept.append(torch.cat([keys, values], -1))
        return super()._attend(x_BTD, here)


class Mixture(nn.Module):
    """Both parts, by the names that they are served by."""

    cos_TE: Tensor
    sin_TE: Tensor

    def __init__(self, config: MoaConfig, begins_as: dict[str, Tensor] | None = None) -> None:
        """begins_as: a decoder of two layers of this width, by the names of `DecoderConfig.shapes`."""
        super().__init__()
        self.config = config
        self.device, self.server = nn.ParameterDict(), nn.ParameterDict()
        for weights, shapes in ((self.device, config.shapes()), (self.server, state_shapes(config))):
            for name, shape in shapes.items():
                given = None if begins_as is None or weights is self.server else begins_as.get(BEGINS_AS.get(name, ""))
                weights[name.replace(".", "/")] = nn.Parameter(_first(name, shape) if given is None else given.clone())
        cos_TE, sin_TE = ROPE.tables(config.head_dim, config.context)
        self.register_buffer("cos_TE", cos_TE, persistent=False)
        self.register_buffer("sin_TE", sin_TE, persistent=False)

    def forward(self, ids_BT: Tensor, cached_BTLC: Tensor, verified_BT: Tensor) -> Tensor:
        """logits_BTV; verified_BT: so many first tokens have states when this one is read."""
        config, device, server = self.config, _named(self.device), _named(self.server)
        batch, tokens = ids_BT.shape
        turns = self.cos_TE[:tokens], self.sin_TE[:tokens]
        x_BTD = F.embedding(ids_BT, device["embed.weight"])
        state_BSC = states_of(server, config, cached_BTLC.flatten(0, 1)).view(batch, tokens, -1)
        own = tokens_seen(device, config, "own", x_BTD, turns)
        q_BHTE = queries(device, config, "own", x_BTD, turns)
        mixed_BHTE = F.scaled_dot_product_attention(q_BHTE, own.k_BHSE, own.v_BHSE, is_causal=True)
        x_BTD = rest_of_block(device, "own", x_BTD, mixed_BHTE)
        both = tokens_seen(device, config, "both", x_BTD, turns)
        states = states_seen(device, config, state_BSC, turns)
        mixed_BHTE = _attend(queries(device, config, "both", x_BTD, turns), both, states, verified_BT, config.window)
        return head(device, rest_of_block(device, "both", x_BTD, mixed_BHTE))

    def begun(self) -> list[nn.Parameter]:
        """What began as a decoder's."""
        return [weight for name, weight in self.device.items() if name.replace("/", ".") in BEGINS_AS]

    def fresh(self) -> list[nn.Parameter]:
        rest = [weight for name, weight in self.device.items() if name.replace("/", ".") not in BEGINS_AS]
        return [*rest, *self.server.values()]

    def weights(self, part: nn.ParameterDict) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in _named(part).items()}


def _attend(q_BHTE: Tensor, both: Seen, states: Seen, verified_BT: Tensor, window: int) -> Tensor:
    """mixed_BHTE. Which states count depends on the query, so they cannot be added to keys and values beforehand."""
    places_T = torch.arange(q_BHTE.shape[2])
    end_B1T1 = verified_BT[:, None, :, None]
    seen_B1TS = ((places_T >= end_B1T1 - window) & (places_T < end_B1T1)).float()
    scores_BHTS = q_BHTE @ both.k_BHSE.transpose(2, 3) + seen_B1TS * (q_BHTE @ states.k_BHSE.transpose(2, 3))
    scores_BHTS = scores_BHTS * q_BHTE.shape[-1] ** -0.5
    share_BHTS = scores_BHTS.masked_fill(places_T > places_T[:, None], -torch.inf).softmax(-1)
    mixed_BHTE: Tensor = share_BHTS @ both.v_BHSE + (share_BHTS * seen_B1TS) @ states.v_BHSE
    return mixed_BHTE


def verified_at(batch: int, tokens: int, strides: tuple[int, int], outages: float, draw: torch.Generator) -> Tensor:
    """verified_BT of rounds of a length and a beginning drawn for each text; a share of texts loses the server."""
    stride_B1 = torch.randint(strides[0], strides[1] + 1, (batch, 1), generator=draw)
    shift_B1 = torch.randint(0, strides[1], (batch, 1), generator=draw) % stride_B1
    places_T = torch.arange(tokens)
    verified_BT = ((places_T + shift_B1) // stride_B1) * stride_B1 - shift_B1
    away_B1 = torch.where(
        torch.rand(batch, 1, generator=draw) < outages, torch.randint(0, tokens, (batch, 1), generator=draw), tokens
    )
    return torch.minimum(verified_BT, away_B1).clamp(min=0)


def _named(part: nn.ParameterDict) -> dict[str, Tensor]:
    return {name.replace("/", "."): weight for name, weight in part.items()}


def _first(name: str, shape: tuple[int, ...]) -> Tensor:
    if "norm" in name:
        return torch.ones(shape)
    if name.endswith("bias"):
        return 0.5 * torch.randn(shape)
    scale = 0.02 if "embed" in name else shape[-1] ** -0.5
    scale *= 0.3 if name.startswith("states.") else 1.0  # what states add is little at first
    return scale * torch.randn(shape)
