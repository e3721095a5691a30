"""A half as ONNX beside its safetensors: the graph refers to the weights there, so that they lie on disk, and pass
through memory, once.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

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
        if not np.array_equal(held.numpy(), half.weights[spec.name].numpy()):
            continue  # under the weight's name the exporter keeps what it made of it: a batch norm folded in
        value.const_value = onnx_ir.ExternalTensor(
            weights.name, start + first, last - first, held.dtype, shape=held.shape, name=name, base_dir=path.parent
        )
    onnx_ir.save(program.model, path)


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
