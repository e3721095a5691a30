"""A graph in two at a cut: each side with the nodes and weights that it needs, shared ones on both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from splitrt.errors import ConfigError
from splitrt.nn.graph import Graph, Node, Value
from splitrt.partition.capture import Captured, value_of
from splitrt.partition.cuts import Cut, dependent, is_check


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """head: the model's inputs -> seam; tail: seam -> the model's outputs."""

    head: Captured
    tail: Captured


def divide(captured: Captured, cut: Cut) -> Halves:
    """Joined, the halves give what the whole gives, bit for bit on the same machine. Raises ConfigError."""
    graph = captured.graph
    seam = {one.name for one in cut.seam}
    before = {node.name for node in graph.nodes[: cut.position]}
    inputs = {one.name for one in graph.inputs}
    head = _reaching(graph, cut.seam, stop=inputs, checks=before)
    after = {node.name for node in graph.nodes[cut.position :]}
    tail = _reaching(graph, graph.outputs, stop=seam, checks=after)
    stray = (dependent(graph) & {name for node in tail for name in node.inputs()}) - seam - {n.name for n in tail}
    if stray:
        raise ConfigError(f"a cut's seam must hold all that crosses, {sorted(stray)[0]} is missing at {cut.name}")
    sent = _run(_half(captured, graph.inputs, head, cut.seam), captured.inputs)
    crossing = tuple(_as_sent(value, one) for value, one in zip(cut.seam, sent, strict=True))
    return Halves(
        head=_half(captured, graph.inputs, head, crossing),
        tail=_half(captured, crossing, tail, graph.outputs, sent),
    )


def joined(halves: Halves, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Head, then tail."""
    return _run(halves.tail, _run(halves.head, inputs))


def _as_sent(value: Value, sent: Tensor) -> Value:
    """In the order in memory that it really had: of some operators the tracer foretells another."""
    return (value_of(value.name, sent) if value.shape else None) or value


def _run(half: Captured, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        found: tuple[Tensor, ...] = half.module()(*inputs)
    return found


def _reaching(graph: Graph, wanted: Iterable[Value], stop: set[str], checks: set[str]) -> tuple[Node, ...]:
    """The nodes from which `wanted` can be had, looking back no further than `stop`, and the checks among `checks`."""
    needed = {one.name for one in wanted} - stop
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in stop:
            continue
        if node.name in needed or (node.name in checks and is_check(node)):
            kept.append(node)
            needed.update(set(node.inputs()) - stop)
    return tuple(kept[::-1])


def _half(
    captured: Captured,
    inputs: tuple[Value, ...],
    nodes: tuple[Node, ...],
    outputs: tuple[Value, ...],
    given: tuple[Tensor, ...] | None = None,
) -> Captured:
    read = {name for node in nodes for name in node.inputs()} | {one.name for one in outputs}
    weights = tuple(one for one in captured.graph.weights if one.name in read)
    return Captured(
        graph=Graph(inputs=inputs, weights=weights, nodes=nodes, outputs=outputs),
        weights={one.name: captured.weights[one.name] for one in weights},
        inputs=captured.inputs if given is None else given,
        values=captured.values,
    )
