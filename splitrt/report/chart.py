"""What a plot shows, apart from how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_POINTS = 1500  # of a series; beyond, every n-th is drawn
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    name: str
    points: Points
    kind: Literal["dots", "line", "steps"] = "line"
    colour: str = ""  # a class of the page's style; "": the next of its palette


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Between two lines of the same x."""

    name: str
    low: Points
    high: Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    band: Band | None = None
    is_log_x: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    title: str
    labels: tuple[str, ...]
    values: tuple[float, ...]


Chart = Plot | Bars


def thinned(points: Sequence[tuple[float, float]]) -> Points:
    """At most MOST_POINTS of them, evenly taken, the last one kept."""
    step = -(-len(points) // (MOST_POINTS - 1)) if len(points) > MOST_POINTS else 1
    kept = list(points[::step])
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return tuple(kept)


UNITS = {
    "ms": "ms", "s": "s", "us": "µs", "mb": "MB", "kb": "kB", "mbit": "Mbit/s", "pt": "points",
    "pct": "%",
}  # fmt: skip


def spoken(name: str) -> str:
    """latency_ms_p50 -> latency p50, ms."""
    words = name.replace(".", "_").split("_") if "_" in name else [name]
    unit = next((word for word in words[1:] if word in UNITS), None)
    if unit is None:
        return name.replace("_", " ")
    rest = [word for index, word in enumerate(words) if index == 0 or word != unit]
    return f"{' '.join(rest)}, {UNITS[unit]}"
