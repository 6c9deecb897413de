"""`/farebox/keys`: make, list, rotate and revoke keys over HTTP; for admins only.

The answer to a creation or a rotation is the only place where a key's whole text ever appears.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hooks.access import Role
from hooks.guard import CleanRoute, Doorkeeper, HttpProblem, Person, require
from hooks.key_store import GRACE_S_MAX, KeyConflict, KeyStore, KeysUnavailable, UnknownKey
from hooks.keys import Clock, InvalidKeyInput, NewKey, summary, unix_ms, utc_now
from hooks.person_routes import note

_log = structlog.get_logger(__name__)


class CreateKey(BaseModel):
    """The body of POST /farebox/keys; only `name` is needed."""

    model_config = ConfigDict(extra="forbid")

    name: str
    role: Role = Role.CALLER
    team: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    expires: AwareDatetime | None = None


class RotateKey(BaseModel):
    """The body of POST /farebox/keys/{id}/rotate; may be left out."""

    model_config = ConfigDict(extra="forbid")

    grace_s: Annotated[int, Field(ge=0, le=GRACE_S_MAX)] = 0


def build_router(
    store: Callable[[], Awaitable[KeyStore]], doorkeeper: Doorkeeper, clock: Clock = utc_now
) -> APIRouter:
    """The routes; `store` is asked at each request, so Redis may come later than the routes."""
    router = APIRouter(prefix="/farebox/keys", route_class=CleanRoute, include_in_schema=False)
    admin = Depends(require(Role.ADMIN, doorkeeper))

    def now_ms() -> int:
        return unix_ms(clock())

    @router.post("", status_code=201)
    async def create(body: CreateKey, response: Response, person: Person = admin) -> dict[str, Any]:
        with _clean():
            made = await (await store()).create(
                name=body.name,
                created_by=person.name,
                role=body.role,
                team=body.team,
                user=body.user,
                groups=body.groups,
                expires_ms=None if body.expires is None else unix_ms(body.expires),
            )
        _log.info("farebox_key_created", id=made.record.id, by=person.name)
        await note(person.name, "key_created", _noted(made))
        return _once(made, now_ms(), response)

    @router.get("")
    async def list_keys(_: Person = admin) -> dict[str, Any]:
        with _clean():
            records = await (await store()).all()
        ordered = sorted(records.values(), key=lambda record: (record.name, record.created_ms))
        return {"keys": [summary(record, now_ms()) for record in ordered]}

    @router.post("/{id_or_name:path}/rotate", status_code=201)
    async def rotate(
        id_or_name: str, response: Response, body: RotateKey | None = None, person: Person = admin
    ) -> dict[str, Any]:
        grace_s = body.grace_s if body is not None else 0
        with _clean():
            made = await (await store()).rotate(id_or_name, rotated_by=person.name, grace_s=grace_s)
        _log.info(
            "farebox_key_rotated", id=made.record.id, old=made.record.rotated_from, by=person.name
        )
        await note(person.name, "key_rotated", _noted(made))
        return _once(made, now_ms(), response)

    @router.delete("/{id_or_name:path}")
    async def revoke(id_or_name: str, person: Person = admin) -> dict[str, Any]:
        with _clean():
            record = await (await store()).revoke(id_or_name)
        _log.info("farebox_key_revoked", id=record.id, by=person.name)
        await note(person.name, "key_revoked", {"id": record.id, "name": record.name})
        return {"key": summary(record, now_ms())}

    return router


def _noted(made: NewKey) -> dict[str, Any]:
    record = made.record
    noted = {"id": record.id, "name": record.name, "role": record.role.value}
    return noted | {"user": record.user, "rotated_from": record.rotated_from}


def _once(made: NewKey, now_ms: int, response: Response) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return {"secret_key": made.key, "key": summary(made.record, now_ms)}


class _clean:
    """Turns the store's errors into answers."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case InvalidKeyInput():
                raise HttpProblem(
                    422, "invalid_request_error", "invalid_request", str(error)
                ) from None
            case UnknownKey():
                raise HttpProblem(404, "invalid_request_error", "unknown_key", str(error)) from None
            case KeyConflict():
                raise HttpProblem(
                    409, "invalid_request_error", "key_conflict", str(error)
                ) from None
            case KeysUnavailable():
                raise HttpProblem(
                    503, "service_unavailable", "ledger_unavailable", str(error)
                ) from None
