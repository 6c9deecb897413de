"""Approvals around one request: passing a limit by one, and asking for one with a ticket.

Called once a limit has refused. Nothing here decides whether a budget asks at all: that is the step
`approval` of its escalation.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from budgets.approvals.types import (
    ApprovalUse,
    NewTicket,
    Opened,
    TicketBudget,
    TicketKind,
    TicketState,
    Who,
)
from budgets.config import Step
from budgets.holds import BudgetHold, BudgetState, HoldRequest
from budgets.holds import Refused as LedgerRefused
from budgets.runtime import Runtime
from hooks.case import Case, compact_json

HEADER = "x-farebox-approval"
ID_LENGTH_MAX = 64
HOUR_MS = 3_600_000


def presented(case: Case) -> str:
    """Return the approval that a request names in its header; empty for none."""
    given = case.incoming.headers.get(HEADER, "").strip()
    return given if len(given) <= ID_LENGTH_MAX and given.isascii() else "unreadable"


def asker(case: Case) -> Who:
    """Return who asks: by the key alone, never by what the caller claims."""
    return Who(case.caller.key_name or "", case.caller.user or "")


def in_the_way(
    budgets: Sequence[BudgetHold], refused: LedgerRefused
) -> tuple[tuple[BudgetHold, BudgetState], ...]:
    """Return the budgets whose limits a request would pass, with their states."""
    return tuple(
        (share, state)
        for share, state in zip(budgets, refused.states, strict=True)
        if share.enforced and state.spent_nano_usd + share.amount_nano_usd > state.bearable_nano_usd
    )


async def by_approval(
    runtime: Runtime,
    case: Case,
    request: HoldRequest,
    refused: LedgerRefused,
    facts: dict[str, Any],
) -> HoldRequest | None:
    """Return the refused hold anew, with an approval to pass by; None where there is none.

    The one that the request names, else one that matches by itself. A limit that only requests
    under way are in the way of is waited for, unless an approval is named.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    decision = case.decision
    assert decision is not None
    named, who = presented(case), asker(case)
    approval_id: str | None = named
    if not named:
        if refused.code != "budget_exceeded" or not asks(case, request.budgets, refused):
            return None
        found = in_the_way(request.budgets, refused)
        limits = [(share.budget, share.period.id) for share, _ in found]
        approval_id = await runtime.ask(
            runtime.ledger.find_approval(who, decision.task_type, limits, request.amount_nano_usd)
        )
    if not approval_id:
        return None
    return replace(
        request,
        facts=compact_json(facts | {"approval": approval_id}),
        approval=ApprovalUse(approval_id, who, decision.task_type, presented=bool(named)),
    )


def asks(case: Case, budgets: Sequence[BudgetHold], refused: LedgerRefused) -> bool:
    """Whether every budget that refuses has a person asked when it is used up."""
    tree, category = (
        case.policy.budgets.escalation,
        case.decision.category if case.decision else None,
    )
    limits = in_the_way(budgets, refused)
    return bool(limits) and all(
        Step.APPROVAL in tree.steps(share.rule, category) for share, _ in limits
    )


async def open_ticket(
    runtime: Runtime, case: Case, request: HoldRequest, refused: LedgerRefused
) -> Opened | None:
    """Ask for this request, with the ticket of its breach; None where too many are open.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    limits, who = in_the_way(request.budgets, refused), asker(case)
    breach = [[share.budget, share.period.id, state.limit_epoch] for share, state in limits]
    opened = await runtime.ask(
        runtime.ledger.open_ticket(
            NewTicket(
                approval_id=f"a-{uuid.uuid4().hex}",
                kind=TicketKind.CALL,
                breach=json.dumps([breach, who.key, who.user]),
                asker=who,
                task_type=case.decision.task_type if case.decision else "",
                budgets=tuple(
                    TicketBudget(share.budget, share.rule, share.period.id) for share, _ in limits
                ),
                requested_nano_usd=request.amount_nano_usd,
                expires_in_ms=int(case.policy.budgets.approvals.expires_hours * HOUR_MS),
                valid_to_ms=min(share.period.end_ms for share, _ in limits),
                context=_context(case, limits),
            )
        )
    )
    return None if opened.full else opened


def _context(case: Case, limits: Sequence[tuple[BudgetHold, BudgetState]]) -> Mapping[str, Any]:
    """Return what an approver should know; never text of the request."""
    decision = case.decision
    candidate = decision.candidate(decision.group) if decision and decision.group else None
    cost = candidate.cost if candidate is not None else None
    return {
        "category": decision.category if decision else None,
        "group": decision.group if decision else None,
        "team": case.caller.team,
        "decision_id": case.decision_id,
        "estimate_nano_usd": cost.estimate_nano_usd if cost else None,
        "budgets": [
            {
                "budget": state.budget,
                "period_id": state.period_id,
                "limit_nano_usd": state.limit_nano_usd,
                "carry_nano_usd": state.carry_nano_usd,
                "granted_nano_usd": state.granted_nano_usd,
                "spent_nano_usd": state.spent_nano_usd,
                "held_nano_usd": state.held_nano_usd,
            }
            for _, state in limits
        ],
    }


def next_step(opened: Opened) -> str:
    """Return what the caller can do now."""
    name = opened.approval_id
    match opened.state:
        case TicketState.APPROVED:
            return f"It is approved: send the request again with the header {HEADER}: {name}."
        case TicketState.DENIED:
            return "It was asked for and denied; nothing more can be asked for this limit."
    return (
        f"An approver answers it with `farebox approvals approve {name}`; then send the request "
        f"again with the header {HEADER}: {name}."
    )


def asked_text(detail: Mapping[str, Any]) -> str:
    """Return what a refusal's message says of its ticket; empty where it has none."""
    if "approval_id" not in detail:
        return ""
    said = {
        TicketState.APPROVED.value: "was approved: name it in the header " + HEADER,
        TicketState.DENIED.value: "was denied",
    }
    state = said.get(str(detail.get("approval_state")), "is asked for")
    return f" Approval {detail['approval_id']} {state}."


_PROBLEMS = {
    "unknown": "there is no approval of this id for this key",
    "not_approved": "it is not approved",
    "over": "its time is over",
    "used_up": "not enough of it is left for this request",
    "other_budget": "it does not name every budget that refuses",
}


def problem_text(problem: str) -> str:
    """Return why the approval that a request named did not help; empty where it named none."""
    reason = _PROBLEMS.get(problem)
    return "" if reason is None else f" The approval in {HEADER} does not help: {reason}."
