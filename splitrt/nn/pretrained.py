"""A half's state dict out of a published checkpoint whose names, and perhaps whose form, are not ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from splitrt.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint's tensors below a prefix: with `stem.`, `take("bn.weight", ..)` is `stem.bn.weight`."""

    weights: Mapping[str, Tensor]
    prefix: str
    here: str  # our name of what the prefix stands for

    def below(self, name: str) -> Published:
        return Published(self.weights, f"{self.prefix}{name}.", self.here)

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.weights

    def take(self, name: str, *shape: int) -> Tensor:
        """Raises ConfigError where it is missing or of another shape."""
        return _value(self.weights, self.prefix + name, self.here, shape)


@runtime_checkable
class Folding(Protocol):
    """A module that holds in another form what a checkpoint has: one convolution for several branches, say."""

    def fold(self, published: Published) -> dict[str, Tensor]:
        """Values by this module's own names; `published` is below the checkpoint's name of this module."""
        ...


def adopt(module: nn.Module, weights: Mapping[str, Tensor], original: Callable[[str], str]) -> dict[str, Tensor]:
    """The state dict of `module` with the checkpoint's values; `original` gives the checkpoint's name for one of ours.

    Parts that are `Folding` make their values themselves. Names in the checkpoint that the module does not have are
    the other half's and stay unread. Raises ConfigError naming what is missing or of another shape.
    """
    folded: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        if isinstance(part, Folding):
            values = part.fold(Published(weights, f"{original(path)}.", path))
            folded |= {f"{path}.{name}": value for name, value in values.items()}
    adopted: dict[str, Tensor] = {}
    for name, own in module.state_dict().items():
        if name.endswith("num_batches_tracked"):  # checkpoints drop it: nothing but a momentum of None reads it
            adopted[name] = own
        elif name in folded:
            adopted[name] = folded[name].to(own.dtype)
        else:
            adopted[name] = _value(weights, original(name), name, own.shape)
    return adopted


def _value(weights: Mapping[str, Tensor], theirs: str, here: str, shape: tuple[int, ...]) -> Tensor:
    if theirs not in weights:
        raise ConfigError(f"weights must hold {theirs!r} (here {here!r}), got {len(weights)} names without it")
    if weights[theirs].shape != shape:
        wanted, given = tuple(shape), tuple(weights[theirs].shape)
        raise ConfigError(f"weights {theirs!r} (here {here!r}) must have shape {wanted}, got {given}")
    return weights[theirs]
