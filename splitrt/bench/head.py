"""Claim `head`: ONNX Runtime runs a bundle's head in less CPU time than torch, and computes the same.

Process CPU time on one thread, the two in turn, because a shared machine's wall clock says little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.report import Asked, Claim
from splitrt.bundle import find_bundle
from splitrt.codec import pixels
from splitrt.device.head import Head, OnnxHead
from splitrt.errors import ConfigError
from splitrt.golden import load_golden


def measure(asked: Asked) -> Claim:
    try:
        import torch

        from splitrt.device.torch_head import TorchHead
    except ImportError:
        raise ConfigError("bench head compares with torch: pip install 'splitrt[torch]'") from None
    torch.set_num_threads(1)
    bundle = find_bundle(asked.bundle)
    golden, wanted = load_golden(bundle.path("golden.npz")), bundle.manifest.photograph
    x_CHW = pixels.normalise(golden.frame_HWC, wanted.mean, wanted.std)
    heads: dict[str, Head] = {"onnx": OnnxHead(bundle), "torch": TorchHead(bundle)}
    widths = bundle.manifest.seam.widths
    rows: list[dict[str, Any]] = []
    for stage, work in _stages(x_CHW, widths[-1]).items():
        times: dict[str, list[float]] = {name: [] for name in heads}
        for _ in range(3 if asked.quick else 12):
            for name, head in heads.items():
                times[name].append(_cpu_ms(work, head, 20 if asked.quick else 60))
        outputs = [np.concatenate([part.reshape(-1) for part in work(head)]) for head in heads.values()]
        ratios = np.array(times["torch"]) / np.array(times["onnx"])
        rows.append(
            {
                "stage": stage,
                "onnx_ms": float(np.median(times["onnx"])),
                "torch_ms": float(np.median(times["torch"])),
                "speedup": float(np.median(ratios)),
                "speedup_low": float(ratios.min()),
                "speedup_high": float(ratios.max()),
                "max_abs_diff": float(np.abs(outputs[0] - outputs[1]).max()),
            }
        )
    whole = next(row for row in rows if row["stage"] == "head")
    summary = {
        "onnx_speedup": whole["speedup"],
        "max_abs_diff": max(row["max_abs_diff"] for row in rows),
        "onnx_ms": whole["onnx_ms"],
        "torch_ms": whole["torch_ms"],
    }
    return Claim(summary=summary, rows=rows, draw=lambda file: _draw(rows, file))


def _stages(x_CHW: Any, widest: int) -> dict[str, Callable[[Head], list[Any]]]:
    def whole(head: Head) -> list[Any]:
        features = head.stem(x_CHW)
        return [features, head.encode(features, widest), *head.exits(features)]

    def until_exits(head: Head) -> list[Any]:
        features = head.stem(x_CHW)
        return [features, *head.exits(features)]

    return {"stem": lambda head: [head.stem(x_CHW)], "stem and exits": until_exits, "head": whole}


def _cpu_ms(work: Callable[[Head], Any], head: Head, runs: int) -> float:
    work(head)
    started = time.process_time()
    for _ in range(runs):
        work(head)
    return (time.process_time() - started) / runs * 1e3


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 3)
    places = np.arange(len(rows))
    for offset, name, colour in ((-0.2, "torch", "tab:orange"), (0.2, "onnx", "tab:blue")):
        bars = axes[0, 0].bar(places + offset, [row[f"{name}_ms"] for row in rows], 0.4, label=name, color=colour)
        axes[0, 0].bar_label(bars, fmt="%.2f")
    axes[0, 0].set_xticks(places, [row["stage"] for row in rows])
    axes[0, 0].set_ylabel("CPU ms a frame, one thread")
    axes[0, 0].legend()
    save(drawing, file)
