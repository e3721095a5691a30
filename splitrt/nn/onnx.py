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
        return torch.onnx.export(
            module,
            inputs,
            None if path is None else str(path),
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=tuple(batch for _ in inputs) if free_batch else None,
            verbose=False,
        )
