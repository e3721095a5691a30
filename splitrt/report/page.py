"""The page: tables of the summary and the environment, plots of the rows. Everything of the run is escaped, and the
page's own policy forbids it to load or run anything, so that a run of a stranger's is read, not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import splitrt
from splitrt.report.bench import bench_charts
from splitrt.report.chart import Chart, Plot
from splitrt.report.frames import frame_charts, is_frame_log
from splitrt.report.run import Run, text
from splitrt.report.style import STYLE
from splitrt.report.svg import colour_of, draw

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MOST_LINES = 200  # of a table
MOST_ACROSS = 8  # columns


def charts_of(run: Run) -> list[Chart]:
    return frame_charts(run.rows) if is_frame_log(run.rows) else bench_charts(run.rows)


def page(run: Run) -> str:
    """HTML, whole in itself."""
    figures = "".join(_figure(chart) for chart in charts_of(run)) or "<p>Nothing in these rows can be plotted.</p>"
    title = escape(run.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title} · splitrt</title>'
        f"<style>{STYLE}</style></head><body><header><h1>{title}</h1>"
        f"<p>{len(run.rows):,} rows · written by splitrt {escape(splitrt.__version__)}</p></header><main>"
        f'<section><h2>Summary</h2><div class="tables">{_tables(run.summary, "this run")}</div></section>'
        f'<section><h2>Plots</h2><div class="plots">{figures}</div></section>'
        f'<section><h2>Environment</h2><div class="tables">{_environment(run.environment)}</div></section>'
        f"</main></body></html>\n"
    )


def _figure(chart: Chart) -> str:
    legend = ""
    if isinstance(chart, Plot) and (len(chart.series) > 1 or chart.band is not None or chart.series[0].colour):
        items = [(colour_of(one, index), one.name) for index, one in enumerate(chart.series) if one.points]
        if chart.band is not None:
            items.append(("c0 faint", chart.band.name))
        legend = "".join(f'<li><i class="{colour}"></i>{escape(name)}</li>' for colour, name in items)
        legend = f"<ul>{legend}</ul>"
    return f"<figure><figcaption>{escape(chart.title)}</figcaption>{draw(chart)}{legend}</figure>"


def _environment(environment: Mapping[str, Any]) -> str:
    return _tables(environment, "") or "<p>The run does not say where it ran.</p>"


def _tables(values: Mapping[str, Any], own_name: str) -> str:
    """Plain values in one table, each mapping in its own. Mappings of the same keys stand side by side, the plain
    values beside them where these have those keys too.
    """
    mappings = [value for value in values.values() if isinstance(value, dict)]
    if len(mappings) > 1 and all(set(one) == set(mappings[0]) for one in mappings) and len(mappings) == len(values):
        return _matrix("", values)
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    tables, is_shown = [], False
    for key, value in values.items():
        if not isinstance(value, dict):
            continue
        columns = {name: one for name, one in value.items() if isinstance(one, dict)}
        if columns and len(columns) == len(value):
            common = set(plain).intersection(*columns.values())
            if len(common) > 2:
                columns, is_shown = {own_name: plain, **columns}, True
            tables.append(_matrix(key, columns))
        else:
            tables.append(_matrix(key, {"": value}))
    if plain and not is_shown:
        tables.insert(0, _matrix("", {"": plain}))
    return "".join(tables)


def _matrix(caption: str, columns: Mapping[str, Mapping[str, Any]]) -> str:
    shown = dict(list(columns.items())[:MOST_ACROSS])
    keys = list(dict.fromkeys(key for column in shown.values() for key in column))[:MOST_LINES]
    head = ""
    if any(shown):
        head = "<thead><tr><th></th>" + "".join(f"<th>{escape(text(name))}</th>" for name in shown) + "</tr></thead>"
    rows = "".join(f"<tr><th>{escape(text(key))}</th>{_cells(key, list(shown.values()))}</tr>" for key in keys)
    title = f"<caption>{escape(text(caption))}</caption>" if caption else ""
    return f'<div class="table"><table>{title}{head}<tbody>{rows}</tbody></table></div>'


def _cells(key: str, columns: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<td>{escape(text(column[key])) if key in column else ''}</td>" for column in columns)
