"""Charts as SVG: text, circles and paths, coloured by the page's classes. Nothing in it can load or run anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from splitrt.report.chart import Bars, Chart, Plot, Points, Series

WIDTH, HEIGHT = 640.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 28.0, 12.0, 42.0
BAR, LABELS = 22.0, 200.0
PALETTE = 8


def draw(chart: Chart) -> str:
    """An <svg> element."""
    return _bars(chart) if isinstance(chart, Bars) else _plot(chart)


def colour_of(series: Series, index: int) -> str:
    """Its class on the page."""
    return f"c-{series.colour}" if series.colour else f"c{index % PALETTE}"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from at most `low` to at least `high`, steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next((one * power for one in (1, 2, 5, 10) if span / (one * power) <= most), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


class _Scale:
    """From values to places on an axis."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, is_log: bool, has_zero: bool) -> None:
        self._start, self._end, self._is_log = start, end, is_log
        if is_log:
            low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
            self.ticks = [10.0**power for power in range(low, max(high, low + 1) + 1)]
        else:
            low_value, high_value = min(values), max(values)
            if has_zero and low_value >= 0 and low_value < 0.6 * high_value:
                low_value = 0.0
            if low_value == high_value:
                pad = abs(low_value) / 2 or 0.5
                low_value, high_value = low_value - pad, high_value + pad
            self.ticks = ticks(low_value, high_value)
        self._low, self._high = self._value(self.ticks[0]), self._value(self.ticks[-1])

    def _value(self, value: float) -> float:
        return math.log10(value) if self._is_log else value

    def at(self, value: float) -> float:
        share = (self._value(value) - self._low) / ((self._high - self._low) or 1.0)
        return self._start + share * (self._end - self._start)


def _plot(plot: Plot) -> str:
    lines: list[Points] = [one.points for one in plot.series]
    if plot.band is not None:
        lines += [plot.band.low, plot.band.high]
    points = [point for line in lines for point in line]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x = _Scale(xs, LEFT, WIDTH - RIGHT, is_log=plot.is_log_x, has_zero=False)
    y = _Scale(ys, HEIGHT - BOTTOM, TOP, is_log=False, has_zero=True)
    parts = [_axes(plot, x, y)]
    if plot.band is not None:
        outline = [*plot.band.low, *reversed(plot.band.high)]
        parts.append(f'<path class="band c0" d="{_path(outline, x, y)}Z"/>')
    for index, series in enumerate(plot.series):
        parts.append(_series(series, colour_of(series, index), x, y))
    return _svg(plot.title, WIDTH, HEIGHT, parts)


def _axes(plot: Plot, x: _Scale, y: _Scale) -> str:
    parts = []
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7:g}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    floor = HEIGHT - BOTTOM
    for tick in x.ticks:
        at = x.at(tick)
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{floor:g}" y2="{floor + 4:g}"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 17:g}" text-anchor="middle">{_number(tick)}</text>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + floor) / 2
    parts.append(f'<text x="{middle_x:g}" y="{HEIGHT - 7:g}" text-anchor="middle">{escape(plot.x_label)}</text>')
    turned = f'transform="rotate(-90 13 {middle_y:g})"'
    parts.append(f'<text x="13" y="{middle_y:g}" text-anchor="middle" {turned}>{escape(plot.y_label)}</text>')
    return "".join(parts)


def _series(series: Series, colour: str, x: _Scale, y: _Scale) -> str:
    if series.kind == "dots":
        dots = "".join(f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="2.4"/>' for a, b in series.points)
        return f'<g class="dots {colour}">{dots}</g>'
    path = _path(series.points, x, y, is_stepped=series.kind == "steps")
    marks = ""
    if len(series.points) <= 40 and series.kind == "line":
        marks = "".join(f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="2.6"/>' for a, b in series.points)
    return f'<path class="line {colour}" d="{path}"/><g class="dots {colour}">{marks}</g>'


def _path(points: Sequence[tuple[float, float]], x: _Scale, y: _Scale, is_stepped: bool = False) -> str:
    words, before = [], 0.0
    for index, (a, b) in enumerate(points):
        at_x, at_y = x.at(a), y.at(b)
        if index and is_stepped:
            words.append(f"L{at_x:.1f} {before:.1f}")
        words.append(f"{'L' if index else 'M'}{at_x:.1f} {at_y:.1f}")
        before = at_y
    return "".join(words)


def _bars(bars: Bars) -> str:
    height = BAR * len(bars.values) + 8
    scale = _Scale([0.0, *bars.values], LABELS, WIDTH - 70, is_log=False, has_zero=True)
    zero, parts = scale.at(0.0), []
    for index, (label, value) in enumerate(zip(bars.labels, bars.values, strict=True)):
        top, at = 4 + BAR * index, scale.at(value)
        left, wide = min(zero, at), max(abs(at - zero), 0.8)
        name = label if len(label) <= 30 else f"{label[:29]}…"
        title = f"<title>{escape(label)}: {_number(value)}</title>"
        parts.append(f'<text x="{LABELS - 8:g}" y="{top + 15:g}" text-anchor="end">{title}{escape(name)}</text>')
        parts.append(
            f'<rect class="c0" x="{left:.1f}" y="{top + 3:g}" width="{wide:.1f}" height="{BAR - 6:g}" rx="2"/>'
        )
        parts.append(f'<text class="value" x="{left + wide + 6:.1f}" y="{top + 15:g}">{_number(value)}</text>')
    return _svg(bars.title, WIDTH, height, parts)


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return f"{head}{''.join(parts)}</svg>"


def _number(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.2g}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
