"""Counters for Prometheus: what each worker did. Money is not here: it is read from the ledger.

With several workers the values are summed over all of them, through the folder that
`PROMETHEUS_MULTIPROC_DIR` names (`./scripts/serve` gives each start one of its own).
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess

POLICY_RELOADS = Counter(
    "farebox_policy_reloads",
    "Edits of the three configuration files, by what became of them.",
    ["result"],
)
ADMITTED = Counter(
    "farebox_requests_admitted", "Requests that were sent, by category.", ["category"]
)
REFUSED = Counter("farebox_requests_refused", "Requests that were refused, by code.", ["code"])

for _result in ("taken", "rejected"):
    POLICY_RELOADS.labels(_result)


def exposition() -> bytes:
    """Return the counters of Farebox in Prometheus' text format, LiteLLM's among them."""
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # not annotated
    return generate_latest(registry)
