"""The sentences of refusals: what happened, with the arithmetic, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from budgets import money
from budgets.holds import Refused


def instant(time_ms: int, zone: str) -> str:
    """Return an instant as ISO 8601 in the policy's time zone."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(zone)).isoformat()


def budget_detail(refused: Refused, zone: str) -> dict[str, Any]:
    """Return the arithmetic of a budget that refused, in US dollars as exact decimal text."""
    state = refused.state
    carry = {"carry": money.plain(state.carry_nano_usd)} if state.carry_nano_usd else {}
    return {
        "budget": state.budget,
        "rule": state.rule,
        "period": state.period_id,
        "limit": money.plain(state.limit_nano_usd),
        **carry,
        "spent": money.plain(state.spent_nano_usd),
        "held": money.plain(state.held_nano_usd),
        "requested": money.plain(refused.requested_nano_usd),
        "remaining": money.plain(state.remaining_nano_usd),
        "resets_at": instant(refused.period_end_ms, zone),
    }


def budget_message(refused: Refused, detail: Mapping[str, Any]) -> str:
    """Return the sentence for a budget that refused."""
    sum_up = (
        f"spent ${detail['spent']} and held ${detail['held']} of ${detail['limit']}"
        f"{_carried(refused)}; "
        f"this request may cost up to ${detail['requested']}"
    )
    if refused.code == "budget_busy":
        return (
            f"Budget {detail['budget']} is taken up by requests under way ({sum_up}). "
            "It fits once they settle: try again."
        )
    if _never_fits(refused):
        return f"Budget {detail['budget']} is too small for this request ({sum_up})."
    return (
        f"Budget {detail['budget']} has too little left for {detail['period']} ({sum_up}). "
        f"It starts anew at {detail['resets_at']}."
    )


def budget_next_step(refused: Refused, detail: Mapping[str, Any]) -> str:
    """Return what can be done about it."""
    if refused.code == "budget_busy":
        return "Retry after the time in the retry-after header."
    # Waiting helps nobody whose request is larger than the whole limit.
    wait = "Set a lower max_tokens" if _never_fits(refused) else f"Wait until {detail['resets_at']}"
    return (
        f"{wait}, or ask the budget's owner for a grant (`farebox budget grant {detail['rule']}`) "
        f"or for a higher limit_usd of {detail['rule']} in budgets/budgets.yaml: both take effect "
        "within two seconds."
    )


def _carried(refused: Refused) -> str:
    """Return how closed periods changed what this one may spend."""
    carry = refused.state.carry_nano_usd
    if carry == 0:
        return ""
    sign = "plus" if carry > 0 else "less"
    return f" {sign} ${money.plain(abs(carry))} carried over"


def _never_fits(refused: Refused) -> bool:
    return refused.requested_nano_usd > refused.state.bearable_nano_usd
