"""The kinds of alerts, their usual levels, and the events of the ledger that are told together."""

from __future__ import annotations

from typing import Literal

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
    "escalation_shift",
    "queue_dead",
    "period_closed",
    "recalibrate",
]

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
    "escalation_shift": Level.WARNING,
    "queue_dead": Level.WARNING,
    "period_closed": Level.INFORMATIONAL,
    "recalibrate": Level.WARNING,
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

SHOWN = (
    "threshold", "forecast", "rate", "approval_asked", "escalation_shift", "gathered", "test",
)  # fmt: skip
"""The events of the ledger's stream that are alerts."""

TEMPLATES = frozenset({level.value for level in Level} | set(KINDS))
"""The messages that there are: one for each level of a threshold, one for each other kind."""


def template_of(kind: str, level: str) -> str:
    """Return the name of an alert's message."""
    return level if kind == "threshold" else kind
