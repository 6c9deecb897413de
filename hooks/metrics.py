"""Figures for Prometheus: what each worker did and what waits in it. Spending is read from the
ledger. The counters of overages are in `budgets.counters`.

With several workers the values are summed over all of them, through the folder that
`PROMETHEUS_MULTIPROC_DIR` names (`./scripts/serve` gives each start one of its own).
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

POLICY_RELOADS = Counter(
    "farebox_policy_reloads",
    "Edits of the three configuration files, by what became of them.",
    ["result"],
)
ADMITTED = Counter(
    "farebox_requests_admitted", "Requests that were sent, by category.", ["category"]
)
REFUSED = Counter("farebox_requests_refused", "Requests that were refused, by code.", ["code"])
JOURNAL_LINES = Gauge(
    "farebox_journal_lines",
    "Lines that wait for the ledger, over all workers.",
    multiprocess_mode="livesum",
)
LEDGER_AVAILABLE = Gauge(
    "farebox_ledger_available",
    "1 while every worker reaches the ledger, 0 while one does not.",
    multiprocess_mode="livemin",
)
APPROVALS_OPEN = Gauge(
    "farebox_approvals_open",
    "Tickets that wait for an approver's answer.",
    multiprocess_mode="livemax",
)
COMPARISONS = Counter(
    "farebox_shadow_comparisons",
    "Live requests that were drawn for a shadow comparison, by what became of it.",
    ["result"],
)

for _result in ("taken", "rejected"):
    POLICY_RELOADS.labels(_result)


def exposition() -> bytes:
    """Return the counters of Farebox in Prometheus' text format, LiteLLM's among them."""
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # not annotated
    return generate_latest(registry)
