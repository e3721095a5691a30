"""Plots of a benchmark's rows, by what the rows are like: known pairs and curves as lines, numbers by name as bars.

Rows of one kind have nearly the same columns. Where there are more of them than bars are readable, medians by the
columns that name few things are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from splitrt.report.chart import Bars, Chart, Plot, Series, spoken, thinned
from splitrt.report.run import Row, number, text

MOST_CHARTS = 20
MOST_BARS = 24
MOST_SERIES = 8
MOST_KINDS = 6
MOST_OF_A_KIND = 6  # charts
DIALS = frozenset({"width", "bits", "quality", "seed", "round"})  # were set, not measured
ALIKE = 0.6  # share of common columns that makes two rows one kind


class Pair(NamedTuple):
    """Columns that are a curve where rows have both."""

    x: str
    y: str
    by: str
    is_log_x: bool = False


PAIRS = (
    Pair("link_bytes", "score", "how", is_log_x=True),
    Pair("share", "risk", "study"),
    Pair("share", "accuracy", "study"),
)


def bench_charts(rows: Sequence[Row]) -> list[Chart]:
    charts: list[Chart] = []
    for pair in PAIRS:
        charts += _pair(pair, rows)
    paired = {name for pair in PAIRS for name in pair[:3]} if charts else set()
    for kind in _kinds(rows):
        names = _names(kind)
        charts += _curves(kind, names)
        charts += _figures(kind, names, DIALS | (paired if any(pair.y in kind[0] for pair in PAIRS) else set()))
    return charts[:MOST_CHARTS]


def _pair(pair: Pair, rows: Sequence[Row]) -> list[Chart]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        x, y = number(row.get(pair.x)), number(row.get(pair.y))
        if x is not None and y is not None and pair.by in row and (x > 0 or not pair.is_log_x):
            points.setdefault(text(row[pair.by]), []).append((x, y))
    series = [
        Series(name=name, points=thinned(sorted(own)), kind="dots" if len(own) < 3 else "line")
        for name, own in list(points.items())[:MOST_SERIES]
    ]
    if sum(len(one.points) for one in series) < 4:
        return []
    x_label, y_label = spoken(pair.x), spoken(pair.y)
    title = f"{y_label} over {x_label}"
    return [Plot(title=title, x_label=x_label, y_label=y_label, series=tuple(series), is_log_x=pair.is_log_x)]


def _kinds(rows: Sequence[Row]) -> list[list[Row]]:
    kinds: list[tuple[set[str], list[Row]]] = []
    for row in rows:
        own = set(row)
        for columns, members in kinds:
            if len(own & columns) >= ALIKE * len(own | columns):
                members.append(row)
                break
        else:
            if len(kinds) < MOST_KINDS and own:
                kinds.append((own, [row]))
    return [members for _, members in kinds]


def _names(rows: Sequence[Row]) -> list[str]:
    """What each row is called: by its columns of text that together name no more things than bars are readable."""
    columns = [name for name, value in rows[0].items() if isinstance(value, str)]
    distinct = {column: {text(row.get(column)) for row in rows} for column in columns}
    chosen: list[str] = columns[:1] if len(rows) == 1 else []
    for column in sorted(columns, key=lambda column: -len(distinct[column])):
        together = {tuple(text(row.get(one)) for one in [*chosen, column]) for row in rows}
        if len(distinct[column]) > 1 and len(together) <= MOST_BARS:
            chosen.append(column)
    chosen.sort(key=columns.index)
    return [" · ".join(text(row[one]) for one in chosen if row.get(one) is not None) for row in rows]


def _curves(rows: Sequence[Row], names: Sequence[str]) -> list[Chart]:
    """Columns that hold pairs of numbers, a line a row."""
    charts: list[Chart] = []
    for column in [name for name, value in rows[0].items() if len(_pairs(value)) >= 8][:2]:
        series = tuple(
            Series(name=name or f"row {index}", points=thinned(_pairs(row.get(column))))
            for index, (name, row) in enumerate(zip(names[:MOST_SERIES], rows[:MOST_SERIES], strict=True))
        )
        title = spoken(column) + (f": {names[0]}" if len(series) == 1 and names[0] else "")
        charts.append(Plot(title=title, x_label="", y_label="", series=series))
    return charts


def _pairs(value: object) -> list[tuple[float, float]]:
    pairs = [(number(one[0]), number(one[1])) for one in value if _is_pair(one)] if isinstance(value, list) else []
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def _figures(rows: Sequence[Row], names: Sequence[str], shown: frozenset[str]) -> list[Chart]:
    """One chart for each of the first columns of numbers that are not all the same."""
    charts: list[Chart] = []
    columns = dict.fromkeys(name for row in rows[:50] for name in row)
    for column in columns:
        values = [
            (name, value)
            for name, row in zip(names, rows, strict=True)
            if (value := number(row.get(column))) is not None
        ]
        is_told = len(values) > 1 and len({value for _, value in values}) > 1 and column not in shown
        if is_told and len(charts) < MOST_OF_A_KIND:
            charts.append(_figure(column, values))
    return charts


def _figure(column: str, values: Sequence[tuple[str, float]]) -> Chart:
    by_name: dict[str, list[float]] = {}
    for name, value in values:
        by_name.setdefault(name, []).append(value)
    if len(by_name) == 1:
        points = [(float(index), value) for index, (_, value) in enumerate(values)]
        line = Series(name=column, points=thinned(points), kind="dots" if len(points) > 60 else "line")
        return Plot(title=spoken(column), x_label="row", y_label=spoken(column), series=(line,))
    most = max(map(len, by_name.values()))
    return Bars(
        title=spoken(column) + (f", medians of up to {most} rows" if most > 1 else ""),
        labels=tuple(by_name),
        values=tuple(median(own) for own in by_name.values()),
    )
