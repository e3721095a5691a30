"""A half's state dict out of a published checkpoint whose names are not ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from splitrt.errors import ConfigError


def adopt(module: nn.Module, weights: Mapping[str, Tensor], original: Callable[[str], str]) -> dict[str, Tensor]:
    """The state dict of `module` with the checkpoint's values; `original` gives the checkpoint's name for one of ours.

    Names in the checkpoint that the module does not have are the other half's and stay unread.
    Raises ConfigError naming what is missing or of another shape.
    """
    adopted: dict[str, Tensor] = {}
    for name, own in module.state_dict().items():
        if name.endswith("num_batches_tracked"):  # checkpoints drop it: nothing but a momentum of None reads it
            adopted[name] = own
            continue
        theirs = original(name)
        if theirs not in weights:
            raise ConfigError(f"weights must hold {theirs!r} (here {name!r}), got {len(weights)} names without it")
        if weights[theirs].shape != own.shape:
            wanted, given = tuple(own.shape), tuple(weights[theirs].shape)
            raise ConfigError(f"weights {theirs!r} (here {name!r}) must have shape {wanted}, got {given}")
        adopted[name] = weights[theirs]
    return adopted
