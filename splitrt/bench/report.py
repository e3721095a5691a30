"""Run a claim by name and give its result the three shapes that all share: table, JSON, plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from splitrt.config import data_folder
from splitrt.errors import ConfigError
from splitrt.output import print_table, write_json

CLAIMS = {
    "codec": "splitrt.bench.codec",
    "control": "splitrt.bench.control",
    "exits": "splitrt.bench.exits",
    "frame": "splitrt.bench.frame",
    "gate": "splitrt.bench.gate",
    "head": "splitrt.bench.head",
    "plan": "splitrt.bench.plan",
    "rate": "splitrt.bench.rate",
    "serve": "splitrt.bench.serve",
    "speculate": "splitrt.bench.speculate",
    "width": "splitrt.bench.width",
    "zoo": "splitrt.bench.zoo",
}
PACKAGES = (
    "torch",
    "onnxruntime",
    "grpcio",
    "protobuf",
    "numpy",
    "zstandard",
    "transformers",
    "ray",
    "fastapi",
    "uvicorn",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the caller asked of a claim."""

    quick: bool
    bundle: str
    data: Path | None
    traces: Path | None = None
    real: bool = False
    litserve_python: Path | None = None


@dataclass(slots=True, kw_only=True)
class Claim:
    """What a claim measured: `summary` has the keys of the claim's contract, `rows` what they came from."""

    summary: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    draw: Callable[[Path], None] | None = None


def run(
    name: str,
    *,
    quick: bool,
    bundle: str,
    data: Path | None,
    plot: Path | None,
    json: Path | None,
    traces: Path | None = None,
    real: bool = False,
    litserve_python: Path | None = None,
) -> None:
    """Raises ConfigError on an unknown name."""
    if name not in CLAIMS:
        near = get_close_matches(name, CLAIMS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"benchmark must be one of {', '.join(CLAIMS)}, got {name!r}{hint}")
    asked = Asked(
        quick=quick,
        bundle=bundle,
        data=data_folder(data),
        traces=traces,
        real=real,
        litserve_python=litserve_python,
    )
    claim: Claim = import_module(CLAIMS[name]).measure(asked)
    quiet = str(json) == "-"
    print_table(f"bench {name}", ["", "value"], _lines(claim.summary), quiet=quiet)
    if plot is not None and claim.draw is not None:
        claim.draw(plot)
    write_json({"summary": claim.summary, "rows": claim.rows, "environment": environment(quick)}, json)


def _lines(summary: dict[str, Any]) -> list[tuple[str, Any]]:
    """A table within the summary, as of a task, line by line; one of many rows is for the JSON alone."""
    found: list[tuple[str, Any]] = []
    for key, value in summary.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            continue
        found += [(f"{key} {name}", one) for name, one in value.items()] if isinstance(value, dict) else [(key, value)]
    return found


def environment(quick: bool) -> dict[str, Any]:
    """What a reader needs to judge the figures; nothing that names the machine."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "quick": quick,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
