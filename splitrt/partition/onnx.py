"""A half as ONNX beside its safetensors: the graph refers to the weights there, so that they lie on disk, and pass
through memory, once.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnx_ir
from safetensors.torch import save_file

from splitrt.nn.interpreter import stored
from splitrt.nn.onnx import export_onnx
from splitrt.partition.capture import Captured
from splitrt.partition.cuts import START, Cut
from splitrt.partition.divide import divide

WEIGHT = "weight_"  # what the interpreter calls them, by their place
LARGE = 1024  # bytes


def export_half(half: Captured, path: Path, weights: Path) -> None:
    """weights: the half's, as `stored` gives them, in the same folder. Raises whatever the exporter does."""
    program = export_onnx(half.module().eval(), half.inputs, None)
    start, entries = _header(weights)
    made: list[Any] = []  # by the exporter: large ones lie in a file of their own, never in memory twice
    for name, value in program.model.graph.initializers.items():
        place = name.removeprefix(WEIGHT)
        if not name.startswith(WEIGHT) or not place.isdigit():
            made.append(value)
            continue
        spec = half.graph.weights[int(place)]
        if spec.order != tuple(range(len(spec.shape))):
            made.append(value)  # stored with its dimensions in another order
            continue
        held = value.const_value
        if not np.array_equal(held.numpy(), half.weights[spec.name].numpy()):
            made.append(value)  # under the weight's name the exporter keeps it with a batch norm folded in
            continue
        value.const_value = _elsewhere(value, weights, start + entries[spec.name]["data_offsets"][0])
    _spill(made, path.with_name(f"{path.stem}_made.safetensors"))
    onnx_ir.save(program.model, path)


def _spill(values: list[Any], file: Path) -> None:
    """Large constants to a safetensors file beside the graph, one at a time; nothing where there is none."""
    large = [
        one for one in values if one.const_value.nbytes >= LARGE and one.const_value.dtype == onnx_ir.DataType.FLOAT
    ]
    if not large:
        return
    entries, end = {}, 0
    for place, one in enumerate(large):
        first, end = end, end + one.const_value.nbytes
        shape = [int(size) for size in one.const_value.shape]
        entries[f"made_{place}"] = {"dtype": "F32", "shape": shape, "data_offsets": [first, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for one, entry in zip(large, entries.values(), strict=True):
            stream.write(np.ascontiguousarray(one.const_value.numpy(), "<f4").data)
            one.const_value = _elsewhere(one, file, 8 + len(header) + entry["data_offsets"][0])


def _elsewhere(value: Any, file: Path, first: int) -> onnx_ir.ExternalTensor:
    """An initialiser's values as bytes of a file in the graph's folder."""
    held = value.const_value
    return onnx_ir.ExternalTensor(
        file.name, first, held.nbytes, held.dtype, shape=held.shape, name=value.name, base_dir=file.parent
    )


def _header(file: Path) -> tuple[int, dict[str, dict[str, list[int]]]]:
    """Where a safetensors file's data begins, and each tensor's place in it."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return 8 + length, json.loads(stream.read(length))


class Cutter:
    """A captured network exported once; the halves at any cut are taken out of that graph where the exporter kept the
    values that cross there, and exported anew where it did not (a batch norm folded into its convolution).
    """

    def __init__(self, captured: Captured, folder: Path) -> None:
        self._captured, self._folder = captured, folder
        self.whole = folder / "whole.onnx"
        save_file(stored(captured.graph, captured.weights), folder / "whole.safetensors")
        export_half(captured, self.whole, folder / "whole.safetensors")
        self._model = onnx.load(str(self.whole), load_external_data=False)
        self._inputs = [one.name for one in self._model.graph.input]
        self._outputs = [one.name for one in self._model.graph.output]
        self._values = {name for node in self._model.graph.node for name in node.output}

    def halves(self, cut: Cut) -> tuple[Path, Path]:
        """Files of head and tail; for the first cut the head is none and its file is not there."""
        files = (self._folder / f"head_{cut.position}.onnx", self._folder / f"tail_{cut.position}.onnx")
        if cut.name == START:
            return files[0], self.whole
        crossing = [value.name for value in cut.seam]
        if self._values.issuperset(crossing):
            extractor = onnx.utils.Extractor(self._model)
            onnx.save(extractor.extract_model(self._inputs, crossing), str(files[0]))
            onnx.save(extractor.extract_model(crossing, self._outputs), str(files[1]))
        else:
            halves = divide(self._captured, cut)
            for file, half in zip(files, (halves.head, halves.tail), strict=True):
                weights = file.with_suffix(".safetensors")
                save_file(stored(half.graph, half.weights), weights)
                export_half(half, file, weights)
        return files
