"""A user's torch module to a graph, on the CPU, by `torch.export`.

The graph is functional (writes in place are gone), of static shapes (those of the sample inputs), and holds ATen's
operators as the module called them: nothing is decomposed that would change a bit of the result. What cannot be
captured says which operator or control flow, where in the user's source, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from splitrt.errors import CaptureError
from splitrt.nn.graph import Graph, Node, Ref, Value
from splitrt.nn.interpreter import GraphModule
from splitrt.nn.operators import CHECKS, resolve
from splitrt.partition.tracing import line_of, trace

NUMBERS: dict[type, str] = {
    **{torch.SymInt: "py_int", torch.SymFloat: "py_float", torch.SymBool: "py_bool"},
    **{int: "py_int", float: "py_float", bool: "py_bool"},
}
TRUE_ANYWAY = ("aten._assert_tensor_metadata.default",)  # of static shapes and dtypes: checked once, at capture


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A graph with its weights, the inputs it was captured on, and what its nodes give."""

    graph: Graph
    weights: Mapping[str, Tensor]
    inputs: tuple[Tensor, ...]
    values: Mapping[str, Value | None]  # of every input and node; None: several at once, or of a size that varies

    def module(self) -> GraphModule:
        return GraphModule(self.graph, self.weights)


def capture(module: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any] | None = None) -> Captured:
    """`module(*inputs, **keywords)` as a graph. Raises CaptureError saying what stands in the way, and where.

    The module must be in evaluation mode. Its outputs are the tensors of what it returns, in pytree order.
    """
    program = trace(module, inputs, dict(keywords or {}))
    weights, aliases = _weights(program)
    graph, values = _graph(program, aliases)
    graph, weights = _used(graph, weights)
    leaves = pytree.tree_leaves(program.example_inputs)
    given = tuple(one.detach() if one.requires_grad else one for one in leaves if isinstance(one, Tensor))
    captured = Captured(graph=graph, weights=weights, inputs=given, values=values)
    _check_answer(module, inputs, dict(keywords or {}), captured)
    return captured


def _check_answer(module: nn.Module, inputs: Any, keywords: dict[str, Any], captured: Captured) -> None:
    """A module may ask whether it is being traced, and do something else then: its graph is not what it is."""
    inputs, keywords = pytree.tree_map_only(Tensor, torch.clone, (inputs, keywords))  # it may write to them
    with torch.inference_mode():
        wanted = [one for one in pytree.tree_leaves(module(*inputs, **keywords)) if isinstance(one, Tensor)]
        given = captured.module()(*captured.inputs)
    for one, other in zip(given, wanted, strict=True):
        if one.dtype.is_floating_point and not torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True):
            apart = float((one - other).abs().max())
            raise CaptureError(
                f"a model must do the same traced and run, its outputs differ by {apart:.1e}: it may ask "
                "torch.compiler.is_exporting or the like"
            )


