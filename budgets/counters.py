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
