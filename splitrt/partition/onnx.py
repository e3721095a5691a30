"""A half as ONNX beside its safetensors: the graph refers to the weights there, so that they lie on disk, and pass
through memory, once.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import onnx_ir

from splitrt.nn.onnx import export_onnx
from splitrt.partition.capture import Captured

WEIGHT = "weight_"  # what the interpreter calls them, by their place


def export_half(half: Captured, path: Path, weights: Path) -> None:
    """weights: the half's, as `stored` gives them, in the same folder. Raises whatever the exporter does."""
    program = export_onnx(half.module().eval(), half.inputs, None)
    start, entries = _header(weights)
    for name, value in program.model.graph.initializers.items():
        place = name.removeprefix(WEIGHT)
        if not name.startswith(WEIGHT) or not place.isdigit():
            continue  # a constant that the exporter made
        spec = half.graph.weights[int(place)]
        if spec.order != tuple(range(len(spec.shape))):
            continue  # stored with its dimensions in another order
        first, last = entries[spec.name]["data_offsets"]
        held = value.const_value
        value.const_value = onnx_ir.ExternalTensor(
            weights.name, start + first, last - first, held.dtype, shape=held.shape, name=name, base_dir=path.parent
        )
    onnx_ir.save(program.model, path)


def _header(file: Path) -> tuple[int, dict[str, dict[str, list[int]]]]:
    """Where a safetensors file's data begins, and each tensor's place in it."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return 8 + length, json.loads(stream.read(length))
