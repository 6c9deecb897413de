"""Figures for Prometheus: what became of alerts. They are shown by `hooks.metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

DELIVERED = Counter("farebox_alerts_delivered", "Alerts that reached a channel.", ["channel"])
FAILED = Counter(
    "farebox_alerts_failed", "Attempts to reach a channel that failed, by channel.", ["channel"]
)
DEAD = Counter("farebox_alerts_dead", "Alerts that were given up after many attempts.", ["channel"])
WAITING = Gauge(
    "farebox_alerts_waiting",
    "Alerts in the outbox, and deliveries that wait for their next attempt or a quiet hour's end.",
    multiprocess_mode="livemostrecent",
)
