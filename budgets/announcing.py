"""Says in the log what a call to the ledger brought about: thresholds, a cost above its hold."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from budgets.counters import OVERAGE_NANO_USD, OVERAGE_REQUESTS
from budgets.holds import ThresholdEvent
from budgets.open_requests import OpenRequest
from budgets.settlements import Settled, SettleStatus

log = structlog.get_logger("farebox.ledger")


def announce(events: Iterable[ThresholdEvent]) -> None:
    """Log the thresholds that a call has claimed; the ledger's event stream has them already."""
    for event in events:
        log.warning(
            "threshold_reached",
            level=event.level.value,
            percent=event.percent,
            budget=event.budget,
            period=event.period_id,
            spent_nano_usd=event.spent_nano_usd,
            limit_nano_usd=event.limit_nano_usd,
        )


def announce_overage(request: OpenRequest, settled: Settled) -> bool:
    """Log and count a request that cost more than its hold, and say whether it did.

    A repeated settle tells it only once.
    """
    ended_now = settled.status in (SettleStatus.SETTLED, SettleStatus.CORRECTED)
    if settled.overage_nano_usd == 0 or not ended_now:
        return False
    group = request.attempts[-1].group if request.attempts else request.group
    OVERAGE_REQUESTS.labels(group).inc()
    OVERAGE_NANO_USD.labels(group).inc(settled.overage_nano_usd)
    log.warning(
        "overage",
        request_id=request.request_id,
        decision_id=request.decision_id,
        group=group,
        category=request.facts.get("category"),
        charged_nano_usd=settled.charged_nano_usd,
        held_nano_usd=settled.held_nano_usd,
        overage_nano_usd=settled.overage_nano_usd,
    )
    return True
