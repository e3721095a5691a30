"""A network as data: a list of ATen operators over named values, and the interpreter that runs it.

What `torch.export` gives is kept as JSON (operators, arguments, shapes) and safetensors (weights), so that a graph can
be stored, divided and run where the user's Python is not. Nothing in it is code: an operator is a name, and only
functional ATen operators (and arithmetic on sizes) that the installed torch knows are run. No pickle anywhere.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from splitrt.errors import BundleError, InvalidInput

FORMAT = 1
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Numbers that a network reads from its data, as Python holds them; between graphs they are tensors of no dimensions.
SCALARS = {"py_int": torch.int64, "py_float": torch.float64, "py_bool": torch.bool}
# On sizes and other numbers that a network reads from its data.
ARITHMETIC = (
    "add",
    "sub",
    "mul",
    "floordiv",
    "truediv",
    "mod",
    "neg",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "and_",
    "or_",
)
SYMBOLIC = ("sym_int", "sym_float", "sym_max", "sym_min", "sym_not", "sym_ite")
# Functional and of ATen, and yet not for a file to ask for: it opens other files.
REFUSED = frozenset({"from_file"})
RETURNED = ("Tensor", "List[Tensor]", "int", "float", "bool", "number")
CHECKS = ("_assert_scalar", "_assert_async", "sym_constrain_range_for_size", "sym_constrain_range")  # return nothing
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


class GraphModule(nn.Module):
    """Runs a graph: tensors in the order of its inputs -> a tuple in the order of its outputs.

    Numbers come and go as tensors of no dimensions. Values are let go after their last use.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph = graph
        missing = [one.name for one in graph.weights if one.name not in weights]
        if missing:
            raise BundleError(f"a graph's weights must all be there, missing {missing[0]!r}")
        self._names = {f"weight_{place}": one.name for place, one in enumerate(graph.weights)}
        for ours, name in self._names.items():
            self.register_buffer(ours, weights[name], persistent=False)
        self._steps = [
            (node, resolve(node.op), last) for node, last in zip(graph.nodes, _last_uses(graph), strict=True)
        ]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        _check_given(self.graph.inputs, given)
        values: dict[str, Any] = {name: getattr(self, ours) for ours, name in self._names.items()}
        for wanted, one in zip(self.graph.inputs, given, strict=True):
            values[wanted.name] = one.item() if wanted.dtype in SCALARS else one
        here = given[0].device if given else torch.device("cpu")
        for node, run, last in self._steps:
            values[node.name] = run(*_filled(node.args, values, here), **_filled(dict(node.kwargs), values, here))
            for name in last:
                del values[name]
        found = [(values[one.name], SCALARS.get(one.dtype)) for one in self.graph.outputs]
        return tuple(one if isinstance(one, Tensor) else torch.tensor(one, dtype=dtype) for one, dtype in found)


def laid_out(inputs: Sequence[Value], given: Sequence[Any]) -> list[Tensor]:
    """Copies of numpy arrays in torch's own memory, in the order that the inputs had there when captured.

    Raises InvalidInput on another number of them and on another shape.
    """
    shapes = [one.shape for one in inputs]
    if [one.shape for one in given] != shapes:
        raise InvalidInput(f"a graph's inputs must have shapes {shapes}, got {[one.shape for one in given]}")
    pairs = zip(inputs, given, strict=True)
    copies = [(torch.tensor(one.transpose(value.order)).contiguous(), value.order) for value, one in pairs]
    return [copy.permute(_inverse(order)) for copy, order in copies]


def stored(graph: Graph, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for safetensors, which keeps no order in memory: dimensions in that order, each tensor by itself."""
    kept: dict[str, Tensor] = {}
    taken: set[int] = set()
    for one in graph.weights:
        tensor = weights[one.name].permute(one.order).contiguous()
        memory = tensor.untyped_storage().data_ptr()
        kept[one.name] = tensor.clone() if memory in taken else tensor  # views of one weight: safetensors takes none
        taken.add(memory)
    return kept


def restored(graph: Graph, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `stored`. Raises BundleError on a missing one and on another shape."""
    found = {}
    for one in graph.weights:
        given, wanted = weights.get(one.name), tuple(one.shape[dim] for dim in one.order)
        if given is None or tuple(given.shape) != wanted or str(given.dtype) != f"torch.{one.dtype}":
            raise BundleError(
                f"weight {one.name} must be {one.dtype} {wanted}, got {given if given is None else given.shape}"
            )
        # A copy: torch's own memory is aligned, a file's is not, and matrix products differ in bits by alignment.
        found[one.name] = given.clone().permute(_inverse(one.order))
    return found


def _inverse(order: tuple[int, ...]) -> list[int]:
    return [order.index(dim) for dim in range(len(order))]


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


def refs(argument: Any) -> list[Ref]:
    """All references in an argument, in order."""
    if isinstance(argument, Ref):
        return [argument]
    if isinstance(argument, dict):
        argument = tuple(argument.values())
    if isinstance(argument, list | tuple):
        return [ref for one in argument for ref in refs(one)]
    return []


def _check_given(inputs: Sequence[Value], given: Sequence[Tensor]) -> None:
    """Operators hold the sizes that were captured: others would be an error of theirs, or a wrong answer."""
    if len(given) != len(inputs):
        raise InvalidInput(f"a graph's inputs must be {len(inputs)} tensors, got {len(given)}")
    for wanted, one in zip(inputs, given, strict=True):
        dtype = SCALARS.get(wanted.dtype) or WORDS["dtype"][wanted.dtype]
        if tuple(one.shape) != wanted.shape or one.dtype != dtype:
            name = str(one.dtype).removeprefix("torch.")
            raise InvalidInput(
                f"input {wanted.name} must be {wanted.dtype} {wanted.shape}, got {name} {tuple(one.shape)}"
            )


def _last_uses(graph: Graph) -> list[list[str]]:
    """For each node, the values that nothing after it reads."""
    kept = {one.name for one in graph.outputs}
    last: list[list[str]] = []
    for node in reversed(graph.nodes):
        names = [name for name in (*node.inputs(), node.name) if name not in kept]
        kept.update(names)
        last.append(list(dict.fromkeys(names)))
    return last[::-1]


def _filled(argument: Any, values: Mapping[str, Any], here: torch.device) -> Any:
    """With values in place of references, and this device in place of the one that was captured on."""
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, tuple | list):
        return type(argument)([_filled(one, values, here) for one in argument])
    if isinstance(argument, dict):
        return {key: _filled(one, values, here) for key, one in argument.items()}
    return here if isinstance(argument, torch.device) else argument


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
