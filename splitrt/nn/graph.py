"""A network as data: a list of ATen operators over named values.

What `torch.export` gives is kept as JSON (operators, arguments, shapes) and safetensors (weights), so that a graph can
be stored, divided and run (`splitrt.nn.interpreter`) where the user's Python is not. Nothing in it is code: an operator
is a name, and what names may be given is for `splitrt.nn.operators` to say. No pickle anywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from splitrt.errors import BundleError
from splitrt.nn.operators import NAME, resolve

FORMAT = 1
# Numbers that a network reads from its data, as Python holds them; between graphs they are tensors of no dimensions.
SCALARS = {"py_int": torch.int64, "py_float": torch.float64, "py_bool": torch.bool}
ENUMS = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}
# Their words as a closed list: a file's word is looked up here, never as an attribute of torch.
WORDS: dict[str, dict[str, Any]] = {
    word: {str(one).removeprefix("torch."): one for one in vars(torch).values() if isinstance(one, kind)}
    for word, kind in ENUMS.items()
}


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that is a value: an input, a weight or another node's result."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor's dtype (`float32`) and shape, or a number: dtype `py_int`, `py_float` or `py_bool`, no shape."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()  # dimensions from the slowest in memory to the fastest: results depend on it in bits

    @property
    def bytes(self) -> int:
        size = 8 if self.dtype in SCALARS else int(getattr(torch, self.dtype).itemsize)
        return math.prod(self.shape) * size

    @property
    def is_float(self) -> bool:
        return self.dtype not in SCALARS and bool(getattr(torch, self.dtype).is_floating_point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator: `aten.conv2d.default`, `operator.getitem`, `torch.sym_max`."""

    name: str
    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""  # where in the user's model

    def inputs(self) -> list[str]:
        """Names of the values that it reads, each once."""
        return list(dict.fromkeys(ref.name for ref in refs((self.args, tuple(self.kwargs.values())))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes in an order in which they can run. Weights are named, and lie elsewhere."""

    inputs: tuple[Value, ...]
    weights: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]

    def to_json(self) -> bytes:
        table = {
            "format": FORMAT,
            "inputs": [_value(one) for one in self.inputs],
            "weights": [_value(one) for one in self.weights],
            "nodes": [[n.name, n.op, _plain(n.args), _plain(dict(n.kwargs)), n.module] for n in self.nodes],
            "outputs": [_value(one) for one in self.outputs],
        }
        return json.dumps(table, separators=(",", ":"), allow_nan=False).encode()

    @staticmethod
    def from_json(data: bytes) -> Graph:
        """Raises BundleError on what `to_json` does not write, and on operators that are not for a file to ask for."""
        try:
            table = json.loads(data, parse_constant=_no_number)
            if table["format"] != FORMAT:
                raise BundleError(f"a graph must be of format {FORMAT}, got {table['format']!r}")
            graph = Graph(
                inputs=tuple(_read_value(one) for one in table["inputs"]),
                weights=tuple(_read_value(one) for one in table["weights"]),
                nodes=tuple(_read_node(one) for one in table["nodes"]),
                outputs=tuple(_read_value(one) for one in table["outputs"]),
            )
            graph.check()
            return graph
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise BundleError(f"a graph must be what splitrt writes: {error!r}"[:500]) from error

    def check(self) -> None:
        """Every value is there before it is read, once, and every operator may run. Raises BundleError."""
        known: set[str] = set()
        for one in (*self.weights, *self.inputs):
            if one.name in known:
                raise BundleError(f"a graph's values must have names of their own, got {one.name!r} twice")
            known.add(one.name)
        for node in self.nodes:
            for name in node.inputs():
                if name not in known:
                    raise BundleError(f"a graph's values must come before what reads them: {node.name} reads {name!r}")
            if node.name in known or not NAME.fullmatch(node.name):
                raise BundleError(f"a graph's values must have names of their own, got {node.name!r}")
            known.add(node.name)
            resolve(node.op)
        for one in self.outputs:
            if one.name not in known:
                raise BundleError(f"a graph's outputs must be among its values, got {one.name!r}")


def refs(argument: Any) -> list[Ref]:
    """All references in an argument, in order."""
    if isinstance(argument, Ref):
        return [argument]
    if isinstance(argument, dict):
        argument = tuple(argument.values())
    if isinstance(argument, list | tuple):
        return [ref for one in argument for ref in refs(one)]
    return []


def _value(value: Value) -> list[Any]:
    return [value.name, value.dtype, list(value.shape), list(value.order)]


def _read_value(row: Sequence[Any]) -> Value:
    name, dtype, shape, order = row
    if not isinstance(name, str) or (dtype not in SCALARS and dtype not in WORDS["dtype"]):
        raise BundleError(f"a value must have a name and one of torch's dtypes, got {name!r} and {dtype!r}")
    if not all(type(size) is int and size >= 0 for size in shape) or sorted(order) != [*range(len(shape))]:
        raise BundleError(f"a value must have sizes, and their order in memory, got {shape!r} and {order!r}")
    return Value(name=name, dtype=dtype, shape=tuple(shape), order=tuple(order))


def _read_node(row: Sequence[Any]) -> Node:
    name, op, args, kwargs, module = row
    args, kwargs = _read(args), _read(kwargs)
    if not all(isinstance(one, str) for one in (name, op, module)) or not isinstance(args, tuple):
        raise BundleError(f"a node must have a name, an operator and arguments, got {name!r} and {op!r}")
    if not isinstance(kwargs, dict):
        raise BundleError(f"a node's keyword arguments must have names, got {name!r}")
    return Node(name=name, op=op, args=args, kwargs=kwargs, module=module)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _plain(argument: Any) -> Any:
    """As JSON: references and torch's own words are objects of one key; lists and tuples are lists."""
    if isinstance(argument, Ref):
        return {"ref": argument.name}
    if isinstance(argument, tuple | list):
        return [_plain(one) for one in argument]
    if isinstance(argument, dict):
        return {"named": {key: _plain(one) for key, one in argument.items()}}
    for word, kind in ENUMS.items():
        if isinstance(argument, kind):
            return {word: str(argument).removeprefix("torch.")}
    if isinstance(argument, torch.device):
        return {"device": "any"}
    if isinstance(argument, float) and not math.isfinite(argument):
        return {"float": str(argument)}
    if argument is None or isinstance(argument, bool | int | float | str):
        return argument
    raise TypeError(f"an argument of {type(argument).__name__} cannot be stored")


def _read(argument: Any) -> Any:
    if isinstance(argument, list):
        return tuple(_read(one) for one in argument)
    if not isinstance(argument, dict):
        return argument
    ((word, text),) = argument.items()
    if word == "named":
        return {key: _read(one) for key, one in text.items()}
    if word == "ref":
        return Ref(str(text))
    if word == "float":
        return float(text)
    if word == "device":
        return torch.device("cpu")
    if word not in WORDS or text not in WORDS[word]:
        raise BundleError(f"an argument must be a value, a number or a word of torch's, got {argument!r}")
    return WORDS[word][text]
