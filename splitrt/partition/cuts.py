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
from splitrt.nn.graph import Graph, Node, Value
from splitrt.nn.operators import CHECKS
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

    Left out: where a value of varying size would cross, between a node that gives several values and those, and where
    something would cross that is then read by its place in memory (`as_strided`), which a link does not keep.
    """
    graph = captured.graph
    fed = dependent(graph)
    known = {one.name: one for one in graph.inputs}
    found = [Cut(position=0, name=START, module="", seam=graph.inputs)]
    live_at = _live(graph, fed)
    nodes = {node.name: node for node in graph.nodes}
    strided = _strided(graph, nodes)
    for place, node in enumerate(graph.nodes):
        known |= {node.name: value} if (value := captured.values.get(node.name)) else {}
        if node.name not in fed or place + 1 == len(graph.nodes):
            continue
        crossing = _roots(live_at[place + 1], nodes, captured.values, known)
        if not crossing or not all(name in known for name in crossing):
            continue
        if any(after > place and names & crossing for after, names in strided):
            continue
        seam = tuple(known[name] for name in sorted(crossing, key=list(known).index))
        if seam != found[-1].seam:
            found.append(Cut(position=place + 1, name=node.name, module=node.module, seam=seam))
    found.append(Cut(position=len(graph.nodes), name=END, module="", seam=tuple(dict.fromkeys(graph.outputs))))
    return found


def candidates(captured: Captured, found: list[Cut], most: int = 10) -> list[Cut]:
    """Cuts worth measuring: at which fewer bytes cross than at any before, or than at any after (for servers slower
    than the device), then those that fit a bottleneck, evenly spread. The first is always among them, the last never.
    """
    inner = _settled(captured, found[:-1])
    chosen = {inner[0].position: inner[0]}
    for row in (inner, inner[::-1]):
        least = row[0].bytes
        for cut in row[1:]:
            if cut.bytes < least:
                least = cut.bytes
                chosen[cut.position] = cut
    fitting = [cut for cut in inner if cut.fits_bottleneck and cut.position not in chosen]
    room = max(0, most - len(chosen))
    for place in range(min(room, len(fitting))):
        cut = fitting[place * len(fitting) // min(room, len(fitting))]
        chosen[cut.position] = cut
    return [chosen[position] for position in sorted(chosen)]


def _settled(captured: Captured, found: list[Cut]) -> list[Cut]:
    """Of neighbours with as many bytes and only light operators between (norm, activation) the last: what has passed
    an activation quantises better, and runtimes fold those into the layer before.
    """
    nodes = captured.graph.nodes
    kept: list[Cut] = []
    for cut in found:
        is_same = bool(kept) and kept[-1].position > 0 and kept[-1].bytes == cut.bytes
        if is_same and not any(_is_heavy(node) for node in nodes[kept[-1].position : cut.position]):
            kept.pop()
        kept.append(cut)
    return kept


def _is_heavy(node: Node) -> bool:
    return any(word in node.op for word in ("conv", "linear", "mm", "matmul", "attention", "einsum"))


def find_cut(found: list[Cut], wanted: str) -> Cut:
    """By name, by number among them, or after a module of the user's model. Raises ConfigError with near ones."""
    for cut in found:
        if wanted == cut.name:
            return cut
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(found):
        return found[int(wanted)]
    inside = [cut for cut in found if wanted and f"{cut.module}.".startswith(f"{wanted}.")]
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


def _strided(graph: Graph, nodes: Mapping[str, Node]) -> list[tuple[int, set[str]]]:
    """Places of `as_strided` nodes, each with what it reads and what that re-arranges."""
    found: list[tuple[int, set[str]]] = []
    for place, node in enumerate(graph.nodes):
        if node.op.startswith("aten.as_strided"):
            names: set[str] = set()
            name: str | None = node.inputs()[0]
            while name is not None:
                names.add(name)
                name = _source(nodes.get(name))
            found.append((place, names))
    return found


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

    def root(name: str) -> str:
        best, at = name, name
        while (source := _source(nodes.get(at))) is not None and source in known:
            value, before = values.get(at), known[source]
            if value is not None and before.is_float and not value.is_float:
                break  # whole numbers cross exactly, and what they are made of does not
            at = source
            if at in roots:
                return at
            kept = values.get(best)
            best = at if kept is None or before.bytes <= kept.bytes else best
        return best

    roots = set(live)
    while (moved := {root(name) for name in roots}) != roots:
        roots = moved
    return roots


def _source(node: Node | None) -> str | None:
    """Of a node that only re-arranges one value, that value."""
    if node is None or node.op not in ARRANGING:
        return None
    read = node.inputs()
    return read[0] if len(read) == 1 else None
