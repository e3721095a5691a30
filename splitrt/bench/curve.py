"""Score against bytes: the front of a set of rows, what one front saves over another, and the picture of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

HEADER_OF_PHOTOGRAPH = 14 + 26  # framing, and our header without width and bits
CURVES = (
    ("context", "split", "context_bytes", "tab:green"),
    ("factorised", "split", "factorised_bytes", "tab:olive"),
    ("packed zstd", "split", "zstd_bytes", "tab:cyan"),
    ("jpeg", "jpeg", "link_bytes", "tab:orange"),
    ("webp", "webp", "link_bytes", "tab:purple"),
)


def front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that no cheaper one matches, cheapest first."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda one: (one["link_bytes"], -one["score"])):
        if not best or row["score"] > best[-1]["score"]:
            best.append(row)
    return best


def saved(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float | None:
    """Mean fraction of link bytes saved at equal score, over the scores that both reach; None: no overlap."""
    low = max(ours[0]["score"], theirs[0]["score"])
    high = min(ours[-1]["score"], theirs[-1]["score"])
    if high <= low:
        return None
    grid = np.linspace(low, high, 50)
    sizes = [
        np.exp(np.interp(grid, [r["score"] for r in side], np.log([r["link_bytes"] for r in side])))
        for side in (ours, theirs)
    ]
    return float(np.mean(1 - sizes[0] / sizes[1]))


def draw(rows: list[dict[str, Any]], whole: float, file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 4)
    axis = axes[0, 0]
    for name, how, size, colour in CURVES:
        chosen = [row for row in rows if row["how"] == how and size in row]
        header = 0 if size == "link_bytes" else HEADER_OF_PHOTOGRAPH + 2  # width and bits
        points = sorted((row[size] + header, 100 * row["score"]) for row in chosen)
        if points:
            axis.scatter(*zip(*points, strict=True), s=10, color=colour)
            best_yet = [
                point for k, point in enumerate(points) if point[1] > max([p[1] for p in points[:k]], default=-1)
            ]
            axis.plot(*zip(*best_yet, strict=True), color=colour, label=name)
    for row in rows:
        if row["how"] == "split":
            axis.annotate(f"{row['width']}", (row["link_bytes"], 100 * row["score"]), fontsize=6)
        if row["how"] == "features":
            axis.scatter(
                [row["link_bytes"]], [100 * row["score"]], color="black", marker="s", label="int8 features, zstd"
            )
        if row["how"] == "exit":
            axis.axhline(100 * row["score"], color="tab:blue", linewidth=0.8, linestyle="--", label="exit, no bytes")
    axis.axhline(100 * whole, color="black", linewidth=0.8, label="whole model")
    axis.set_xscale("log")
    axis.set_xlabel("link bytes a frame (numbers: width)")
    axis.set_ylabel("score on test images, %")
    axis.legend(loc="lower right", fontsize=7)
    save(drawing, file)
