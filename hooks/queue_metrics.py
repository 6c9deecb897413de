"""The queue's figures for Prometheus, as the leading worker sees them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from budgets.money import NANO_PER_USD
from budgets.queue.items import Totals

DEPTH = Gauge(
    "farebox_queue_depth",
    "Queued requests that wait or run, by category.",
    ["category"],
    multiprocess_mode="mostrecent",
)
AGE_SECONDS = Gauge(
    "farebox_queue_age_seconds",
    "How long the oldest queued request that has not ended has waited.",
    multiprocess_mode="mostrecent",
)
EXPECTED_USD = Gauge(
    "farebox_queue_expected_usd",
    "What the queued requests will probably cost together, in US dollars.",
    multiprocess_mode="mostrecent",
)
DEAD = Gauge(
    "farebox_queue_dead",
    "Requests on the dead-letter list.",
    multiprocess_mode="mostrecent",
)
RUNS = Counter("farebox_queue_runs", "Runs of queued requests, by outcome.", ["outcome"])

_shown: set[str] = set()


def show(totals: Totals) -> None:
    """Set the gauges. A category whose requests have all ended goes to 0."""
    depths = {depth.category: depth.requests for depth in totals.depths}
    _shown.update(depths)
    for category in _shown:
        DEPTH.labels(category).set(depths.get(category, 0))
    AGE_SECONDS.set(totals.age_ms() / 1000)
    EXPECTED_USD.set(totals.estimate_nano_usd / NANO_PER_USD)
    DEAD.set(totals.dead)
