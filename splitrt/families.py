"""Families of models that can be split, found by name through entry points.

A bundle names a family, never a dotted path: the installed entry points `splitrt.head_models` and
`splitrt.tail_models` decide which module a name means. Only training, partitioning and the torch
runners come here; a device on ONNX Runtime imports no family at all.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib.metadata import entry_points
from types import ModuleType

from splitrt.errors import ConfigError

HEADS = "splitrt.head_models"
TAILS = "splitrt.tail_models"
WORD = re.compile(r"[A-Za-z0-9_.-]{1,40}")


def names() -> list[str]:
    """Every family with both halves installed."""
    heads = {point.name for point in entry_points(group=HEADS)}
    return sorted(heads & {point.name for point in entry_points(group=TAILS)})


def head_module(name: str) -> ModuleType:
    """The module whose `build(**arguments)` gives a splitrt.nn.split.Front, the pieces of a device.

    `pretrained(weights, **arguments)` maps published weights to its names; `PIXELS` is what these weights want.
    """
    return _load(HEADS, name)


def tail_module(name: str) -> ModuleType:
    """The module whose `build(**arguments)` gives a splitrt.nn.split.Back, the pieces of a server."""
    return _load(TAILS, name)


def parse(text: str) -> tuple[str, dict[str, int | str]]:
    """`resnet:depth=20,cut=1` -> family and arguments: whole numbers, or words. Raises ConfigError."""
    family, _, rest = text.partition(":")
    arguments: dict[str, int | str] = {}
    for pair in filter(None, rest.split(",")):
        key, is_pair, value = pair.partition("=")
        if not (key.isidentifier() and is_pair and WORD.fullmatch(value)):
            raise ConfigError(f"a family's arguments are name=value,.. with numbers or words, got {text!r}")
        arguments[key] = int(value) if value.isascii() and value.isdigit() else value
    return family, arguments


def _load(group: str, name: str) -> ModuleType:
    found = entry_points(group=group, name=name)
    if not found:
        near = get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"family must be one of {', '.join(names())}, got {name!r}{hint}")
    module = next(iter(found)).load()
    if not isinstance(module, ModuleType):
        raise ConfigError(f"entry point {name!r} of {group} must name a module, got {module!r}")
    return module
