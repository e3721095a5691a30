"""Where a graph can be cut, and what crosses there: liveness at every position.

A value is live at a position when something after it reads what something before it made. What depends on no input
(weights, masks, positions) is made on both sides and never sent; of a value and views of it one crosses, and what only
re-arranges is done after the link. So a residual edge, a dense block or a scale of several is counted once, by bytes.

DADS (Hu et al., INFOCOM 2019) sees the same graph as edges to cut at least cost; an order in which the network runs has
few enough positions to look at all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splitrt.errors import ConfigError
from splitrt.nn.graph import CHECKS, Graph, Node, Value
from splitrt.partition.capture import Captured

# Operators that only re-arrange or widen one value: exact wherever they are done.
ARRANGING = frozenset(
    {
        *("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints"),
        *("aten.unflatten.int", "aten.transpose.int", "aten.t.default", "aten.permute.default", "aten.movedim.int"),
        *("aten.unsqueeze.default", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims"),
        *("aten.expand.default", "aten.alias.default", "aten.detach.default", "aten.dropout.default"),
        *("aten.clone.default", "aten.contiguous.default", "aten._to_copy.default", "aten.to.dtype"),
        *("aten.to.device", "aten.to.dtype_layout", "aten.slice.Tensor", "aten.select.int", "aten.narrow.default"),
    }
)
START, END = "input", "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A position: the head runs the graph's nodes before it."""

    position: int
    name: str  # of the last node before it; `input`: all on the server; `output`: all on the device
    module: str  # of that node, in the user's model
    seam: tuple[Value, ...]

    @property
    def bytes(self) -> int:
        """What crosses as it is, without quantisation."""
        return sum(value.bytes for value in self.seam)

    @property
    def fits_bottleneck(self) -> bool:
        """One map of channels, or one row of vectors, crosses: what a bottleneck can be trained for."""
        return len(self.seam) == 1 and self.seam[0].is_float and len(self.seam[0].shape) in (3, 4)


def cuts(captured: Captured) -> list[Cut]:
    """Every position at which something else crosses than at the one before, the first `input`, the last `output`.

    Left out: where a value of varying size would cross, and between a node that gives several values and those.
    """
    graph = captured.graph
    fed = dependent(graph)
    known = {one.name: one for one in graph.inputs}
    found = [Cut(position=0, name=START, module="", seam=graph.inputs)]
    live_at = _live(graph, fed)
    nodes = {node.name: node for node in graph.nodes}
    for place, node in enumerate(graph.nodes):
        known |= {node.name: value} if (value := captured.values.get(node.name)) else {}
        if node.name not in fed or place + 1 == len(graph.nodes):
            continue
        crossing = _roots(live_at[place + 1], nodes, captured.values, known)
        if not crossing or not all(name in known for name in crossing):
            continue
        seam = tuple(known[name] for name in sorted(crossing, key=list(known).index))
        if seam != found[-1].seam:
            found.append(Cut(position=place + 1, name=node.name, module=node.module, seam=seam))
    found.append(Cut(position=len(graph.nodes), name=END, module="", seam=graph.outputs))
    return found


def find_cut(found: list[Cut], wanted: str) -> Cut:
    """By name, by number among them, or after a module of the user's model. Raises ConfigError with near ones."""
    for cut in found:
        if wanted == cut.name:
            return cut
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(found):
        return found[int(wanted)]
    inside = [cut for cut in found if cut.module == wanted or cut.module.startswith(f"{wanted}.")]
    if inside:
        return inside[-1]
    from difflib import get_close_matches

    names = list(dict.fromkeys(name for cut in found for name in (cut.name, cut.module) if name))
    near = get_close_matches(wanted, names, n=3, cutoff=0.3)
    raise ConfigError(
        f"a cut must be 0 to {len(found) - 1}, a node or a module of the model, got {wanted!r}"
        + (f"; near: {', '.join(near)}" if near else "")
    )


def dependent(graph: Graph) -> set[str]:
    """Names of the values that depend on an input."""
    fed = {one.name for one in graph.inputs}
    for node in graph.nodes:
        if fed.intersection(node.inputs()):
            fed.add(node.name)
    return fed


def is_check(node: Node) -> bool:
    return node.op.split(".")[1] in CHECKS


def _live(graph: Graph, fed: set[str]) -> list[set[str]]:
    """For each position, what was made before it and is read after it."""
    live = {one.name for one in graph.outputs} & fed
    after = [set(live)]
    for node in reversed(graph.nodes):
        live = live - {node.name} | ({*node.inputs()} & fed)
        after.append(set(live))
    return after[::-1]


def _roots(
    live: set[str],
    nodes: Mapping[str, Node],
    values: Mapping[str, Value | None],
    known: Mapping[str, Value],
) -> set[str]:
    """What must cross for `live` to be had on the other side: sources in place of what re-arranges them."""
    roots = set(live)
    changed = True
    while changed:
        changed = False
        for name in sorted(roots):
            source = _source(nodes.get(name))
            if source is None or source not in known:
                continue
            value, before = values.get(name), known[source]
            if source in roots or value is None or before.bytes <= value.bytes:
                roots = roots - {name} | {source}
                changed = True
    return roots


def _source(node: Node | None) -> str | None:
    """Of a node that only re-arranges one value, that value."""
    if node is None or node.op not in ARRANGING:
        return None
    read = node.inputs()
    return read[0] if len(read) == 1 else None
