"""`/farebox/months`: close a month over HTTP (admins), and read what was kept of it (viewers)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from budgets.errors import LedgerUnavailable
from budgets.home import HomeError
from budgets.months.closer import Months, Rules
from budgets.months.closing import HoldsOpen
from budgets.months.snapshot import SnapshotDamaged
from budgets.period import Period, period_of_id
from budgets.statements import PeriodOpen
from hooks.access import Role
from hooks.guard import CleanRoute, Doorkeeper, HttpProblem, Person, require

_log = structlog.get_logger(__name__)


class CloseMonth(BaseModel):
    """The body of POST /farebox/months/{period}/close; may be left out."""

    model_config = ConfigDict(extra="forbid")

    with_open_holds: bool = False


@dataclass(frozen=True, slots=True)
class Office:
    """What the routes work with: the months of the ledger, and the rules in force."""

    months: Months
    rules: Rules


def build_router(
    office: Callable[[], Awaitable[Office | None]], doorkeeper: Doorkeeper
) -> APIRouter:
    """Return the routes; `office` is asked at each request, None while Redis was never reached."""
    router = APIRouter(prefix="/farebox/months", route_class=CleanRoute, include_in_schema=False)
    admin = Depends(require(Role.ADMIN, doorkeeper))
    viewer = Depends(require(Role.VIEWER, doorkeeper))

    @router.post("/{period_id}/close")
    async def close(
        period_id: str, body: CloseMonth | None = None, person: Person = admin
    ) -> dict[str, Any]:
        with clean():
            at = await _at(office)
            with_open_holds = body.with_open_holds if body is not None else False
            return await close_month(at, person, period_id, with_open_holds=with_open_holds)

    @router.get("/{period_id}")
    async def read(period_id: str, _: Person = viewer) -> dict[str, Any]:
        with clean():
            at = await _at(office)
            snapshot = await at.months.snapshot(_period(period_id, at).id)
        if snapshot is None:
            message = f"{period_id} is not closed. An admin closes it: farebox month close."
            raise HttpProblem(404, "invalid_request_error", "unknown_month", message)
        return {"snapshot": snapshot.model_dump(mode="json")}

    return router


async def close_month(
    at: Office, person: Person, period_id: str, *, with_open_holds: bool = False
) -> dict[str, Any]:
    """Close a month as a person; return what a client gets. Raises `HttpProblem` for a name that
    is no month's, and what `clean` turns into one."""
    period = _period(period_id, at)
    answer = await at.months.close(at.rules, period, person.name, with_open_holds=with_open_holds)
    match answer:
        case PeriodOpen():
            return {"closed": False, "reason": "not_ended", "end_ms": answer.end_ms}
        case HoldsOpen():
            return {
                "closed": False,
                "reason": "holds_open",
                "count": answer.count,
                "holds": [asdict(it) for it in answer.holds],
            }
    _log.info("farebox_month_closed", period_id=period_id, by=person.name)
    snapshot = await at.months.snapshot(period_id)
    return {
        "closed": True,
        "file": str(at.months.folder.file(period_id)),
        "snapshot": None if snapshot is None else snapshot.model_dump(mode="json"),
    }


async def _at(office: Callable[[], Awaitable[Office | None]]) -> Office:
    found = await office()
    if found is None:
        raise LedgerUnavailable("the ledger has not been reached yet")
    return found


def _period(period_id: str, at: Office) -> Period:
    period = period_of_id(period_id, at.rules.budgets.time_zone)
    if period is None or len(period_id) != len("2026-10"):
        message = "This is not a month; write it like 2026-10."
        raise HttpProblem(422, "invalid_request_error", "invalid_request", message)
    return period


class clean:
    """Turns the errors of a closing into answers."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case LedgerUnavailable():
                raise HttpProblem(
                    503, "service_unavailable", "ledger_unavailable", str(error)
                ) from None
            case SnapshotDamaged() | HomeError() | OSError():
                message = f"The month is closed, but its snapshot could not be kept: {error}"
                raise HttpProblem(500, "server_error", "month_not_kept", message) from None
