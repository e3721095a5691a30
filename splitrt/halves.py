"""Running one half of a captured network: ONNX Runtime where the graph is there as ONNX, else torch.

Which of the two made a bundle's numbers is told by its golden sample: both must agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.errors import BundleError
from splitrt.onnx_session import open_session

Array = npt.NDArray[Any]
Side = Literal["head", "tail"]
Runner = Literal["onnx", "torch"]  # onnx: torch all the same where the exporter had no ONNX for a graph

ONNX = {"head": "head/graph.onnx", "tail": "tail.onnx"}
GRAPH = {"head": "head/graph.json", "tail": "tail.json"}
WEIGHTS = {"head": "head/graph.safetensors", "tail": "tail.safetensors"}  # beside the ONNX graph, which refers to it
MAX_GRAPH_BYTES = 64 << 20


class Half(Protocol):
    def run(self, tensors: Sequence[Array]) -> tuple[Array, ...]:
        """In the order of the half's inputs, out in that of its outputs. Stateless."""


def open_half(bundle: Bundle, side: Side, threads: int = 1, runner: Runner = "onnx", device: str = "cpu") -> Half:
    """device: of torch. Raises BundleError where the half is not here, or needs torch and there is none."""
    if runner == "onnx" and ONNX[side] in bundle.manifest.files:
        return OnnxHalf(bundle, side, threads)
    try:
        return TorchHalf(bundle, side, threads, device)
    except ImportError:
        raise BundleError(
            f"the {side} of {bundle.name} is there for torch only: pip install 'splitrt[torch]'"
        ) from None


class OnnxHalf:
    def __init__(self, bundle: Bundle, side: Side, threads: int) -> None:
        self._session = open_session(bundle.path(ONNX[side]), threads)
        self._names = [one.name for one in self._session.get_inputs()]

    def run(self, tensors: Sequence[Array]) -> tuple[Array, ...]:
        # Not ascontiguousarray, which makes a vector of a number.
        given = {name: np.asarray(one, order="C") for name, one in zip(self._names, tensors, strict=True)}
        return tuple(np.asarray(one) for one in self._session.run(None, given))


class TorchHalf:
    """From graph and weights, on any torch device; bit for bit what the captured module gives there."""

    def __init__(self, bundle: Bundle, side: Side, threads: int = 1, device: str = "cpu") -> None:
        """threads: on a CPU, of all torch in this process."""
        import torch
        from safetensors.torch import load_file

        from splitrt.nn.graph import Graph
        from splitrt.nn.interpreter import GraphModule, laid_out, restored

        torch.set_num_threads(threads)
        path = bundle.path(GRAPH[side])
        if path.stat().st_size > MAX_GRAPH_BYTES:
            raise BundleError(f"{path.name} must be at most {MAX_GRAPH_BYTES} bytes, got {path.stat().st_size}")
        graph = Graph.from_json(path.read_bytes())
        self._module = GraphModule(graph, restored(graph, load_file(bundle.path(WEIGHTS[side])))).to(device)
        self._device, self._torch, self._laid_out = device, torch, laid_out

    def run(self, tensors: Sequence[Array]) -> tuple[Array, ...]:
        with self._torch.inference_mode():
            given = self._laid_out(self._module.graph.inputs, tensors)
            found = self._module(*(one.to(self._device) for one in given))
        return tuple(one.cpu().numpy() for one in found)
