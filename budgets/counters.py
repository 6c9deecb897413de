"""Counters for Prometheus of what the ledger answered in this process.

The rest are in `hooks.metrics`, which shows all of them; these are here because both the side that
decides and the side that accounts must reach them. `group` is a group of `litellm_config.yaml`.
"""

from __future__ import annotations

from prometheus_client import Counter

OVERAGE_REQUESTS = Counter(
    "farebox_overage_requests",
    "Requests that cost more than their hold, by group; they were charged in full.",
    ["group"],
)
OVERAGE_NANO_USD = Counter(
    "farebox_overage_nano_usd",
    "What those requests cost beyond their holds, in nanodollars, by group.",
    ["group"],
)
GATE_VERDICTS = Counter(
    "farebox_gate_verdicts",
    "First answers of gated requests, by task type and verdict (passed, failed, not_judged).",
    ["task_type", "verdict"],
)
GATE_OUTCOMES = Counter(
    "farebox_gate_outcomes",
    "Gated requests, by task type and what became of them (served, escalated, withheld, failed).",
    ["task_type", "outcome"],
)
