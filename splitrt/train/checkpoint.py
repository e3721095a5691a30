"""The state of a training phase after an epoch, so that an interrupted run goes on to the same result.

One safetensors file: weights, AdamW's moments, the random generator, and as metadata the epoch and the learning
curve so far. Replaced in one step, so that a crash leaves the one before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW

from splitrt.errors import ConfigError

Curve = list[dict[str, Any]]
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(path: Path, parts: Sequence[nn.Module], optimiser: AdamW, curve: Curve) -> None:
    """After `len(curve)` epochs."""
    tensors = {f"weight.{name}": value for name, value in _named(parts).items()}
    for place, parameter in enumerate(_parameters(optimiser)):
        state = optimiser.state[parameter]
        tensors |= {f"moment.{place}.{key}": state[key] for key in MOMENTS if key in state}
    tensors["random"] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    save_file({name: value.contiguous() for name, value in tensors.items()}, fresh, {"curve": json.dumps(curve)})
    os.replace(fresh, path)


def load_checkpoint(path: Path, parts: Sequence[nn.Module], optimiser: AdamW) -> Curve:
    """Everything as it was, in place; returns the curve so far. Raises ConfigError on another model's checkpoint."""
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            curve: Curve = json.loads((file.metadata() or {})["curve"])
        wanted = {f"weight.{name}": value for name, value in _named(parts).items()}
        _check_alike(wanted, tensors)
        for name, value in wanted.items():
            value.data.copy_(tensors[name])
        for place, parameter in enumerate(_parameters(optimiser)):
            if f"moment.{place}.step" in tensors:
                given = {key: tensors[f"moment.{place}.{key}"] for key in MOMENTS}
                optimiser.state[parameter] = given
        torch.set_rng_state(tensors["random"])
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise ConfigError(f"checkpoint {path} is not one of this recipe: {error}; delete it to start anew") from error
    return curve


def _check_alike(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Names and shapes, before anything is changed: copying would broadcast, and leave out what is too much."""
    shapes = {name: value.shape for name, value in given.items() if name.startswith("weight.")}
    if odd := sorted(wanted.keys() ^ shapes.keys()):
        raise ValueError(f"{odd[0]} is {'missing' if odd[0] in wanted else 'unknown'}")
    for name, value in wanted.items():
        if value.shape != shapes[name]:
            raise ValueError(f"{name} must have shape {tuple(value.shape)}, got {tuple(shapes[name])}")


def _named(parts: Sequence[nn.Module]) -> dict[str, Tensor]:
    return {f"{place}.{name}": value for place, part in enumerate(parts) for name, value in part.state_dict().items()}


def _parameters(optimiser: AdamW) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
