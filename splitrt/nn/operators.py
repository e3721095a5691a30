"""Which operators a graph may name, and what a name means: functional ones of ATen, and arithmetic on numbers."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch

from splitrt.errors import BundleError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# On sizes and other numbers that a network reads from its data.
ARITHMETIC = (
    "add",
    "sub",
    "mul",
    "floordiv",
    "truediv",
    "mod",
    "neg",
    "and_",
    "or_",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
)
SYMBOLIC = ("sym_int", "sym_float", "sym_max", "sym_min", "sym_not", "sym_ite")
# Functional and of ATen, and yet not for a file to ask for: it opens other files.
REFUSED = frozenset({"from_file"})
RETURNED = ("Tensor", "List[Tensor]", "int", "float", "bool", "number")
CHECKS = ("_assert_scalar", "_assert_async", "sym_constrain_range_for_size", "sym_constrain_range")  # return nothing


def resolve(op: str) -> Callable[..., Any]:
    """The operator of that name. Raises BundleError on one that may not run or that this torch does not have."""
    space, _, rest = op.partition(".")
    if space == "operator" and rest in (*ARITHMETIC, "getitem"):
        found: Callable[..., Any] = getattr(operator, rest)
        return found
    if space == "torch" and rest in SYMBOLIC:
        symbolic: Callable[..., Any] = getattr(torch, rest)
        return symbolic
    name, _, overload = rest.partition(".")
    if space == "aten" and NAME.fullmatch(name) and NAME.fullmatch(overload) and name not in REFUSED:
        try:
            aten = getattr(getattr(torch.ops.aten, name), overload)
        except AttributeError:
            raise BundleError(f"operator {op} is not one of torch {torch.__version__}") from None
        if isinstance(aten, torch._ops.OpOverload) and not aten._schema.is_mutable:
            returned = [str(one.type) for one in aten._schema.returns]
            if set(returned) <= {*RETURNED} and (returned or name in CHECKS):
                return aten
    raise BundleError(f"operator must be a functional one of ATen, got {op!r}")
