"""Counters for Prometheus of what became of alerts; what waits is in `hooks.metrics_store`."""

from __future__ import annotations

from prometheus_client import Counter

DELIVERED = Counter("farebox_alerts_delivered", "Alerts that reached a channel.", ["channel"])
FAILED = Counter(
    "farebox_alerts_failed", "Attempts to reach a channel that failed, by channel.", ["channel"]
)
DEAD = Counter("farebox_alerts_dead", "Alerts that were given up after many attempts.", ["channel"])
