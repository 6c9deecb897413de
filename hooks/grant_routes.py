"""`/farebox/budget/grants` and `/transfers`: raise a budget for a while, move money between two.

Admins make them; above the amount that needs two persons, the call opens a ticket that another
admin approves (`/farebox/approvals`), and the grant is made then. Viewers may list them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from budgets import money
from budgets.approvals.types import NewTicket, TicketBudget, TicketKind
from budgets.config import BudgetsFile, NanoUsd
from budgets.grants.codec import as_dict
from budgets.grants.types import (
    REASON_LENGTH_MAX,
    Granted,
    GrantKind,
    GrantPart,
    GrantRefused,
    NewGrant,
    check_grant,
)
from budgets.ledger import Ledger
from budgets.period import Period
from hooks.access import Role
from hooks.guard import CleanRoute, Doorkeeper, Person, require
from hooks.keys import unix_ms
from hooks.person_routes import Clean, Place, conflict, counter_of, invalid, place_of, who

_log = structlog.get_logger(__name__)

HOUR_MS = 3_600_000
Reason = Annotated[str, Field(min_length=1, max_length=REASON_LENGTH_MAX)]


class GrantBody(BaseModel):
    """The body of POST /farebox/budget/grants. Without `until` it lasts to the period's end."""

    model_config = ConfigDict(extra="forbid")

    budget: str
    amount_nano_usd: NanoUsd = Field(alias="amount_usd")
    reason: Reason
    until: AwareDatetime | None = None


class TransferBody(BaseModel):
    """The body of POST /farebox/budget/transfers; both budgets have periods of one kind."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    amount_nano_usd: NanoUsd = Field(alias="amount_usd")
    reason: Reason
    until: AwareDatetime | None = None


def build_router(doorkeeper: Doorkeeper, budgets: Callable[[], BudgetsFile]) -> APIRouter:
    """Return the routes; `budgets` gives the finance owner's file in force."""
    router = APIRouter(prefix="/farebox/budget", route_class=CleanRoute, include_in_schema=False)
    admin = Depends(require(Role.ADMIN, doorkeeper))
    viewer = Depends(require(Role.VIEWER, doorkeeper))

    @router.post("/grants", status_code=201)
    async def grant(body: GrantBody, response: Response, person: Person = admin) -> dict[str, Any]:
        with Clean():
            place = await place_of(budgets)
            counter, rule = counter_of(place, body.budget)
            part = GrantPart(counter, rule, body.amount_nano_usd)
            new = _new(place, person, GrantKind.GRANT, (part,), body.until, body.reason)
            return await _make_or_ask(place, person, new, body.amount_nano_usd, response)

    @router.post("/transfers", status_code=201)
    async def transfer(
        body: TransferBody, response: Response, person: Person = admin
    ) -> dict[str, Any]:
        with Clean():
            place = await place_of(budgets)
            source, target = counter_of(place, body.source), counter_of(place, body.target)
            if place.period(source[1]) != place.period(target[1]):
                raise invalid(
                    f"to: {source[1]} and {target[1]} have different periods; a transfer is "
                    "between budgets of the same period"
                )
            parts = (
                GrantPart(*source, -body.amount_nano_usd),
                GrantPart(*target, body.amount_nano_usd),
            )
            new = _new(place, person, GrantKind.TRANSFER, parts, body.until, body.reason)
            return await _make_or_ask(place, person, new, body.amount_nano_usd, response)

    @router.get("/grants")
    async def list_grants(_: Person = viewer) -> dict[str, Any]:
        with Clean():
            place = await place_of(budgets)
            periods = {place.period(rule).id for rule in place.budgets.budgets}
            found = [it for name in sorted(periods) for it in await place.ledger.grants(name)]
        return {"time_ms": place.now_ms, "grants": [as_dict(it) for it in found]}

    return router


