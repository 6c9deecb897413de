"""What people do on the dashboard: answer a ticket, look after the queue, close a month.

Each form runs the code of the route that the command uses, with the person of the session: who may
do what, whose own request it is and when two persons must agree is decided there. Afterwards the
browser is sent back to the page, which says what came of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from budgets.approvals.types import AnswerStatus
from hooks import approval_routes, month_routes, queue_routes
from hooks.access import Role
from hooks.approval_routes import ApproveBody, DenyBody
from hooks.board import answers
from hooks.board.sources import Sources
from hooks.guard import HttpProblem, Person, forbidden
from hooks.month_routes import Office
from hooks.person_routes import Clean, invalid, place_of

Fields = dict[str, str]
Do = Callable[[Sources, Person, Fields], Awaitable[str]]
"""Does what a form asks for and returns a sentence about it; raises `HttpProblem`."""


def add_actions(router: APIRouter, below: str, run: Callable[..., Awaitable[Response]]) -> None:
    """Add the routes of the forms; `run` checks the form and answers with the page `back`."""

    def add(path: str, do: Do, role: Role, back: str, *panels: str) -> None:
        async def post(request: Request) -> Response:
            return await run(request, do, role, back, panels)

        router.post(below + path)(post)

    add("approvals/answer", answer, Role.APPROVER, "approvals", "approvals", "summary", "budgets")
    add("queue/change", change_queue, Role.ADMIN, "queue", "queue", "summary")
    add("months/close", close_month, Role.ADMIN, "months", "months")


def check_role(person: Person, role: Role) -> None:
    """Raise `HttpProblem` where a person may not do what a form asks for."""
    if not person.role.covers(role):
        raise forbidden(
            f"This needs the role {role.value}; the key `{person.name}` has the role "
            f"{person.role.value}."
        )


# ── approvals ────────────────────────────────────────────────────────────────────────────────────


async def answer(sources: Sources, person: Person, fields: Fields) -> str:
    """Approve or deny a ticket."""
    approval_id = fields.get("approval_id", "")
    with Clean():
        place = await place_of(lambda: sources.policy().budgets)
        if fields.get("answer") == "deny":
            await approval_routes.refuse(place, person, approval_id, _deny(fields))
            return f"{approval_id} is denied."
        if fields.get("answer") != "approve":
            raise invalid("answer: approve or deny")
        status, _ = await approval_routes.give(place, person, approval_id, _approve(fields))
    if status is AnswerStatus.FIRST:
        return f"{approval_id} has your approval. A second person must approve it, too."
    return f"{approval_id} is approved."


def _approve(fields: Fields) -> ApproveBody:
    # What is left empty is not said, so that a second person confirms the terms of the first.
    names = ("reason", "uses", "amount_usd", "by")
    given: dict[str, Any] = {name: fields[name] for name in names if fields.get(name, "").strip()}
    try:
        return ApproveBody.model_validate(given)
    except ValidationError as error:
        raise _said_of(error) from None


def _deny(fields: Fields) -> DenyBody:
    try:
        return DenyBody.model_validate({"reason": fields.get("reason", "")})
    except ValidationError as error:
        raise _said_of(error) from None


def _said_of(error: ValidationError) -> HttpProblem:
    """Return what is wrong with a form, without what was typed."""
    return invalid(
        "; ".join(
            f"{'.'.join(str(part) for part in it['loc']) or 'form'}: {it['msg']}"
            for it in error.errors(include_input=False, include_url=False)
        )
    )


# ── queue and months ─────────────────────────────────────────────────────────────────────────────


async def change_queue(sources: Sources, person: Person, fields: Fields) -> str:
    """Cancel or retry a queued request, or run what fits."""
    queue_id = fields.get("queue_id", "")
    with queue_routes.clean():
        desk = await queue_routes.opened_desk(sources.desk)
        match fields.get("change"):
            case "drain":
                done = await queue_routes.drain_all(desk, person)
                return f"What fits runs now; {done['queue']['waiting']:,} wait."
            case "cancel":
                await queue_routes.cancel_one(desk, person, queue_id)
                return f"{queue_id} is cancelled."
            case "retry":
                await queue_routes.retry_one(desk, person, queue_id)
                return f"{queue_id} waits again."
    raise invalid("change: cancel, retry or drain")


async def close_month(sources: Sources, person: Person, fields: Fields) -> str:
    """Close a month whose holds have ended."""
    period_id = fields.get("period_id", "")
    with month_routes.clean():
        done = await month_routes.close_month(await _office(sources), person, period_id)
    if done["closed"]:
        return f"{period_id} is closed."
    if done["reason"] == "holds_open":
        raise invalid(f"{period_id} is not closed: {done['count']:,} of its holds are open.")
    raise invalid(f"{period_id} has not ended.")


async def _office(sources: Sources) -> Office:
    found = await sources.office()
    if found is None:
        raise HttpProblem(
            503, "service_unavailable", "ledger_unavailable", "The ledger does not answer."
        )
    return found


def back_to(root: str, below: str, page: str) -> Response:
    """Return the answer to a form: the page that it was on."""
    return answers.go_to(f"{root}{below}{page}")
