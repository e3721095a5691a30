"""Writes the dashboards of panels.py as Grafana reads them: fleet, link, language, tails.

`python deploy/grafana/dashboards.py`. What Grafana knows better (colours, tooltips) is left to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from panels import DASHBOARDS, Panel

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = {"type": "prometheus", "uid": "${source}"}
PANELS_A_ROW, WIDTH, HEIGHT = 3, 8, 8


def dashboard(name: str) -> dict[str, Any]:
    """Grafana's JSON model."""
    return {
        "uid": f"splitrt-{name}",
        "title": f"splitrt: {name}",
        "tags": ["splitrt"],
        "schemaVersion": 38,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {"list": [_source(), _bundle()]},
        "panels": [_panel(panel, place) for place, panel in enumerate(DASHBOARDS[name])],
    }


def text(name: str) -> str:
    return json.dumps(dashboard(name), indent=1) + "\n"


def _panel(panel: Panel, place: int) -> dict[str, Any]:
    row, column = divmod(place, PANELS_A_ROW)
    custom = {"fillOpacity": 30, "stacking": {"mode": "normal"}} if panel.stacked else {}
    return {
        "id": place + 1,
        "title": panel.title,
        "description": panel.words,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": WIDTH * column, "y": HEIGHT * row, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend,
             "exemplar": "_bucket" in query}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }  # fmt: skip


def _source() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _bundle() -> dict[str, Any]:
    query = "label_values(splitrt_model_info, bundle)"
    return {
        "name": "bundle", "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "multi": True,
        "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name))
