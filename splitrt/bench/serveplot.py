"""Plot of the claim `serve`: latency and goodput against load, a line a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = ("latency_ms_p50", "latency_ms_p99", "goodput")
LABELS = ("median latency, ms", "99th percentile, ms", "goodput, answers in time / s")


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import panels, save

    drawing, axes = panels(len(FIGURES))
    for axis, figure, label in zip(axes, FIGURES, LABELS, strict=True):
        for server in dict.fromkeys(row["server"] for row in rows):
            mine = [row for row in rows if row["server"] == server and row[figure] is not None]
            shares = sorted({row["share"] for row in mine})
            means = [float(np.mean([row[figure] for row in mine if row["share"] == share])) for share in shares]
            axis.plot([100 * share for share in shares], means, marker="o", label=server)
        axis.set_xlabel("offered load, % of what the embedded server carries")
        axis.set_ylabel(label)
    axes[0].legend()
    save(drawing, file)
