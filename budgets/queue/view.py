"""What may be shown of a queued request, as JSON: everything but its texts. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from budgets import money
from budgets.queue.items import Item, Totals


def item_dict(item: Item) -> dict[str, Any]:
    """Return a queued request as its readers get it."""
    return {
        "queue_id": item.id,
        "state": item.state.value,
        "reason": item.reason or None,
        "category": item.category,
        "task_type": item.task_type,
        "priority": item.priority,
        "key_name": item.key_name,
        "queued_at": _iso(item.queued_ms),
        "expires_at": _iso(item.expires_ms),
        "changed_at": _iso(item.changed_ms),
        "attempts": item.attempts,
        "attempts_max": item.attempts_max,
        "run": item.run,
        "not_before": _iso(item.not_before_ms) if item.not_before_ms else None,
        "estimate_usd": money.plain(item.estimate_nano_usd),
        "needs": [
            {"budget": need.budget, "hold_usd": money.plain(need.amount_nano_usd)}
            for need in item.needs
        ],
        "bytes": item.bytes,
        "webhook": bool(item.webhook),
        "decision_id": item.decision_id,
        "approval_id": item.approval_id or None,
        "status": item.status or None,
    }


def totals_dict(totals: Totals) -> dict[str, Any]:
    """Return how much is queued."""
    return {
        "waiting": totals.waiting,
        "running": totals.running,
        "dead": totals.dead,
        "oldest_age_s": totals.age_ms() // 1000,
        "expected_usd": money.plain(totals.estimate_nano_usd),
        "by_category": {
            depth.category: {
                "requests": depth.requests,
                "bytes": depth.bytes,
                "expected_usd": money.plain(depth.estimate_nano_usd),
            }
            for depth in totals.depths
        },
    }


def _iso(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
