"""What a cut network gives, head and tail one after the other, through the files in which the halves are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from splitrt.bundle import Bundle, load_bundle
from splitrt.halves import GRAPH, ONNX, WEIGHTS, Runner, Side, open_half
from splitrt.nn.interpreter import stored
from splitrt.partition.bundle import Order, load_half, split_captured
from splitrt.partition.capture import Captured
from splitrt.partition.cuts import Cut
from splitrt.partition.divide import divide

MASK = 1e30  # outputs beyond it are no numbers to measure a difference by


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """What a bundle gives when torch runs it, and through ONNX; without that, why."""

    by_torch: list[Tensor]
    by_onnx: list[Tensor] | None
    onnx_failure: str | None


def outputs(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All tensors of what the module returns, in pytree order."""
    with torch.inference_mode():
        return [one for one in pytree.tree_leaves(module(*inputs)) if isinstance(one, Tensor)]


def mirrored(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs of the same shapes that capture has not seen: nothing of the sample's values may be in the graph."""
    return tuple(one.flip(-1) for one in inputs)


def reloaded(captured: Captured, cut: Cut, folder: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Through the files of a bundle that torch needs: the exporter to ONNX takes most of the time of a whole one."""
    halves = divide(captured, cut)
    sides: tuple[Side, Side] = ("head", "tail")
    for side, half in zip(sides, (halves.head, halves.tail), strict=True):
        (folder / GRAPH[side]).parent.mkdir(parents=True, exist_ok=True)
        (folder / GRAPH[side]).write_bytes(half.graph.to_json())
        save_file(stored(half.graph, half.weights), folder / WEIGHTS[side])
    head, tail = (load_half(folder, side) for side in sides)
    return outputs(tail, tuple(outputs(head, inputs)))


def bundled(captured: Captured, cut: Cut, folder: Path, inputs: tuple[Tensor, ...]) -> Bundled:
    """Through a whole bundle, as a device and a server open it."""
    exporter = _Lines()
    bundle = load_bundle(split_captured(captured, cut, Order(name="zoo"), folder, exporter))
    by_onnx, failure = None, None
    if set(ONNX.values()) <= set(bundle.manifest.files):
        try:
            by_onnx = _run(bundle, inputs, "onnx")
        except Exception as error:  # of ONNX Runtime: no root of its own
            failure = f"{type(error).__name__}: {error}"
    else:
        failure = "; ".join(line for line in exporter.lines if "torch only" in line)
    return Bundled(by_torch=_run(bundle, inputs, "torch"), by_onnx=by_onnx, onnx_failure=failure)


def difference(wanted: Sequence[Tensor], given: Sequence[Tensor]) -> float:
    """The largest of any element; infinite where number, shape or dtype of the tensors is another, or one is NaN."""
    if [(one.shape, one.dtype) for one in wanted] != [(one.shape, one.dtype) for one in given]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, given, strict=True):
        differs = ~((one == other) | (one.isnan() & other.isnan()))
        if differs.any():
            gap = (one[differs].double() - other[differs].double()).abs()
            worst = max(worst, float(torch.where(gap.isnan(), float("inf"), gap).max()))
    return worst


def scale(tensors: Sequence[Tensor]) -> float:
    """The largest value, masks aside; 1 at least."""
    sizes = [one[one.abs() < MASK].abs() for one in tensors if one.is_floating_point()]
    return max(1.0, *(float(size.max()) for size in sizes if size.numel()))


def _run(bundle: Bundle, inputs: tuple[Tensor, ...], runner: Runner) -> list[Tensor]:
    seam = open_half(bundle, "head", runner=runner).run([one.numpy() for one in inputs])
    return [torch.from_numpy(one.copy()) for one in open_half(bundle, "tail", runner=runner).run(seam)]


class _Lines:
    """Keeps what the exporter tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def step(self, phase: str, done: int, total: int) -> None:
        pass
