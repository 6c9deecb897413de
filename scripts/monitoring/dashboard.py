"""The dashboard as Grafana's JSON: rows of panels, laid out from the left, each with its queries.

What is shown stands in `views`. A panel's data comes from whichever Prometheus the variable
`datasource` names; `$window` is the time over which shares and rates are taken.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.monitoring.panels import Panel
from scripts.monitoring.views import VIEWS

FILE = Path(__file__).resolve().parents[2] / "docs" / "monitoring" / "dashboard.json"
SCHEMA_VERSION = 39
"""Of Grafana 10.4 and later, which take older ones over."""

WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as data."""
    return {
        "uid": "farebox",
        "title": "Farebox",
        "description": "Budgets, routing, escalations, quality. Made by python -m "
        "scripts.monitoring; what each metric means is in docs/reference/metrics.md.",
        "tags": ["farebox", "litellm"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def _variables() -> list[dict[str, Any]]:
    windows = ["5m", "15m", "1h", "6h", "1d"]
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
            "options": [],
        },
        {
            "name": "window",
            "label": "Rates over",
            "type": "custom",
            "query": ",".join(windows),
            "current": {"text": "15m", "value": "15m", "selected": True},
            "options": [{"text": it, "value": it, "selected": it == "15m"} for it in windows],
            "hide": 0,
            "includeAll": False,
            "multi": False,
        },
    ]


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for title, panels in VIEWS:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
            }
        )
        y += 1
        x = height = 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            made.append(_panel(panel, len(made) + 1, place))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return made


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.least is not None:
        defaults["min"] = panel.least
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.steps:
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"color": color, "value": value} for color, value in (("green", None), *panel.steps)
            ],
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": panel.options(),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "instant": panel.instant,
                "range": not panel.instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for index, query in enumerate(panel.queries)
        ],
    }
