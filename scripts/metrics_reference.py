"""Every metric of Farebox, as the reference page and the checks of the monitoring files know them.

What a metric means is said where it is defined: its help text, which Prometheus shows too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase

from budgets import counters
from budgets.alerts import counters as alert_counters
from budgets.alerts.outbox import Depths
from budgets.queue.items import Totals
from budgets.tally import LateGauge, Spread, Tally
from hooks import metrics, queue_metrics
from hooks.metrics_store import Families, StoreFigures
from hooks.router import notice, traffic

MODULES: tuple[ModuleType, ...] = (
    counters, alert_counters, metrics, queue_metrics, notice, traffic,
)  # fmt: skip
LEDGER = "ledger"
WORKERS = "workers"


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """A metric: `name` as queries write it, its kind, labels and meaning, and where it comes from:
    the workers' own counts, or the ledger, read at each scrape."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    source: str


def described() -> tuple[MetricFacts, ...]:
    """Return every metric, by name."""
    return tuple(sorted({*_of_workers(), *_of_ledger()}, key=lambda it: it.name))


def _of_workers() -> Iterator[MetricFacts]:
    for module in MODULES:
        for found in vars(module).values():
            match found:
                case LateGauge():
                    yield MetricFacts(found.name, "gauge", (), found.documentation, WORKERS)
                case Tally() | Spread():
                    yield _facts(found.metric)
                case MetricWrapperBase():
                    yield _facts(found)


def _facts(metric: MetricWrapperBase) -> MetricFacts:
    (shown,) = metric.describe()
    name = f"{shown.name}_total" if shown.type == "counter" else shown.name
    return MetricFacts(name, shown.type, tuple(metric._labelnames), shown.documentation, WORKERS)


def _of_ledger() -> Iterator[MetricFacts]:
    figures = StoreFigures(queue=Totals(0, (), 0, 0, 0, None), alerts=Depths(), approvals_open=0)
    for family in Families(figures, ()).described():
        yield MetricFacts(
            family.name, family.type, tuple(family._labelnames), family.documentation, LEDGER
        )


def series(metric: MetricFacts) -> tuple[str, ...]:
    """Return the names that a metric's series have."""
    if metric.kind == "histogram":
        return tuple(f"{metric.name}_{part}" for part in ("bucket", "sum", "count"))
    return (metric.name,)
