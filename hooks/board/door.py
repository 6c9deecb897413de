"""Who is at the door of the dashboard: log in, be known by the session, log out.

A caller's key opens nothing here. A form is taken from our own pages only: its origin is ours, and
it has the token of its session (before the log-in, of a cookie that the log-in page set).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog
from fastapi import Request

from hooks.access import Role
from hooks.board import origin
from hooks.board.answers import LOGIN, SESSION, cookie_name
from hooks.board.session import TOKEN_LENGTH_MAX, Session, Sessions, is_csrf
from hooks.guard import HttpProblem, Person, forbidden

log = structlog.get_logger("farebox.board")

Identify = Callable[[Request, str], Awaitable[Person]]
"""Tells whose a key is, as it stands now; raises `HttpProblem` for one that is not accepted."""

KEY_LENGTH_MAX = 500


class NotLoggedIn(Exception):
    """There is no session, or it has ended: the log-in page is shown instead."""


@dataclass(frozen=True, slots=True)
class Door:
    """The door of one worker."""

    sessions: Callable[[], Awaitable[Sessions]]
    identify: Identify

    async def session(self, request: Request) -> Session:
        """Return the session of a request; raises `NotLoggedIn`, or `HttpProblem` from outside."""
        if origin.is_foreign(request.headers):
            raise forbidden("The dashboard answers to its own pages only.")
        token = self.token(request)
        if not token:
            raise NotLoggedIn
        found = (await self.people([(request, token)]))[0]
        if found is None:
            raise NotLoggedIn
        return Session(token, found)

    async def people(self, asked: Sequence[tuple[Request, str]]) -> list[Person | None]:
        """Return who is behind some sessions now; one whose key or role has changed has ended."""
        sessions = await self.sessions()
        read = await sessions.read([token for _, token in asked])
        found: list[Person | None] = []
        for (request, token), kept in zip(asked, read, strict=True):
            person: Person | None = None
            if kept is not None:
                try:
                    person = await self.identify(request, kept.key)
                except HttpProblem as problem:
                    if problem.status >= 500:
                        raise
                if person is None or person.role is not kept.role:
                    person = None
                    await sessions.end(token)
            found.append(person)
        return found

    async def form(self, request: Request) -> tuple[Session, dict[str, str]]:
        """Return the session and the fields of a form; raises as `session` does."""
        if not origin.is_own_form(request.headers):
            raise forbidden("This form was not sent by a page of this dashboard.")
        session = await self.session(request)
        fields = await fields_of(request)
        if not is_csrf(session.token, fields.pop("csrf", "")):
            raise forbidden("This form is not of this session. Open the page again.")
        return session, fields

    # ── in and out ───────────────────────────────────────────────────────────────────────────────

    async def log_in(self, request: Request, fields: dict[str, str]) -> Session:
        """Exchange a posted key for a new session; raises `HttpProblem`."""
        before = request.cookies.get(cookie_name(request, LOGIN), "")
        if not origin.is_own_form(request.headers):
            raise forbidden("This form was not sent by a page of this dashboard.")
        if not before or not is_csrf(before, fields.get("csrf", "")):
            raise forbidden(
                "The browser did not keep a cookie of this page. Open the dashboard by https, or "
                "on the proxy's own machine, with cookies allowed."
            )
        sessions = await self.sessions()
        address = request.client.host if request.client else "unknown"
        if wait_s := await sessions.try_from(address):
            log.warning("board_log_in_limited", address=address)
            raise HttpProblem(
                429, "rate_limit_error", "too_many_tries",
                f"Too many log-ins have failed. Try again in {wait_s} seconds.",
            )  # fmt: skip
        key = fields.get("key", "").strip()
        person = await self._accepted(request, key if len(key) <= KEY_LENGTH_MAX else "")
        await sessions.succeeded(address)
        # Whatever session the browser came with is not taken up, and ends.
        if old := self.token(request):
            await sessions.end(old)
        token = await sessions.open(key, person)
        log.info("board_logged_in", by=person.name, role=person.role.value)
        return Session(token, person)

    async def _accepted(self, request: Request, key: str) -> Person:
        if not key:
            raise HttpProblem(401, "authentication_error", "missing_key", "Enter a key.")
        person = await self.identify(request, key)
        if not person.role.covers(Role.VIEWER):
            raise forbidden(
                "This key has the role caller. The dashboard needs the role viewer, approver or "
                "admin; an admin makes such a key: farebox keys create --role viewer."
            )
        return person

    async def log_out(self, session: Session) -> None:
        """End a session."""
        await (await self.sessions()).end(session.token)
        log.info("board_logged_out", by=session.person.name)

    def token(self, request: Request) -> str:
        """Return the session's token that the browser sent; empty for none."""
        given = request.cookies.get(cookie_name(request, SESSION), "")
        return given if len(given) <= TOKEN_LENGTH_MAX and given.isascii() else ""


FORM_BYTES_MAX = 10_000
FORM_FIELDS_MAX = 50


async def fields_of(request: Request) -> dict[str, str]:
    """Return the fields of a posted form, the first of each name; raises `HttpProblem`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HttpProblem(415, "invalid_request_error", "invalid_request", "Send a form.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > FORM_BYTES_MAX:
            raise HttpProblem(413, "invalid_request_error", "invalid_request", "Too large a form.")
    text = body.decode("utf-8", "replace")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise HttpProblem(
            413, "invalid_request_error", "invalid_request", "Too many fields."
        ) from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields
