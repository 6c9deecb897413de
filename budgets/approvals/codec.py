"""How tickets look to the Lua scripts, in the audit trail, and to routes and commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from budgets.approvals.types import (
    Answer,
    NewTicket,
    Terms,
    Ticket,
    TicketBudget,
    TicketKind,
    TicketState,
    Who,
)


def asked_detail(new: NewTicket) -> dict[str, Any]:
    """Return what the audit trail says of a ticket that was opened."""
    return {
        "approval_id": new.approval_id,
        "kind": new.kind.value,
        "user": new.asker.user,
        "budgets": [[it.budget, it.period_id] for it in new.budgets],
        "requested_nano_usd": new.requested_nano_usd,
    }


def answer_detail(answer: Answer) -> dict[str, Any]:
    """Return what the audit trail says of an answer."""
    detail: dict[str, Any] = {
        "approval_id": answer.approval_id,
        "user": answer.person.user,
        "reason": answer.reason,
    }
    if answer.terms is not None:
        detail["terms"] = terms_as_dict(answer.terms)
    return detail


def terms_as_dict(terms: Terms) -> dict[str, Any]:
    """Return terms as JSON values."""
    return {
        "uses": terms.uses,
        "amount_nano_usd": terms.amount_nano_usd,
        "until_ms": terms.until_ms,
        "by": terms.by.value,
    }


def as_dict(ticket: Ticket, now_ms: int) -> dict[str, Any]:
    """Return a ticket as routes and commands show it."""
    terms = ticket.terms
    left = None
    if terms is not None:
        live = terms.until_ms > now_ms
        left = {
            "uses": None if terms.uses is None else max(0, terms.uses - ticket.uses) * live,
            "amount_nano_usd": max(0, terms.amount_nano_usd - ticket.used_nano_usd) * live,
        }
    return {
        "approval_id": ticket.approval_id,
        "kind": ticket.kind.value,
        "state": ticket.state.value,
        "asker": {"key": ticket.asker.key or None, "user": ticket.asker.user or None},
        "task_type": ticket.task_type or None,
        "budgets": [
            {"budget": it.budget, "rule": it.rule, "period_id": it.period_id}
            for it in ticket.budgets
        ],
        "requested_nano_usd": ticket.requested_nano_usd,
        "largest_nano_usd": ticket.largest_nano_usd,
        "requests": ticket.requests,
        "opened_ms": ticket.opened_ms,
        "expires_ms": ticket.expires_ms,
        "valid_to_ms": ticket.valid_to_ms,
        "context": dict(ticket.context),
        "proposal": json.loads(ticket.proposal) if ticket.proposal else None,
        "first_approved_by": ticket.first.key if ticket.first else None,
        "first_terms": terms_as_dict(ticket.first_terms) if ticket.first_terms else None,
        "decided_by": ticket.decided_by.key if ticket.decided_by else None,
        "decided_ms": ticket.decided_ms,
        "reason": ticket.reason or None,
        "terms": terms_as_dict(terms) if terms else None,
        "uses": ticket.uses,
        "used_nano_usd": ticket.used_nano_usd,
        "left": left,
    }


def budgets_text(budgets: Sequence[TicketBudget]) -> str:
    """Return budgets as the scripts read them."""
    return json.dumps([[it.budget, it.rule, it.period_id] for it in budgets])


def ticket_from(
    approval_id: str, fields: Mapping[str, str], uses: Sequence[int], now_ms: int
) -> Ticket:
    """Return the ticket that a hash holds; one that nobody answered in time has expired."""
    state = TicketState(fields["state"])
    if state is TicketState.OPEN and int(fields["expires"]) <= now_ms:
        state = TicketState.EXPIRED
    first = decided = None
    if "first_key" in fields:
        first = Who(fields["first_key"], fields["first_user"])
    if "decided_key" in fields:
        decided = Who(fields["decided_key"], fields["decided_user"])
    return Ticket(
        approval_id=approval_id,
        kind=TicketKind(fields["kind"]),
        state=state,
        asker=Who(fields["key"], fields["user"]),
        task_type=fields["task_type"],
        budgets=tuple(TicketBudget(*row) for row in json.loads(fields["budgets"])),
        requested_nano_usd=int(fields["requested"]),
        largest_nano_usd=int(fields.get("largest", fields["requested"])),
        requests=int(fields["requests"]),
        opened_ms=int(fields["opened"]),
        expires_ms=int(fields["expires"]),
        valid_to_ms=int(fields["valid_to"]),
        context=json.loads(fields["context"]),
        proposal=fields["proposal"],
        first=first,
        first_terms=Terms.from_text(fields["first_terms"]) if first else None,
        terms=Terms.from_text(fields["terms"]) if "terms" in fields else None,
        decided_by=decided,
        decided_ms=int(fields["decided"]) if "decided" in fields else None,
        reason=fields.get("reason", ""),
        uses=len(uses),
        used_nano_usd=sum(uses),
    )
