"""What a panel is made of, with its kinds' options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Query:
    """A query in PromQL, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. `text` says what it shows; `steps` are colours with the value that each begins at.

    `least` is where the axis begins. `kind` is Grafana's: timeseries, stat, bargauge, table.
    """

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    decimals: int | None = None
    steps: tuple[tuple[str, float], ...] = ()
    least: float | None = 0

    @property
    def instant(self) -> bool:
        """Whether it shows this moment only."""
        return self.kind != "timeseries"

    def options(self) -> dict[str, Any]:
        """Return Grafana's options of its kind."""
        latest = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        match self.kind:
            case "stat":
                return {"reduceOptions": latest, "colorMode": "value", "graphMode": "none"}
            case "bargauge":
                return {
                    "reduceOptions": latest,
                    "orientation": "horizontal",
                    "displayMode": "basic",
                    "valueMode": "color",
                }
            case "table":
                return {"showHeader": True, "cellHeight": "sm"}
        return {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


def panel(title: str, text: str, *queries: str | tuple[str, str], **more: Any) -> Panel:
    """Return a panel; a query is PromQL, or that with its legend."""
    made = tuple(Query(it) if isinstance(it, str) else Query(*it) for it in queries)
    return Panel(title, text, made, **more)
