"""How grants look as JSON: in their records, in the audit trail, in events."""

from __future__ import annotations

import json
from typing import Any

from budgets.grants.types import Grant, GrantKind, GrantPart, NewGrant


def record_of(new: NewGrant) -> dict[str, Any]:
    """Return what is recorded of a grant but for its time, which the store adds."""
    return {
        "id": new.stored_id,
        "kind": new.kind.value,
        "period_id": new.period.id,
        "parts": [
            {"budget": it.budget, "rule": it.rule, "amount_nano_usd": str(it.amount_nano_usd)}
            for it in new.parts
        ],
        "until_ms": new.until_ms,
        "actor": new.actor,
        "reason": new.reason,
        "approver": new.approver,
    }


def record_text(new: NewGrant) -> str:
    """Return the record as JSON text. Amounts are texts: Lua would round large numbers."""
    return json.dumps(record_of(new), separators=(",", ":"))


def grant_from(text: str) -> Grant:
    """Return the grant that a record's text holds."""
    given = json.loads(text)
    return Grant(
        id=given["id"],
        kind=GrantKind(given["kind"]),
        period_id=given["period_id"],
        parts=tuple(
            GrantPart(it["budget"], it["rule"], int(it["amount_nano_usd"])) for it in given["parts"]
        ),
        until_ms=int(given["until_ms"]),
        actor=given["actor"],
        reason=given["reason"],
        approver=given.get("approver", ""),
        time_ms=int(given["time_ms"]),
    )


def as_dict(grant: Grant) -> dict[str, Any]:
    """Return a grant as routes and commands show it."""
    return {
        "id": grant.id,
        "kind": grant.kind.value,
        "period_id": grant.period_id,
        "parts": [
            {"budget": it.budget, "rule": it.rule, "amount_nano_usd": it.amount_nano_usd}
            for it in grant.parts
        ],
        "until_ms": grant.until_ms,
        "actor": grant.actor,
        "approver": grant.approver or None,
        "reason": grant.reason,
        "time_ms": grant.time_ms,
    }
