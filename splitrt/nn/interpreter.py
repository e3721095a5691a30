"""Running a graph on torch, bit for bit as the module that it was captured from; and its weights on their way to disk.

Kernels differ in bits by the order of a tensor's dimensions in memory and by its alignment, so both are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splitrt.errors import BundleError, InvalidInput
from splitrt.nn.graph import SCALARS, WORDS, Graph, Ref, Value
from splitrt.nn.operators import resolve


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
