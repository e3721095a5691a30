"""A module to an ONNX file, by torch's own exporter."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 18


def export_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path | None,
    names: list[str] | None = None,
    outputs: list[str] | None = None,
    free_batch: bool = False,
) -> Any:
    """names, outputs: those of the graph's inputs and outputs; free_batch: the first size of each input may vary.

    Returns the exporter's program, its weights not copied yet where no path asked for a file.
    """
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    # The exporter remarks on torchvision's absence and on its own internals: nothing a user can act on.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            inputs,
            None,
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=tuple(batch for _ in inputs) if free_batch else None,
            verbose=False,
        )
    assert program is not None
    forget_origins(program.model)
    if path is not None:
        program.save(str(path), external_data=False)
    return program


def forget_origins(model: Any) -> None:
    """Each node says which lines of which files it came from: paths of the machine that made the bundle."""
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes():
            for named in (node, *node.outputs):
                named.metadata_props.clear()
                named.doc_string = None
        graph.metadata_props.clear()
    model.metadata_props.clear()
