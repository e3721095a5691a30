"""Time and memory of capturing, searching and splitting one large network, in a process of its own:
`python -m splitrt.bench.footprint`. One thread; the most memory that the work adds, over what the weights take.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = "ResNet-50 (transformers), random weights"


def main() -> None:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    from splitrt.bench.made import Silent
    from splitrt.nn.onnx import export_onnx
    from splitrt.partition.bundle import Order, split_captured
    from splitrt.partition.capture import capture
    from splitrt.partition.cuts import cuts

    torch.set_num_threads(1)
    model: Any = ResNetForImageClassification(ResNetConfig())
    weights_mb = sum(one.numel() * one.element_size() for one in model.state_dict().values()) / 1e6
    model.eval()
    # What the exporter's own modules take is no matter of the model's size.
    export_onnx(torch.nn.ReLU(), (torch.zeros(1),), None)
    before_mb = _now_mb()
    started = time.perf_counter()
    captured = capture(model, (torch.randn(1, 3, 224, 224),))
    captured_at = time.perf_counter()
    found = cuts(captured)
    with tempfile.TemporaryDirectory(prefix="splitrt-") as scratch:
        split_captured(captured, found[len(found) // 2], Order(name="large"), Path(scratch), Silent())
    ended = time.perf_counter()
    figures = {
        "model": MODEL,
        "weights_mb": weights_mb,
        "capture_s": captured_at - started,
        "seconds": ended - started,
        "cuts": len(found),
        "added_mb": _most_mb() - before_mb,
        "memory_ratio": (_most_mb() - before_mb) / weights_mb,
    }
    json.dump(figures, sys.stdout)


def _now_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _most_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
