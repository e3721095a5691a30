"""Claim `zoo`: networks that nobody here wrote are captured as they are, cut anywhere, and joined bit for bit.

Every network is captured, its legal cuts are listed, and at some of them (`input`, early to late, where most tensors
cross, `output`) what head and tail give one after the other is compared with what the original module gives: all
tensors of its returned structure, on an input that capture has not seen. Halves are written to files and read again;
at one cut in the middle that is a whole bundle, and its ONNX graphs are compared too. What fails is named, and ends
nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from splitrt.bench.report import Asked, Claim
from splitrt.errors import ConfigError

if TYPE_CHECKING:
    from splitrt.partition.cuts import Cut

ONNX_BOUND = 1e-4  # of the largest output, or of 1 where that is less
QUICK = ("resnet-basic", "vit", "swin", "mobile-llm", "detr")
OWN = "splitrt/"  # before the names of our own families, which the claim does not count
PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
DRAWN = ("resnet-basic", "segformer", "swin", "vit", "llama", "detr")


def measure(asked: Asked) -> Claim:
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"bench zoo captures transformers' networks, {missing[0]} is missing: pip install 'splitrt[llm]'"
        )
    from splitrt.bench.architectures import ARCHITECTURES
    from splitrt.families import names

    wanted = QUICK if asked.quick else (*ARCHITECTURES, *(f"{OWN}{name}" for name in names()))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(partial(examine, is_quick=asked.quick), wanted))
    large = {} if asked.quick else _large()
    return Claim(summary=summarise(rows) | large, rows=rows, draw=lambda file: _draw(rows, file))


def _large() -> dict[str, Any]:
    """What capturing and splitting a network of ResNet-50's size takes, in a process of its own."""
    words = [sys.executable, "-m", "splitrt.bench.footprint"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return {f"large_{name}": figures[name] for name in ("model", "seconds", "memory_ratio")}


def examine(name: str, is_quick: bool) -> dict[str, Any]:
    """A network's row. Whatever goes wrong with it is the row's `failure`."""
    import torch

    torch.set_num_threads(1)
    row: dict[str, Any] = {
        "architecture": name,
        "parameters": None,
        "cuts": None,
        "cuts_checked": 0,
        "max_abs_diff": None,
        "onnx_abs_diff": None,
        "onnx_failure": None,
        "capture_s": None,
        "failure": None,
    }
    try:
        _fill(row, is_quick)
    except Exception as error:  # of networks, their tracer and their exporter: no common root
        row["failure"] = _reason(error)
    return row


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    others = [row for row in rows if not row["architecture"].startswith(OWN)]
    own = [row for row in rows if row["architecture"].startswith(OWN)]
    failures = [f"{row['architecture']}: {row['failure']}" for row in rows if row["failure"]]
    failures += [f"{row['architecture']}: ONNX: {row['onnx_failure']}" for row in rows if row["onnx_failure"]]
    failures += [
        f"{row['architecture']}: ONNX: differs by {row['onnx_abs_diff']:.1e}"
        for row in rows
        if (row["onnx_abs_diff"] or 0.0) >= ONNX_BOUND
    ]
    through_onnx = [row["onnx_abs_diff"] for row in others if row["onnx_abs_diff"] is not None]
    return {
        "tried": len(others),
        "exact": sum(_is_exact(row) for row in others),
        "cuts_checked": sum(row["cuts_checked"] for row in others),
        "worst_abs_diff": max((row["max_abs_diff"] for row in others if row["max_abs_diff"] is not None), default=None),
        "onnx_exact": sum(diff < ONNX_BOUND for diff in through_onnx),
        "onnx_worst_abs_diff": max(through_onnx, default=None),
        "own_tried": len(own),
        "own_exact": sum(_is_exact(row) for row in own),
        "failures": failures,
    }


def choose(found: Sequence[Cut], is_quick: bool) -> list[int]:
    """Places among the cuts, rising: `input`, early to late, the one with most tensors in its seam, `output`."""
    last = len(found) - 1
    if is_quick:
        return sorted({0, last // 2, last})
    widest = max(range(len(found)), key=lambda place: len(found[place].seam))
    return sorted({0, *(round(share * last) for share in PLACES), widest, last})


def _fill(row: dict[str, Any], is_quick: bool) -> None:
    from splitrt.bench.architectures import ARCHITECTURES
    from splitrt.bench.joins import bundled, difference, mirrored, outputs, reloaded, scale
    from splitrt.bench.networks import build, family
    from splitrt.partition.capture import capture
    from splitrt.partition.cuts import cuts

    name = row["architecture"]
    is_own = name.startswith(OWN)
    module, inputs = family(name.removeprefix(OWN)) if is_own else build(ARCHITECTURES[name])
    row["parameters"] = sum(one.numel() for one in module.parameters())
    unseen = mirrored(inputs)
    wanted = outputs(module, unseen)
    started = time.perf_counter()
    captured = capture(module, inputs)
    row["capture_s"] = round(time.perf_counter() - started, 3)
    found = cuts(captured)
    row["cuts"] = len(found)
    row["relative_bytes"] = [cut.bytes / found[0].bytes for cut in found]
    undivided = difference(wanted, outputs(captured.module(), unseen))
    if undivided:
        row["failure"] = f"the module runs otherwise than it traces: the undivided graph differs by {undivided:.1e}"
    chosen = choose(found, is_quick)
    middle = min(chosen, key=lambda place: abs(place - (len(found) - 1) / 2))
    with TemporaryDirectory() as folder:
        for place in chosen:
            if place == middle:
                bundle = bundled(captured, found[place], Path(folder), unseen)
                given = bundle.by_torch
                row["onnx_failure"] = bundle.onnx_failure and _plain(bundle.onnx_failure)
                if bundle.by_onnx is not None:
                    row["onnx_abs_diff"] = difference(wanted, bundle.by_onnx) / scale(wanted)
            else:
                given = reloaded(captured, found[place], Path(folder, str(place)), unseen)
            apart = difference(wanted, given)
            row["cuts_checked"] += 1
            row["max_abs_diff"] = max(row["max_abs_diff"] or 0.0, apart)
            if apart and not row["failure"]:
                row["failure"] = f"joined halves differ from the module at {found[place].name} by {apart:.1e}"


def _reason(error: Exception) -> str:
    return _plain(f"{type(error).__name__}: {str(error).strip()}")


def _plain(text: str) -> str:
    """The first line, without this machine's folders."""
    return re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", "", (text.splitlines() or [""])[0])[:300]


def _is_exact(row: dict[str, Any]) -> bool:
    return row["failure"] is None and row["max_abs_diff"] == 0


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 4)
    axis = axes[0, 0]
    for row in rows:
        if row["architecture"] in DRAWN and row["cuts"]:
            shares = [place / (row["cuts"] - 1) for place in range(row["cuts"])]
            axis.step(shares, row["relative_bytes"], where="mid", label=f"{row['architecture']} ({row['cuts']} cuts)")
    axis.axhline(1, color="black", linewidth=0.6)
    axis.set_yscale("log")
    axis.set_xlabel("cut, from input (0) to output (1)")
    axis.set_ylabel("bytes that cross, input = 1")
    axis.legend(fontsize="small")
    save(drawing, file)
