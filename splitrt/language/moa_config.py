"""A Mixture of Attentions drafter's sizes, and a state's bytes: int8 and a half-precision scale a token. See `moa`.

Shape letters: S states, C state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splitrt.errors import BundleError, ConfigError, InvalidInput
from splitrt.language.folder import read_json

SCALE_BYTES = 2
MOST_SCALE = 1_000.0
MOST_SIZE = {
    "vocabulary": 1 << 20, "hidden": 1 << 14, "feed_forward": 1 << 16, "heads": 256, "context": 1 << 20,
    "state": 1 << 14, "window": 1 << 16, "layers": 512, "cached": 1 << 17, "layer_hidden": 1 << 14,
    "layer_feed_forward": 1 << 16, "layer_heads": 256,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MoaConfig:
    """Of both parts. cached: keys and values of one of the target's layers, numbers a token."""

    vocabulary: int
    hidden: int
    feed_forward: int
    heads: int
    context: int
    state: int  # numbers of a state
    window: int  # states that are looked at
    layers: int  # the target's
    cached: int
    layer_hidden: int
    layer_feed_forward: int
    layer_heads: int

    def __post_init__(self) -> None:
        for name, most in MOST_SIZE.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ConfigError(f"a drafter's {name} must be a whole number from 1 to {most}, got {str(value)[:32]}")
        if self.hidden % (2 * self.heads) or self.layer_hidden % self.layer_heads:
            raise ConfigError(
                f"hidden must be a multiple of twice the heads and layer_hidden of layer_heads, got {self.hidden}, "
                f"{self.heads}, {self.layer_hidden} and {self.layer_heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def state_bytes(self) -> int:
        """Of one verified token on the link."""
        return self.state + SCALE_BYTES

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The device's weights."""
        wide, deep = self.hidden, self.feed_forward
        shapes: dict[str, tuple[int, ...]] = {"embed.weight": (self.vocabulary, wide), "norm.weight": (wide,)}
        for part in ("own", "both"):
            shapes |= {f"{part}.{name}.weight": (wide, wide) for name in ("q", "k", "v", "o")}
            shapes |= {f"{part}.{name}.weight": (wide,) for name in ("norm", "mlp_norm")}
            shapes |= {f"{part}.{name}.weight": (deep, wide) for name in ("gate", "up")}
            shapes[f"{part}.down.weight"] = (wide, deep)
        return shapes | {f"states.{name}.weight": (wide, self.state) for name in ("k", "v")}

    @property
    def touched(self) -> int:
        """Parameters that a drafted token is multiplied with; those for states are used once a verified token."""
        once = 2 * self.hidden * self.state
        return sum(int(np.prod(shape)) for shape in self.shapes().values()) - once


def read_moa_config(file: Path) -> MoaConfig:
    """Raises BundleError or ConfigError."""
    given = read_json(file)
    if set(given) != set(MOST_SIZE):
        raise BundleError(f"{file.name} of a Mixture of Attentions must hold {', '.join(MOST_SIZE)}")
    return MoaConfig(**given)


def unpack(data: bytes, config: MoaConfig) -> Tensor:
    """state_SC out of int8 and a half-precision scale each. Raises InvalidInput on what is no whole number of states,
    more than are looked at, or without bounds.
    """
    if len(data) % config.state_bytes or len(data) > config.window * config.state_bytes:
        raise InvalidInput(
            f"states must be at most {config.window} of {config.state_bytes} bytes each, got {len(data)} bytes"
        )
    packed_S = np.frombuffer(data, packed_state(config.state))
    scale_S = packed_S["scale"].astype(np.float32)
    if not (np.abs(scale_S) <= MOST_SCALE).all():  # nor is what is not a number
        raise InvalidInput(f"a state's scale must be at most {MOST_SCALE:g}")
    return torch.from_numpy(packed_S["values"].astype(np.float32) * scale_S[:, None])


def packed_state(state: int) -> np.dtype[np.void]:
    return np.dtype([("values", "i1", (state,)), ("scale", "<f2")])
