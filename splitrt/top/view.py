"""What happened between two looks at a metrics page: pure, no clock, no drawing.

Counters become rates, histograms quantiles of what was observed between the looks, gauges are as they are. A counter
that fell was restarted: what it shows now is what was counted since, as Prometheus takes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from splitrt.top.rows import ROWS, Row
from splitrt.top.sample import Labels, Sample

MOST_LINES = 24  # of one row; a page may have any number of label values
Kind = Literal["rate", "times", "level"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One set of labels of one metric. What does not apply, or was not observed, is None."""

    labels: str
    total: float | None = None  # of a counter, since its start
    per_s: float | None = None
    share: float | None = None  # of the row's rate
    p50: float | None = None  # in the metric's own unit
    p95: float | None = None
    level: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    title: str
    kind: Kind
    unit: str
    lines: tuple[Line, ...]
    left_out: int = 0  # lines beyond MOST_LINES


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    interval_s: float | None  # None at the first look: there are no rates yet
    blocks: tuple[Block, ...]


def compare(before: Sample | None, now: Sample) -> View:
    """Blocks in the order of ROWS, those alone whose metric is there."""
    interval_s = now.at_s - before.at_s if before is not None and now.at_s > before.at_s else None
    blocks = [block for row in ROWS if (block := _block(row, before, now, interval_s)).lines]
    return View(interval_s=interval_s, blocks=tuple(blocks))


def quantile(cumulative: Mapping[float, float], q: float) -> float | None:
    """Upper edge -> how many lay at or below it; linear within a bucket. None where there are none.

    What lies beyond the last finite edge is said to lie on it. Counts that fall from edge to edge are taken as level.
    """
    edges = sorted(edge for edge in cumulative if not math.isnan(edge))
    counts: list[float] = []
    for edge in edges:
        count = cumulative[edge]
        counts.append(max(counts[-1] if counts else 0.0, count if math.isfinite(count) else 0.0))
    if not counts or counts[-1] <= 0:
        return None
    rank = q * counts[-1]
    at = next(index for index, count in enumerate(counts) if count >= rank)
    below, floor = (counts[at - 1], edges[at - 1]) if at else (0.0, min(0.0, edges[0]))
    if math.isinf(edges[at]):
        return floor if math.isfinite(floor) else None
    if counts[at] == below or math.isinf(floor):
        return edges[at]
    share = (rank - below) / (counts[at] - below)
    return min(max(floor * (1 - share) + edges[at] * share, floor), edges[at])  # rounding stays within the bucket


def _block(row: Row, before: Sample | None, now: Sample, interval_s: float | None) -> Block:
    make = {"rate": _rates, "times": _quantiles, "level": _levels}[row.kind]
    lines = make(row, before if interval_s is not None else None, now, interval_s)
    kept = lines[:MOST_LINES]
    return Block(title=row.title, kind=row.kind, unit=row.unit, lines=tuple(kept), left_out=len(lines) - len(kept))


def _rates(row: Row, before: Sample | None, now: Sample, interval_s: float | None) -> list[Line]:
    values = _finite(now.values.get(row.metric, {}))
    grown = _grown(row.metric, before, now)
    whole = sum(grown.values())
    return [
        Line(
            labels=_words(labels),
            total=total,
            per_s=grown[labels] / interval_s if interval_s is not None else None,
            share=grown[labels] / whole if interval_s is not None and 0 < whole < math.inf else None,
        )
        for labels, total in sorted(values.items())
    ]


def _quantiles(row: Row, before: Sample | None, now: Sample, interval_s: float | None) -> list[Line]:
    counts = _finite(now.values.get(f"{row.metric}_count", {}))
    counted = _grown(f"{row.metric}_count", before, now)
    grown = _grown(f"{row.metric}_bucket", before, now)
    buckets: dict[Labels, dict[float, float]] = {}
    for labels, count in grown.items():
        edge = _edge(dict(labels).get("le", ""))
        if edge is not None:
            buckets.setdefault(tuple(pair for pair in labels if pair[0] != "le"), {})[edge] = count
    return [
        Line(
            labels=_words(labels),
            total=total,
            per_s=counted[labels] / interval_s if interval_s is not None else None,
            p50=quantile(buckets.get(labels, {}), 0.5),
            p95=quantile(buckets.get(labels, {}), 0.95),
        )
        for labels, total in sorted(counts.items())
    ]


def _levels(row: Row, before: Sample | None, now: Sample, interval_s: float | None) -> list[Line]:
    values = _finite(now.values.get(row.metric, {}))
    return [Line(labels=_words(labels), level=value) for labels, value in sorted(values.items())]


def _grown(name: str, before: Sample | None, now: Sample) -> dict[Labels, float]:
    """Since the look before, or since the start where there was none."""
    values = _finite(now.values.get(name, {}))
    earlier = _finite(before.values.get(name, {})) if before is not None else {}
    grown = {}
    for labels, value in values.items():
        was = earlier.get(labels, 0.0)
        grown[labels] = max(0.0, value - was if value >= was else value)
    return grown


def _finite(values: Mapping[Labels, float]) -> dict[Labels, float]:
    return {labels: value for labels, value in values.items() if math.isfinite(value)}


def _edge(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _words(labels: Labels) -> str:
    return " ".join(value for _, value in labels)
