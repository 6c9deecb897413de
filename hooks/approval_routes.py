"""`/farebox/approvals`: list tickets, show one, approve or deny it; for approvers and admins.

Viewers may read. An answer bears the name of the key that gave it; nobody answers their own
request, and above the amount of the policy two persons must approve the same terms.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from budgets import money, traced
from budgets.approvals.codec import as_dict
from budgets.approvals.types import (
    REASON_LENGTH_MAX,
    USES_MAX,
    Answer,
    AnswerStatus,
    MatchBy,
    Terms,
    Ticket,
    TicketKind,
    TicketState,
)
from budgets.config import BudgetsFile, NanoUsd
from hooks.access import Role
from hooks.grant_routes import make, proposed
from hooks.guard import CleanRoute, Doorkeeper, HttpProblem, Person, forbidden, require
from hooks.keys import unix_ms
from hooks.person_routes import Clean, Place, conflict, invalid, place_of, who

_log = structlog.get_logger(__name__)

HOUR_MS = 3_600_000
TICKETS_MAX = 200
Reason = Annotated[str, Field(min_length=1, max_length=REASON_LENGTH_MAX)]


class ApproveBody(BaseModel):
    """The body of POST /farebox/approvals/{id}/approve.

    `uses` null allows any number of calls up to `amount_usd` in all. Without an amount it is as
    much as the ticket asked for, times `uses`.
    """

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    uses: Annotated[int, Field(ge=1, le=USES_MAX)] | None = 1
    amount_nano_usd: NanoUsd | None = Field(default=None, alias="amount_usd")
    until: AwareDatetime | None = None
    by: MatchBy = MatchBy.HEADER

    @property
    def says_nothing(self) -> bool:
        """Whether no term is given, so that a second person means those of the first."""
        return self.model_fields_set <= {"reason"}


class DenyBody(BaseModel):
    """The body of POST /farebox/approvals/{id}/deny."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


def build_router(doorkeeper: Doorkeeper, budgets: Callable[[], BudgetsFile]) -> APIRouter:
    """Return the routes; `budgets` gives the finance owner's file in force."""
    router = APIRouter(prefix="/farebox/approvals", route_class=CleanRoute, include_in_schema=False)
    approver = Depends(require(Role.APPROVER, doorkeeper))
    viewer = Depends(require(Role.VIEWER, doorkeeper))

    @router.get("")
    async def list_tickets(
        _: Person = viewer, state: Annotated[TicketState | None, Query()] = None
    ) -> dict[str, Any]:
        with Clean():
            place = await place_of(budgets)
            found = await place.ledger.tickets(TICKETS_MAX)
        shown = [it for it in found if state is None or it.state is state]
        return {"time_ms": place.now_ms, "approvals": [as_dict(it, place.now_ms) for it in shown]}

    @router.get("/{approval_id}")
    async def show(approval_id: str, _: Person = viewer) -> dict[str, Any]:
        with Clean():
            place = await place_of(budgets)
            return {"approval": as_dict(await _ticket(place, approval_id), place.now_ms)}

    @router.post("/{approval_id}/approve")
    async def approve(
        approval_id: str, body: ApproveBody, response: Response, person: Person = approver
    ) -> dict[str, Any]:
        with Clean():
            status, shown = await give(await place_of(budgets), person, approval_id, body)
        if status is AnswerStatus.FIRST:
            response.status_code = 202
        return shown

    @router.post("/{approval_id}/deny")
    async def deny(approval_id: str, body: DenyBody, person: Person = approver) -> dict[str, Any]:
        with Clean():
            return await refuse(await place_of(budgets), person, approval_id, body)

    return router


async def give(
    place: Place, person: Person, approval_id: str, body: ApproveBody
) -> tuple[AnswerStatus, dict[str, Any]]:
    """Approve a ticket as a person; return what came of it, and what a client gets.

    `FIRST`: another person must approve it, too. Raises `HttpProblem` where nothing was changed,
    and what `Clean` turns into one.
    """
    ticket = await _ticket(place, approval_id)
    _check_person(place, person, ticket)
    terms = _terms(place, ticket, body)
    # A grant has its first person already: the one who proposed it.
    is_call = ticket.kind is TicketKind.CALL
    two = is_call and place.budgets.approvals.two_persons(terms.amount_nano_usd)
    answer = Answer(approval_id, who(person), body.reason, terms, two)
    status = await place.ledger.answer_ticket(answer)
    _log.info("farebox_approval", id=approval_id, status=status.value, by=person.name)
    made: dict[str, Any] = {}
    if not is_call and status in (AnswerStatus.APPROVED, AnswerStatus.ALREADY_APPROVED):
        # Repeated where it failed half-way: the ticket's id makes it happen once.
        by = ticket.decided_by.key if ticket.decided_by else person.name
        made = await make(place.ledger, proposed(approval_id, ticket.proposal, by))
    elif status not in (AnswerStatus.FIRST, AnswerStatus.APPROVED):
        raise _problem(status, ticket)
    after = await _ticket(place, approval_id)
    _trace(after, status, person)
    return status, {
        "status": status.value,
        "approval": as_dict(after, place.now_ms),
        **made,
    }


