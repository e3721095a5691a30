"""Rotary position embedding: frequencies with the scalings that published folders use, and the rotation itself.

Shape letters: R rows, H heads, E head dimension, P positions.
RoPE: Su et al., 2021, arXiv:2104.09864. YaRN: Peng et al., 2023, arXiv:2309.00071.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitrt.errors import ConfigError

KINDS = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """How a folder's positions turn. `settings` holds what its kind of scaling needs, by Hugging Face's names."""

    theta: float = 10_000.0
    kind: str = "default"
    settings: tuple[tuple[str, float], ...] = ()
    interleaved: bool = False  # pairs are (2k, 2k + 1), as in llama2.c; else (k, k + E/2)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"rope scaling must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not (math.isfinite(self.theta) and self.theta > 1):
            raise ConfigError(f"rope theta must be finite and above 1, got {self.theta}")
        wanted = {"linear": ("factor",), "llama3": LLAMA3, "yarn": ("factor", ORIGINAL)}.get(self.kind, ())
        given = dict(self.settings)
        if missing := [name for name in wanted if name not in given]:
            raise ConfigError(f"rope scaling {self.kind} must have {', '.join(missing)}")
        used = (*wanted, *(YARN if self.kind == "yarn" else ()))
        if odd := [name for name in used if name in given and not 0 < given[name] < math.inf]:
            raise ConfigError(f"rope scaling {self.kind}: {odd[0]} must be finite and above 0, got {given[odd[0]]}")
        if self.kind == "llama3" and not given["low_freq_factor"] < given["high_freq_factor"]:
            raise ConfigError(
                f"rope scaling llama3: low_freq_factor must be below high_freq_factor, got {given['low_freq_factor']} "
                f"and {given['high_freq_factor']}"
            )

    def tables(self, head_dim: int, positions: int) -> tuple[Tensor, Tensor]:
        """cos_PE and sin_PE, computed in double and rounded once, E/2 columns each."""
        frequencies, scale = self.frequencies(head_dim)
        angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies[None, :]
        return (angles.cos() * scale).float(), (angles.sin() * scale).float()

    def frequencies(self, head_dim: int) -> tuple[Tensor, float]:
        """Radians a position, (E/2,), and the factor on cosine and sine."""
        plain = self.theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        settings = dict(self.settings)
        if self.kind == "linear":
            return plain / settings["factor"], 1.0
        if self.kind == "llama3":
            return _llama3(plain, settings), 1.0
        if self.kind == "yarn":
            return _yarn(plain, self.theta, head_dim, settings)
        return plain, 1.0

    def rotate(self, x_RHE: Tensor, cos_RE: Tensor, sin_RE: Tensor) -> Tensor:
        cos, sin = cos_RE[:, None], sin_RE[:, None]
        if self.interleaved:
            first, second = x_RHE[..., 0::2], x_RHE[..., 1::2]
            return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)
        first, second = x_RHE.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


ORIGINAL = "original_max_position_embeddings"
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL)
YARN = ("beta_fast", "beta_slow", "attention_factor")  # may be left out


def _llama3(plain: Tensor, settings: Mapping[str, float]) -> Tensor:
    """Long waves are stretched, short ones stay, those between are blended (Llama 3.1's model card)."""
    factor, low, high = settings["factor"], settings["low_freq_factor"], settings["high_freq_factor"]
    turns = settings[ORIGINAL] * plain / (2 * math.pi)  # in the original context
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    return blend * plain + (1 - blend) * plain / factor


def _yarn(plain: Tensor, theta: float, head_dim: int, settings: Mapping[str, float]) -> tuple[Tensor, float]:
    factor, original = settings["factor"], settings[ORIGINAL]

    def place(turns: float) -> float:
        return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(0, math.floor(place(settings.get("beta_fast", 32.0))))
    high = min(head_dim - 1, math.ceil(place(settings.get("beta_slow", 1.0))))
    ramp = (torch.arange(head_dim // 2, dtype=torch.float64) - low) / max(high - low, 1e-3)
    stretched = ramp.clamp(0, 1)
    scale = settings.get("attention_factor", 0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
    return stretched * plain / factor + (1 - stretched) * plain, scale


def read_rope(config: Mapping[str, Any], *, interleaved: bool = False) -> Rope:
    """Out of a Hugging Face config.json, old (`rope_theta`, `rope_scaling`) or new (`rope_parameters`)."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"rope_scaling must be a table, got {type(given).__name__}")
    theta = given.get("rope_theta", config.get("rope_theta", 10_000.0))
    kind = given.get("rope_type", given.get("type", "default"))
    numbers = {
        name: float(value)
        for name, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "rope_theta"
    }
    if kind == "yarn":
        numbers.setdefault(ORIGINAL, float(config.get("max_position_embeddings", 2048)))
        if "mscale" in given or given.get("truncate") is False:
            raise ConfigError("rope scaling yarn with mscale or truncate=false is not known here")
    return Rope(theta=float(theta), kind=str(kind), settings=tuple(sorted(numbers.items())), interleaved=interleaved)
