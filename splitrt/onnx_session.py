"""ONNX Runtime sessions with the settings that heads and CPU tails share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splitrt.errors import BundleError


def open_session(path: Path, threads: int = 1, *, is_for_once: bool = False) -> Any:
    """An InferenceSession on the CPU. Raises BundleError where the file is no graph that runs here.

    is_for_once: slower, and without the copies of weights that make the next run quicker.

    Threads do not spin between runs: on a small machine that steals the core that the other half of the
    pipeline needs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if is_for_once:
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors come from C++ and have no root of their own
        raise BundleError(f"{path.name} must be a graph that ONNX Runtime can load: {error}") from error