async def refuse(place: Place, person: Person, approval_id: str, body: DenyBody) -> dict[str, Any]:
    """Deny a ticket as a person; return what a client gets. Raises as `give` does."""
    ticket = await _ticket(place, approval_id)
    _check_person(place, person, ticket)
    answer = Answer(approval_id, who(person), body.reason)
    status = await place.ledger.answer_ticket(answer)
    _log.info("farebox_approval", id=approval_id, status=status.value, by=person.name)
    if status is not AnswerStatus.DENIED:
        raise _problem(status, ticket)
    after = await _ticket(place, approval_id)
    _trace(after, status, person)
    return {"status": status.value, "approval": as_dict(after, place.now_ms)}


_OUTCOMES = {
    AnswerStatus.APPROVED: "granted",
    AnswerStatus.FIRST: "first of two",
    AnswerStatus.DENIED: "denied",
}


def _trace(ticket: Ticket, status: AnswerStatus, person: Person) -> None:
    """Tell of an answer to a request's ticket; it joins the trace of the request that asked."""
    decision_id = ticket.context.get("decision_id")
    outcome = _OUTCOMES.get(status)
    if outcome is None or not decision_id:
        return
    terms = ticket.terms or ticket.first_terms
    traced.answered(
        traced.ApprovalAnswered(
            approval_id=ticket.approval_id,
            outcome=outcome,
            decision_id=str(decision_id),
            when=datetime.now(UTC),
            by=person.name,
            user=ticket.asker.user,
            task_type=ticket.task_type,
            terms={
                "amount_usd": money.plain(terms.amount_nano_usd),
                "amount_nano_usd": terms.amount_nano_usd,
                "uses": terms.uses,
                "until": datetime.fromtimestamp(terms.until_ms / 1000, UTC).isoformat(),
            }
            if terms is not None
            else None,
        )
    )


async def _ticket(place: Place, approval_id: str) -> Ticket:
    found = await place.ledger.ticket(approval_id)
    if found is None:
        raise HttpProblem(
            404, "invalid_request_error", "unknown_approval", "There is no ticket of this id."
        )
    return found


def _check_person(place: Place, person: Person, ticket: Ticket) -> None:
    named = place.budgets.approvals.approvers
    if named and person.name not in named and person.user not in named:
        raise forbidden(
            f"`{person.name}` is none of the approvers that budgets.yaml names under "
            "`approvals.approvers`."
        )
    if ticket.kind is not TicketKind.CALL and not person.role.covers(Role.ADMIN):
        raise forbidden(f"A {ticket.kind.value} needs the role admin, as making one does.")


def _terms(place: Place, ticket: Ticket, body: ApproveBody) -> Terms:
    if ticket.first_terms is not None and body.says_nothing:
        return ticket.first_terms
    if ticket.kind is not TicketKind.CALL:
        if not body.says_nothing:
            raise invalid(f"A {ticket.kind.value} is approved as it was proposed, or denied.")
        return Terms(ticket.requested_nano_usd, ticket.valid_to_ms)
    amount = body.amount_nano_usd
    if amount is None:
        if body.uses is None:
            raise invalid("amount_usd: without a number of uses an approval needs an amount")
        amount = ticket.requested_nano_usd * body.uses
    if body.until is not None:
        until_ms = unix_ms(body.until)
        if until_ms > ticket.valid_to_ms:
            raise invalid("until: an approval ends with its budget's period at the latest")
    else:
        lasts_ms = int(place.budgets.approvals.lasts_hours * HOUR_MS)
        until_ms = min(ticket.valid_to_ms, place.now_ms + lasts_ms)
    return Terms(amount, until_ms, body.uses, body.by)


def _problem(status: AnswerStatus, ticket: Ticket) -> HttpProblem:
    """Return the answer to an answer that changed nothing."""
    match status:
        case AnswerStatus.OWN_REQUEST:
            return HttpProblem(
                403, "permission_error", "own_request", "Nobody answers their own request."
            )
        case AnswerStatus.SAME_PERSON:
            return HttpProblem(
                403,
                "permission_error",
                "same_person",
                "You have approved it already; a second person must, too.",
            )
        case AnswerStatus.TERMS_DIFFER:
            first = ticket.first_terms
            said = "" if first is None else f" of ${money.plain(first.amount_nano_usd)}"
            return conflict(
                "terms_differ",
                f"The first approver allowed other terms{said}: approve without any to confirm "
                "those, or deny it.",
            )
        case AnswerStatus.EXPIRED:
            return conflict("expired", "Nobody answered in time; the request must be sent again.")
        case AnswerStatus.OVER:
            return invalid("until: the time has passed, or lies beyond the budget's period")
        case AnswerStatus.UNKNOWN:
            return HttpProblem(
                404, "invalid_request_error", "unknown_approval", "There is no ticket of this id."
            )
    return conflict(
        status.value, f"It is answered already: {status.value.removeprefix('already_')}."
    )
