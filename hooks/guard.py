"""The door of Farebox's own routes: who is asking, whether their role is enough, clean answers.

LiteLLM's dependency `user_api_key_auth` serves a plugin's routes to admins only, so Farebox's
routes ask for themselves:

    router = APIRouter(route_class=CleanRoute)

    @router.get("/farebox/status")
    async def status(person: Person = Depends(require(Role.VIEWER, doorkeeper))) -> …

Every error of such a route has the body `{"error": {"message", "type", "code"}}`. This module
knows FastAPI and not LiteLLM: the doorkeeper is handed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from hooks.access import Role
from hooks.keys import KeyProblem


@dataclass(frozen=True, slots=True)
class Person:
    """Who is behind a request. `key_id` is None for the master key and for LiteLLM's own keys.

    `is_master` is true where the master key was shown itself, so that nobody's name passes for it.
    """

    name: str
    role: Role
    key_id: str | None = None
    team: str | None = None
    user: str | None = None
    is_master: bool = False


Doorkeeper = Callable[[Request], Awaitable[Person]]
"""Tells who is asking, or raises `HttpProblem` with status 401 (or 503)."""


class HttpProblem(Exception):
    """An answer other than success; `CleanRoute` turns it into the response."""

    def __init__(self, status: int, type_: str, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.type = type_
        self.code = code
        self.message = message

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {"x-farebox-code": self.code}
        if self.status != 503:
            headers["x-should-retry"] = "false"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def unauthenticated(problem: KeyProblem) -> HttpProblem:
    return HttpProblem(problem.status, problem.type, problem.code, problem.message)


def forbidden(message: str) -> HttpProblem:
    return HttpProblem(403, "permission_error", "forbidden", message)


class CleanRoute(APIRoute):
    """A route whose errors all have Farebox's body, whatever application it is mounted on."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def clean(request: Request) -> Response:
            try:
                return await handle(request)
            except HttpProblem as problem:
                return problem.response()
            except RequestValidationError as error:
                # Only places and reasons: the input itself may be a secret.
                found = [
                    f"{'.'.join(str(part) for part in e['loc'][1:]) or 'body'}: {e['msg']}"
                    for e in error.errors()
                ]
                return HttpProblem(
                    422, "invalid_request_error", "invalid_request", "; ".join(found)
                ).response()

        return clean


def presented_key(headers: Mapping[str, str]) -> str:
    """The key of a request's headers, or "". `Authorization: Bearer` comes before `x-api-key`."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return (headers.get("x-api-key") or headers.get("api-key") or "").strip()


def require(role: Role, doorkeeper: Doorkeeper) -> Callable[[Request], Awaitable[Person]]:
    """A FastAPI dependency that gives the `Person` if their role covers `role`."""

    async def dependency(request: Request) -> Person:
        person = await doorkeeper(request)
        if not person.role.covers(role):
            raise forbidden(
                f"This needs the role {role.value}; the key `{person.name}` has the role "
                f"{person.role.value}."
            )
        return person

    return dependency