def _new(
    place: Place,
    person: Person,
    kind: GrantKind,
    parts: tuple[GrantPart, ...],
    until: AwareDatetime | None,
    reason: str,
) -> NewGrant:
    period = place.period(parts[0].rule)
    until_ms = period.end_ms if until is None else unix_ms(until)
    if until_ms > period.end_ms:
        raise invalid(f"until: a grant ends with its budget's period {period.id} at the latest")
    if until_ms <= place.now_ms:
        raise invalid("until: the time lies in the past; give one in the future")
    return NewGrant(uuid.uuid4().hex[:16], kind, period, parts, until_ms, person.name, reason)


async def _make_or_ask(
    place: Place, person: Person, new: NewGrant, amount_nano_usd: int, response: Response
) -> dict[str, Any]:
    settings = place.budgets.approvals
    check_grant(new)
    if not settings.two_persons(amount_nano_usd):
        return await make(place.ledger, new)
    approval_id = f"a-{uuid.uuid4().hex}"
    proposal = proposal_text(new)
    await place.ledger.open_ticket(
        NewTicket(
            approval_id=approval_id,
            kind=TicketKind(new.kind.value),
            breach=f"{new.kind.value}|{approval_id}",
            asker=who(person),
            task_type="",
            budgets=tuple(TicketBudget(it.budget, it.rule, new.period.id) for it in new.parts),
            requested_nano_usd=amount_nano_usd,
            expires_in_ms=int(settings.expires_hours * HOUR_MS),
            valid_to_ms=new.until_ms,
            context={"reason": new.reason},
            proposal=proposal,
        )
    )
    response.status_code = 202
    above = settings.two_person_above_nano_usd or 0
    return {
        "approval_id": approval_id,
        "message": f"Above ${money.plain(above)} a second admin must approve it: "
        f"farebox approvals approve {approval_id}",
    }


async def make(ledger: Ledger, new: NewGrant) -> dict[str, Any]:
    """Make a grant and return what the client gets. Raises `HttpProblem` where it is refused."""
    made = await ledger.grant(new)
    match made:
        case GrantRefused(code="insufficient"):
            raise conflict(
                "insufficient",
                f"{made.budget} has only ${money.plain(made.available_nano_usd)} left for so long "
                "that is neither spent nor held.",
            )
        case GrantRefused(code="over"):
            raise conflict("over", "The time that the grant was to last until has passed.")
        case GrantRefused():
            raise conflict(
                "too_many_grants",
                f"{made.budget} has too many grants in this period; raise its limit_usd instead.",
            )
        case Granted():
            _log.info("farebox_granted", id=made.id, kind=new.kind.value, by=new.actor)
    grants = {it.id: it for it in await ledger.grants(new.period.id)}
    return {
        "grant": as_dict(grants[made.id]),
        "budgets": [
            {
                "budget": it.budget,
                "period_id": it.period_id,
                "limit_nano_usd": it.limit_nano_usd,
                "granted_nano_usd": it.granted_nano_usd,
                "remaining_nano_usd": it.remaining_nano_usd,
            }
            for it in made.states
        ],
    }


# ── what two persons make ────────────────────────────────────────────────────────────────────────


def proposal_text(new: NewGrant) -> str:
    """Return a grant as a ticket keeps it until a second person approves."""
    return json.dumps(
        {
            "kind": new.kind.value,
            "period": [new.period.id, new.period.start_ms, new.period.end_ms],
            "parts": [[it.budget, it.rule, it.amount_nano_usd] for it in new.parts],
            "until_ms": new.until_ms,
            "actor": new.actor,
            "reason": new.reason,
        }
    )


def proposed(approval_id: str, proposal: Mapping[str, Any] | str, approver: str) -> NewGrant:
    """Return the grant of a proposal; its id is the ticket's, so that it is made once."""
    given = json.loads(proposal) if isinstance(proposal, str) else proposal
    return NewGrant(
        grant_id=approval_id,
        kind=GrantKind(given["kind"]),
        period=Period(*given["period"]),
        parts=tuple(GrantPart(*it) for it in given["parts"]),
        until_ms=given["until_ms"],
        actor=given["actor"],
        reason=given["reason"],
        approver=approver,
    )