def _weights(program: torch.export.ExportedProgram) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by name, tied ones once; and for every graph placeholder the name of its weight."""
    found: dict[str, Tensor] = {}
    by_memory: dict[tuple[Any, ...], str] = {}
    aliases: dict[str, str] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT or spec.target is None:
            continue
        held = program.state_dict if spec.target in program.state_dict else program.constants
        tensor = held[spec.target].detach()
        where = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        name = by_memory.setdefault(where, spec.target) if tensor.numel() else spec.target
        found.setdefault(name, tensor)
        aliases[spec.arg.name] = name
    return found, aliases


def _graph(program: torch.export.ExportedProgram, aliases: Mapping[str, str]) -> tuple[Graph, dict[str, Value | None]]:
    signature = program.graph_signature
    users = [s.arg.name for s in signature.input_specs if s.kind is InputKind.USER_INPUT and hasattr(s.arg, "name")]
    names = {name: f"w:{alias}" for name, alias in aliases.items()}
    values: dict[str, Value | None] = {}
    nodes: list[Node] = []
    inputs: list[Value] = []
    wanted: list[Value] = []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in users and isinstance(node.meta["val"], Tensor):
                values[node.name] = value_of(node.name, node.meta["val"])
                inputs.append(_known(values[node.name], node.name))
        elif node.op == "call_function" and str(node.target) not in TRUE_ANYWAY:
            nodes.append(_node(node, names))
            values[node.name] = value_of(node.name, node.meta.get("val"))
        elif node.op == "output":
            kept = [s.arg.name for s in signature.output_specs if s.kind is OutputKind.USER_OUTPUT and _is_tensor(s)]
            for name in kept:
                spec = values.get(name) or (value_of(names[name], _weight(program, name)) if name in names else None)
                wanted.append(_known(spec, name))
    if not wanted:
        raise CaptureError("a model must return at least one tensor, got none")
    graph = Graph(
        inputs=tuple(inputs),
        weights=(),
        nodes=_near_their_producer(tuple(nodes)),
        outputs=tuple(wanted),
    )
    return graph, values


def _weight(program: torch.export.ExportedProgram, placeholder: str) -> Any:
    return next(node.meta["val"] for node in program.graph.nodes if node.name == placeholder)


def _is_tensor(spec: Any) -> bool:
    return type(spec.arg).__name__ == "TensorArgument"


def _known(value: Value | None, name: str) -> Value:
    if value is None:
        raise CaptureError(f"inputs and outputs must be of fixed sizes, but {name}'s depends on the data")
    return value


def _node(node: torch.fx.Node, names: Mapping[str, str]) -> Node:
    def plain(argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return Ref(names.get(argument.name, argument.name))
        if isinstance(argument, list | tuple):
            return tuple(plain(one) for one in argument)
        if isinstance(argument, dict):
            return {key: plain(one) for key, one in argument.items()}
        return argument

    op = _op(node)
    try:
        run = resolve(op)
    except Exception as error:
        line = line_of(node)
        raise CaptureError(
            f"a model must be made of ATen's operators, got {node.target}{line}: replace it, or put it on one side "
            "as a model of its own"
        ) from error
    if torch.Tag.nondeterministic_seeded in getattr(run, "tags", ()) and _draws(node):
        raise CaptureError(f"a model must give the same answer twice, but {op} draws random numbers{line_of(node)}")
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return Node(
        name=node.name,
        op=op,
        args=plain(node.args),
        kwargs={key: plain(one) for key, one in node.kwargs.items()},
        module=str(stack[-1][0]) if stack else "",
    )


def _op(node: torch.fx.Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    module = getattr(target, "__module__", "")
    space = {"_operator": "operator", "math": "math", "torch": "torch"}.get(module, module)
    return f"{space}.{getattr(target, '__name__', target)}"


def _draws(node: torch.fx.Node) -> bool:
    """Operators with dropout inside are tagged random even where their probability is nought."""
    target: Any = node.target
    arguments = dict(zip((one.name for one in target._schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    if "train" in arguments:
        return bool(arguments["train"])
    if "training" in arguments:
        return bool(arguments["training"])
    return "dropout_p" not in {one.name for one in target._schema.arguments} or arguments.get("dropout_p", 0.0) != 0.0


def value_of(name: str, given: Any) -> Value | None:
    """None for several at once and for a tensor whose size varies."""
    if isinstance(given, Tensor):
        if not all(isinstance(size, int) for size in given.shape):
            return None
        strides = list(given.stride()) if given.numel() else []
        order = sorted(range(given.ndim), key=lambda dim: -int(strides[dim])) if strides else range(given.ndim)
        return Value(
            name=name,
            dtype=str(given.dtype).removeprefix("torch."),
            shape=tuple(int(size) for size in given.shape),
            order=tuple(order),
        )
    return Value(name=name, dtype=NUMBERS[type(given)]) if type(given) in NUMBERS else None


def _near_their_producer(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Each item of a node that gives several comes right after it: no cut falls between."""
    items: dict[str, list[Node]] = {}
    for node in nodes:
        if node.op == "operator.getitem":
            items.setdefault(node.inputs()[0], []).append(node)
    ordered: list[Node] = []

    def put(node: Node) -> None:
        ordered.append(node)
        for item in items.get(node.name, []):
            put(item)

    for node in nodes:
        if node.op != "operator.getitem":
            put(node)
    return tuple(ordered)


def _used(graph: Graph, weights: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """Without what no output and no check needs. Weights are named as they are from here on."""
    needed = {one.name for one in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in needed or node.op.split(".")[1] in CHECKS:
            kept.append(node)
            needed.update(node.inputs())
    used = {f"w:{name}": tensor for name, tensor in weights.items() if f"w:{name}" in needed}
    specs = tuple(_known(value_of(name, tensor), name) for name, tensor in used.items())
    return replace(graph, nodes=tuple(kept[::-1]), weights=specs), used
