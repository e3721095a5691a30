"""What `torch.export` makes of a user's module, and its refusals in a user's words: where, what, and what to do."""

from __future__ import annotations

import io
import logging
import re
import traceback
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export.graph_signature import InputKind

from splitrt.errors import CaptureError

# Their lines between the user's and the operator: never what the user can change.
TORCH, PYTHON = str(Path(torch.__file__).parent), str(Path(traceback.__file__).parent)


def trace(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> torch.export.ExportedProgram:
    """The functional program. Raises CaptureError."""
    _check_mode(module)
    program = _export(module, inputs, keywords)
    _check_signature(program)
    return program


def line_of(node: torch.fx.Node) -> str:
    """Where in the user's source a node comes from: ` (file:line)`, or nothing."""
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [line for line in lines if _is_users(line[0])]
    return f" ({_short(own[-1][0])}:{own[-1][1]})" if own else ""


def _is_users(path: str) -> bool:
    """Not torch's, not Python's (whose folder may hold the packages), not ours, and a file at all."""
    is_pythons = path.startswith(f"{PYTHON}/") and "/site-packages/" not in path
    is_ours = path.startswith(f"{Path(__file__).parent}/")
    return not (path.startswith((f"{TORCH}/", "<")) or is_pythons or is_ours)


def _check_mode(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if part.training:
            raise CaptureError(
                f"a model must be in evaluation mode, got {name or 'it'} ({type(part).__name__}) in training mode: "
                "call model.eval() first"
            )


def _export(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> torch.export.ExportedProgram:
    for name in ("torch.export", "torch.fx.experimental.symbolic_shapes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Of what it refuses, the tracer prints its own graph: nothing that a user can read.
    with warnings.catch_warnings(), torch.no_grad(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(module, inputs, keywords, strict=False)
            functional: torch.export.ExportedProgram = program.run_decompositions({})  # no operator is replaced
            return functional
        except Exception as error:  # the tracer runs the user's code: anything may come out of it
            raise CaptureError(_why(error)) from error


def _why(error: Exception) -> str:
    """The tracer's error in a user's words: where, what, and what to do."""
    name, text = type(error).__name__, str(error)
    where = _where(error, text)
    first = next((line.strip() for line in text.splitlines() if line.strip()), name)
    if "GuardOnDataDependentSymNode" in name or "data-dependent" in text.lower() or "DataDependent" in name:
        return (
            f"control flow must not depend on the data{where}: {first[:200]}; compute both ways and choose with "
            "torch.where, or leave that part out of the model that is split"
        )
    return f"the model must be one that torch.export can trace{where}: {name}: {first[:300]}"


def _where(error: Exception, text: str) -> str:
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    if own:
        return f" ({_short(own[-1].filename)}:{own[-1].lineno}: {(own[-1].line or '').strip()[:100]})"
    lines = [line for line in re.findall(r'File "([^"]+)", line (\d+)', text) if _is_users(line[0])]
    return f" ({_short(lines[-1][0])}:{lines[-1][1]})" if lines else ""


def _short(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def _check_signature(program: torch.export.ExportedProgram) -> None:
    for spec in program.graph_signature.input_specs:
        if spec.kind not in (InputKind.USER_INPUT, InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            raise CaptureError(f"a model must take tensors only, got {spec.kind.name.lower()} {spec.target or ''}")
    for out in program.graph_signature.output_specs:
        what, _, does = out.kind.name.lower().partition("_")
        if what in ("buffer", "parameter") and does == "mutation":
            raise CaptureError(
                f"a model must be the same for every input, but it writes to its {what} {out.target}: each frame's "
                "answer would depend on those before it"
            )
