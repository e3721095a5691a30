"""What a half costs beside time: operations, memory of its values, and energy where this machine tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from splitrt.nn.graph import Graph
from splitrt.partition.capture import Captured

RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


def count_flops(half: Captured, given: Sequence[torch.Tensor]) -> tuple[int, list[torch.Tensor]]:
    """Twice the multiply-accumulates, and what the half gives."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        found = half.module()(*given)
    return int(counter.get_total_flops()), list(found)


def activation_bytes(captured: Captured) -> int:
    """The most that values alive at once take, weights not counted."""
    graph = captured.graph
    sizes = {name: value.bytes for name, value in captured.values.items() if value is not None}
    last = _last_reader(graph)
    alive, most = sum(one.bytes for one in graph.inputs), 0
    for place, node in enumerate(graph.nodes):
        alive += sizes.get(node.name, 0)
        most = max(most, alive)
        alive -= sum(sizes.get(name, 0) for name in {node.name, *node.inputs()} if last.get(name, place) == place)
    return most


def _last_reader(graph: Graph) -> dict[str, int]:
    last = {name: place for place, node in enumerate(graph.nodes) for name in node.inputs()}
    return last | {one.name: len(graph.nodes) for one in graph.outputs}


def measure_joules(heads: Sequence[Callable[[], Any]], runs: int = 20) -> list[float | None]:
    """A head run's energy as the processor counts it (RAPL, the whole package); None where it does not tell."""
    found: list[float | None] = []
    for head in heads:
        before = _counter()
        for _ in range(runs if before is not None else 0):
            head()
        after = _counter()
        is_whole = before is not None and after is not None and after > before  # the counter wraps now and then
        found.append((after - before) / 1e6 / runs if is_whole else None)  # type: ignore[operator]
    return found


def _counter() -> int | None:
    try:
        return int(RAPL.read_text())
    except (OSError, ValueError):
        return None
