"""The kinds of alerts, their usual levels, and the events of the ledger that are told together."""

from __future__ import annotations

from typing import Literal

from budgets.drift.signals import SIGNALS, Signal
from budgets.published import Level

Kind = Literal[
    "threshold",
    "forecast",
    "rate",
    "overage",
    "unreconciled",
    "recovered",
    "lost_hold",
    "rebuilt",
    "clock_stepped",
    "store_away",
    "approval_asked",
    "queue_dead",
    "period_closed",
    "recalibrate",
    Signal,
]
"""The signals of drift are kinds too (`budgets.drift`)."""

DRIFT = "drift"
"""The message of all signals of drift."""

KINDS: dict[str, Level] = {
    "forecast": Level.WARNING,
    "rate": Level.WARNING,
    "overage": Level.INFORMATIONAL,
    "unreconciled": Level.WARNING,
    "recovered": Level.WARNING,
    "lost_hold": Level.CRITICAL,
    "rebuilt": Level.WARNING,
    "clock_stepped": Level.CRITICAL,
    "store_away": Level.CRITICAL,
    "approval_asked": Level.WARNING,
    "queue_dead": Level.WARNING,
    "period_closed": Level.INFORMATIONAL,
    "recalibrate": Level.WARNING,
    "served_model_differs": Level.CRITICAL,
    "escalation_rate": Level.WARNING,
    "fallback_rate": Level.WARNING,
    "input_length": Level.WARNING,
    "score_distribution": Level.WARNING,
    "output_length": Level.WARNING,
    "model_changed": Level.WARNING,
    "latency_missed": Level.WARNING,
    "estimate_error": Level.WARNING,
    "tier_mismatch": Level.WARNING,
    "frontier_by_name": Level.INFORMATIONAL,
    "untagged_share": Level.INFORMATIONAL,
    "test": Level.INFORMATIONAL,
}
"""The level of each kind, unless the file says otherwise; a threshold has its own."""

GATHERED: dict[str, str] = {
    "overage": "overage_nano_usd",
    "unreconciled": "charged_nano_usd",
    "recovered": "charged_nano_usd",
    "lost_hold": "",
    "rebuilt": "",
    "clock_stepped": "",
    "store_away": "",
    "queue_dead": "",
    "period_closed": "",
    "recalibrate": "",
}
"""Events that come in crowds and are told together, with the field of the amount to add up."""

SHOWN = ("threshold", "forecast", "rate", "approval_asked", "gathered", "test", *SIGNALS)
"""The events of the ledger's stream that are alerts."""

TEMPLATES = frozenset({level.value for level in Level} | (set(KINDS) - set(SIGNALS)) | {DRIFT})
"""The messages that there are: one for each level of a threshold, one for all signals of drift, one
for each other kind."""


def template_of(kind: str, level: str) -> str:
    """Return the name of an alert's message."""
    if kind in SIGNALS:
        return DRIFT
    return level if kind == "threshold" else kind
