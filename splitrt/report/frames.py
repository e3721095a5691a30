"""Plots of a frame log, as `splitrt stream` and `splitrt demo` write it: one row a frame, each stream by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from splitrt.report.chart import Band, Chart, Plot, Points, Series, thinned
from splitrt.report.run import Row, number, text

MOST_STREAMS = 6
SOURCES = ("gate", "exit", "remote", "fallback", "skipped", "error")


def is_frame_log(rows: Sequence[Row]) -> bool:
    return bool(rows) and all("source" in row and "latency_ms" in row for row in rows[:100])


def frame_charts(rows: Sequence[Row]) -> list[Chart]:
    """Of each stream latency by source, width, the link's estimate and outcomes so far; of all, bytes so far."""
    streams: dict[str, list[Row]] = {}
    for row in rows:
        streams.setdefault(text(row.get("stream", "")), []).append(row)
    charts: list[Chart] = []
    sent: list[Series] = []
    for name, own in list(streams.items())[:MOST_STREAMS]:
        title = f"{name}: " if name else ""
        at, unit = _times(own)
        plots = [
            Plot(
                title=f"{title}latency by who answered", x_label=unit, y_label="latency, ms", series=_latency(own, at)
            ),
            Plot(title=f"{title}width sent", x_label=unit, y_label="width", series=_width(own, at)),
            _link(f"{title}what is believed of the uplink", own, at, unit),
            Plot(title=f"{title}outcomes so far", x_label=unit, y_label="frames", series=_outcomes(own, at)),
        ]
        charts += (plot for plot in plots if any(one.points for one in plot.series))
        sent.append(Series(name=name or "stream", points=_so_far(own, at)))
    if any(one.points and one.points[-1][1] for one in sent):
        unit = _times(rows)[1]
        charts.append(
            Plot(title="link bytes so far", x_label=unit, y_label="kilobytes, headers included", series=tuple(sent))
        )
    return charts


def _times(rows: Sequence[Row]) -> tuple[list[float], str]:
    """Seconds where every frame has them, else its place."""
    seconds = [number(row.get("at_s")) for row in rows]
    known = [one for one in seconds if one is not None]
    return (known, "seconds") if len(known) == len(rows) else ([float(index) for index in range(len(rows))], "frame")


def _source(row: Row) -> str:
    source = row.get("source")
    return source if isinstance(source, str) and source in SOURCES else "error"


def _latency(rows: Sequence[Row], at: Sequence[float]) -> tuple[Series, ...]:
    points: dict[str, list[tuple[float, float]]] = {}
    for when, row in zip(at, rows, strict=True):
        if (latency := number(row.get("latency_ms"))) is not None and _source(row) != "skipped":
            points.setdefault(_source(row), []).append((when, latency))
    return tuple(
        Series(name=f"{source} ({len(points[source])})", points=thinned(points[source]), kind="dots", colour=source)
        for source in SOURCES
        if source in points
    )


def _width(rows: Sequence[Row], at: Sequence[float]) -> tuple[Series, ...]:
    """Frames that were sent; the others have width 0."""
    widths = [(when, width) for when, row in zip(at, rows, strict=True) if (width := number(row.get("width")))]
    return (Series(name="width", points=thinned(widths), kind="dots"),)


def _link(title: str, rows: Sequence[Row], at: Sequence[float], unit: str) -> Plot:
    rate, low, high = (_column(rows, at, f"rate_{end}") for end in ("mbit", "low_mbit", "high_mbit"))
    is_whole = bool(low) and len(low) == len(high)
    band = Band(name="80 % of belief", low=thinned(low), high=thinned(high)) if is_whole else None
    line = Series(name="median", points=thinned(rate))
    return Plot(title=title, x_label=unit, y_label="rate, Mbit/s", series=(line,), band=band)


def _column(rows: Sequence[Row], at: Sequence[float], name: str) -> Points:
    return tuple(
        (when, value) for when, row in zip(at, rows, strict=True) if (value := number(row.get(name))) is not None
    )


def _outcomes(rows: Sequence[Row], at: Sequence[float]) -> tuple[Series, ...]:
    sources = [_source(row) for row in rows]
    present = [source for source in SOURCES if source in sources]
    counts: Counter[str] = Counter()
    lines: dict[str, list[tuple[float, float]]] = {source: [] for source in present}
    for when, source in zip(at, sources, strict=True):
        counts[source] += 1
        for one in present:
            lines[one].append((when, float(counts[one])))
    return tuple(
        Series(name=f"{one} ({counts[one]})", points=thinned(lines[one]), kind="steps", colour=one) for one in present
    )


def _so_far(rows: Sequence[Row], at: Sequence[float]) -> Points:
    total, points = 0.0, []
    for when, row in zip(at, rows, strict=True):
        total += max(0.0, number(row.get("link_bytes")) or 0.0)
        points.append((when, total / 1e3))
    return thinned(points)
