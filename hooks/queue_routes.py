"""`/farebox/queue`: what became of a queued request, and its answer, over HTTP.

Only the key that asked gets the answer. A viewer sees everything else about every request; for
anybody else a request of another key does not exist. To cancel or retry takes the key that asked,
or an admin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query, Response

from budgets.errors import LedgerUnavailable
from budgets.queue.items import Item, State, Totals
from budgets.queue.seal import SealError
from budgets.queue.view import item_dict, totals_dict
from hooks.access import Role
from hooks.arrival import MASTER_OWNER
from hooks.guard import CleanRoute, Doorkeeper, HttpProblem, Person, forbidden, require
from hooks.queue_desk import ROUTE, QueueDesk

log = structlog.get_logger("farebox.queue")

POLL_S = 2
LISTED_MAX = 1_000

Desk = Callable[[], Awaitable[QueueDesk | None]]


def build_router(desk: Desk, doorkeeper: Doorkeeper) -> APIRouter:
    """Return the routes; `desk` is asked at each request, so Redis may come later than they do."""
    router = APIRouter(prefix=ROUTE, route_class=CleanRoute, include_in_schema=False)
    caller = Depends(require(Role.CALLER, doorkeeper))
    viewer = Depends(require(Role.VIEWER, doorkeeper))
    admin = Depends(require(Role.ADMIN, doorkeeper))

    @router.get("")
    async def list_items(
        state: State = State.WAITING,
        count: Annotated[int, Query(ge=1, le=LISTED_MAX)] = 100,
        _: Person = viewer,
    ) -> dict[str, Any]:
        with clean():
            queue = (await opened_desk(desk)).queue
            items = await queue.listed(state, count)
            return {
                "queue": totals_dict(await queue.totals()),
                "requests": [item_dict(item) for item in items],
            }

    @router.post("/drain")
    async def drain(person: Person = admin) -> dict[str, Any]:
        with clean():
            return await drain_all(await opened_desk(desk), person)

    @router.get("/{queue_id}")
    async def show(queue_id: str, response: Response, person: Person = caller) -> dict[str, Any]:
        with clean():
            opened = await opened_desk(desk)
            item = await _find(opened, queue_id, person, Role.VIEWER)
            shown = item_dict(item)
            if item.state in (State.WAITING, State.RUNNING):
                response.headers["retry-after"] = str(POLL_S)
            elif item.state is State.DONE and _owns(person, item):
                answer = await opened.answer_of(item)
                shown["answer"] = None if answer is None else {
                    "status": answer.status,
                    "headers": dict(answer.headers),
                    "body": answer.body,
                }  # fmt: skip
        response.headers["cache-control"] = "no-store"
        return shown

    @router.post("/{queue_id}/cancel")
    async def cancel(queue_id: str, person: Person = caller) -> dict[str, Any]:
        with clean():
            return await cancel_one(await opened_desk(desk), person, queue_id)

    @router.post("/{queue_id}/retry")
    async def retry(queue_id: str, person: Person = caller) -> dict[str, Any]:
        with clean():
            return await retry_one(await opened_desk(desk), person, queue_id)

    return router


async def drain_all(opened: QueueDesk, person: Person) -> dict[str, Any]:
    """Let nothing wait for a pause between attempts; return what a client gets."""
    hurried = await opened.queue.hurry()
    totals: Totals = await opened.queue.totals()
    log.info("queue_drained", by=person.name, hurried=hurried)
    return {"hurried": hurried, "queue": totals_dict(totals)}


async def cancel_one(opened: QueueDesk, person: Person, queue_id: str) -> dict[str, Any]:
    """End a request as a person; return what a client gets. Raises `HttpProblem`."""
    item = await _find(opened, queue_id, person, Role.ADMIN)
    if not await opened.queue.cancel(item.id):
        raise _conflict("Only a request that waits or is dead can be cancelled.")
    log.info("queued_request_cancelled", queue_id=item.id, by=person.name)
    return await _shown(opened, item)


async def retry_one(opened: QueueDesk, person: Person, queue_id: str) -> dict[str, Any]:
    """Let a dead request wait again; return what a client gets. Raises `HttpProblem`."""
    item = await _find(opened, queue_id, person, Role.ADMIN)
    if not await opened.queue.retry(item.id):
        raise _conflict("Only a dead request whose body has not expired can be tried again.")
    log.info("queued_request_retried", queue_id=item.id, by=person.name)
    return await _shown(opened, item)


async def opened_desk(desk: Desk) -> QueueDesk:
    """Return the desk; raises `HttpProblem` where the queue cannot be used."""
    opened = await desk()
    if opened is None:
        raise HttpProblem(
            503,
            "service_unavailable",
            "ledger_unavailable",
            "The queue cannot be used now: Redis or the queue's key is not there.",
        )
    return opened


def _owns(person: Person, item: Item) -> bool:
    if person.key_id is not None:
        return person.key_id == item.owner
    return person.is_master and item.owner == MASTER_OWNER


async def _find(opened: QueueDesk, queue_id: str, person: Person, other: Role) -> Item:
    """Return a request that this person may deal with: their own, or any with the role `other`."""
    item = await opened.queue.get(queue_id)
    if item is not None and (_owns(person, item) or person.role.covers(other)):
        return item
    if item is not None and person.role.covers(Role.VIEWER):
        raise forbidden(f"This needs the key that asked, or the role {other.value}.")
    raise HttpProblem(
        404,
        "invalid_request_error",
        "unknown_request",
        "The queue has no request of this key with this id; it may have been forgotten.",
    )


async def _shown(opened: QueueDesk, item: Item) -> dict[str, Any]:
    return {"request": item_dict(await opened.queue.get(item.id) or item)}


def _conflict(message: str) -> HttpProblem:
    return HttpProblem(409, "invalid_request_error", "queue_conflict", message)


@contextmanager
def clean() -> Any:
    """Turn the queue's errors into answers."""
    try:
        yield
    except LedgerUnavailable as error:
        raise HttpProblem(
            503, "service_unavailable", "ledger_unavailable", f"The queue does not answer: {error}."
        ) from None
    except SealError as error:
        raise HttpProblem(
            503,
            "service_unavailable",
            "queue_key_missing",
            f"The answer cannot be opened: {error}.",
        ) from None
