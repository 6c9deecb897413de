"""`/farebox/drift`: what the watch has found (viewers), and accepting it (approvers and admins).

Accepting changes what the ledger is held against, so it bears the name of the key that did it and
stands in the audit trail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from budgets.connection import AsyncClient
from budgets.drift import findings
from budgets.drift.findings import Finding
from budgets.drift.store import DriftStore
from budgets.grants.types import REASON_LENGTH_MAX
from budgets.ledger import Ledger
from hooks.access import Role
from hooks.guard import CleanRoute, Doorkeeper, HttpProblem, Person, require
from hooks.person_routes import Clean, away

_log = structlog.get_logger(__name__)


class AcceptBody(BaseModel):
    """The body of POST /farebox/drift/accept: which finding, and why it is no fault."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=1_000)]
    reason: Annotated[str, Field(min_length=1, max_length=REASON_LENGTH_MAX)]


@dataclass(frozen=True, slots=True)
class Site:
    """Where the routes work: a ledger, its Redis and its name."""

    ledger: Ledger
    client: AsyncClient
    name: str


def build_router(doorkeeper: Doorkeeper, site: Callable[[], Site | None]) -> APIRouter:
    """Return the routes; `site` is asked at each request, None while Redis was never reached."""
    router = APIRouter(prefix="/farebox/drift", route_class=CleanRoute, include_in_schema=False)
    approver = Depends(require(Role.APPROVER, doorkeeper))
    viewer = Depends(require(Role.VIEWER, doorkeeper))

    @router.get("")
    async def list_findings(_: Person = viewer) -> dict[str, Any]:
        with Clean():
            at = _at(site)
            found = await findings.read(at.client, at.name)
            return {"time_ms": await at.ledger.now_ms(), "findings": [shown(it) for it in found]}

    @router.post("/accept")
    async def accept(body: AcceptBody, person: Person = approver) -> dict[str, Any]:
        with Clean():
            at = _at(site)
            said = {"by": person.name, "reason": body.reason, "time_ms": await at.ledger.now_ms()}
            found = await DriftStore(at.client, at.name).accept(body.id, json.dumps(said))
            if found is None:
                raise HttpProblem(
                    404,
                    "invalid_request_error",
                    "unknown_finding",
                    f"There is no finding {body.id!r}: it is over, or was accepted before. "
                    "See `farebox drift list`.",
                )
            detail: dict[str, Any] = {"id": found.id, "reason": body.reason, "text": found.text}
            detail |= {"expected": found.expected, "observed": found.observed}
            await at.ledger.trail.append(person.name, "drift_accepted", detail)
        _log.info("farebox_drift_accepted", id=found.id, by=person.name)
        return {"accepted": shown(found)}

    return router


def shown(finding: Finding) -> dict[str, Any]:
    """Return a finding as data for JSON."""
    return {"id": finding.id, **asdict(finding)}


def _at(site: Callable[[], Site | None]) -> Site:
    found = site()
    if found is None:
        raise away("it has not been reached yet")
    return found
