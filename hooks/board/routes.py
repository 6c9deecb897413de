"""The dashboard's routes: pages, the log-in, the files that pages refer to.

The routes below `/farebox/board` and `/farebox/` itself are the dashboard's; the other ones below
`/farebox/` are those of the commands, with JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute

from budgets.errors import LedgerUnavailable
from hooks.access import Role
from hooks.board import answers, month_panel
from hooks.board.actions import Do, add_actions, back_to, check_role
from hooks.board.answers import LOGIN, SESSION, guarded, page
from hooks.board.decision_panel import explanation
from hooks.board.door import Door, Identify, NotLoggedIn, fields_of
from hooks.board.events import Events
from hooks.board.panels import PAGES, Page, Panels
from hooks.board.rendering import STATIC, render, static, warm
from hooks.board.session import LASTS_S, Session, Sessions, csrf_of, new_token
from hooks.board.sources import Sources
from hooks.guard import HttpProblem

log = structlog.get_logger("farebox.board")

ROOT = "/farebox/"
BELOW = "/farebox/board/"
LOGIN_S = 3_600
"""How long a log-in page that was opened can be sent."""
KEPT_S = 86_400 * 365


class Board:
    """The dashboard of one worker; `sources` gives what the worker has, None before Redis."""

    def __init__(self, sources: Callable[[], Awaitable[Sources | None]], identify: Identify):
        self._sources = sources
        self._panels: Panels | None = None
        self.door = Door(self._sessions, identify)
        self.events = Events(self.panels, self.door.people)

    async def panels(self) -> Panels:
        """Return the panels; raises `LedgerUnavailable` while there is no ledger."""
        if self._panels is None:
            sources = await self._sources()
            if sources is None:
                raise LedgerUnavailable("the ledger has not been reached yet")
            if self._panels is None:
                self._panels = Panels(sources)
        return self._panels

    async def _sessions(self) -> Sessions:
        sources = (await self.panels()).sources
        return Sessions(sources.client, sources.home.ledger)


def build_router(sources: Callable[[], Awaitable[Sources | None]], identify: Identify) -> APIRouter:
    """Return the routes; `identify` tells whose a key is."""
    board = Board(sources, identify)
    router = APIRouter(route_class=_route_class(board), include_in_schema=False)

    @router.get("/farebox")
    async def home(request: Request) -> Response:
        return answers.go_to(root_of(request) + ROOT)

    for one in PAGES:
        _add_page(router, board, one)

    @router.post(BELOW + "login")
    async def log_in(request: Request) -> Response:
        fields = await fields_of(request)
        place = _own_place(fields.get("next", ""))
        try:
            session = await board.door.log_in(request, fields)
        except HttpProblem as problem:
            return await _log_in_page(request, problem.status, place, problem.message)
        response = answers.go_to(root_of(request) + place)
        answers.drop_cookie(request, response, LOGIN)
        return answers.set_cookie(request, response, SESSION, session.token, LASTS_S)

    @router.post(BELOW + "logout")
    async def log_out(request: Request) -> Response:
        session, _ = await board.door.form(request)
        await board.door.log_out(session)
        board.events.end(session.token)
        response = answers.go_to(root_of(request) + ROOT)
        return answers.drop_cookie(request, response, SESSION)

    @router.get(BELOW + "events")
    async def events(request: Request, page: str = "") -> Response:
        session = await board.door.session(request)
        one = next((it for it in PAGES if it.path == page), PAGES[0])
        stream = board.events.open(request, session, root_of(request), one.panels)
        answer = guarded(StreamingResponse(stream, media_type="text/event-stream"))
        # nginx would keep events back until it has enough of them.
        answer.headers["x-accel-buffering"] = "no"
        return answer

    @router.get(BELOW + "decisions/{decision_id}")
    async def decision(request: Request, decision_id: str) -> Response:
        session = await board.door.session(request)
        found = await explanation((await board.panels()).sources, decision_id)
        if found is None:
            raise _missing("This decision is not kept any more, or never was.")
        one = next(it for it in PAGES if it.path == "decisions")
        return page(await framed(request, board, session, one, "decision.html", it=found))

    @router.get(BELOW + "months/{period_id}/{ending}")
    async def month_file(request: Request, period_id: str, ending: str) -> Response:
        await board.door.session(request)
        found = await month_panel.file((await board.panels()).sources, period_id, ending)
        if found is None:
            raise _missing("There is no such file here. To write it: farebox month report.")
        content, kind = found
        if ending == "report.html":
            return guarded(Response(content, media_type=kind), answers.SANDBOXED)
        answer = guarded(Response(content, media_type=kind))
        name = f'attachment; filename="farebox-{period_id}.{ending}"'
        answer.headers["content-disposition"] = name
        return answer

    async def run(
        request: Request, do: Do, role: Role, back: str, panels: tuple[str, ...]
    ) -> Response:
        session, fields = await board.door.form(request)
        check_role(session.person, role)
        found, sessions = await board.panels(), await board.door.sessions()
        try:
            said = await do(found.sources, session.person, fields)
            await sessions.say(session.token, "done", said)
        except HttpProblem as problem:
            await sessions.say(session.token, "failed", problem.message)
        found.changed(*panels)
        return back_to(root_of(request), BELOW, back)

    add_actions(router, BELOW, run)

    @router.get(BELOW + "static/{name}")
    async def file(name: str) -> Response:
        if name not in STATIC:
            raise _missing("There is no such file.")
        content = await asyncio.to_thread(static, name)
        response = guarded(Response(content, media_type=STATIC[name]))
        response.headers["cache-control"] = f"public, max-age={KEPT_S}, immutable"
        return response

    return router


def _add_page(router: APIRouter, board: Board, one: Page) -> None:
    async def show(request: Request) -> Response:
        session = await board.door.session(request)
        return page(await _page(request, board, session, one))

    router.get((BELOW if one.path else ROOT) + one.path)(show)


async def _page(request: Request, board: Board, session: Session, one: Page) -> str:
    panels, root = await board.panels(), root_of(request)
    role = session.person.role
    made = await asyncio.gather(*(panels.render(name, role, root) for name in one.panels))
    return await framed(request, board, session, one, "page.html", panels=made)


async def framed(
    request: Request, board: Board, session: Session, one: Page, template: str, **values: Any
) -> str:
    """Return a page with the frame that all have: menu, person, what was just done."""
    sessions = await board.door.sessions()
    return await render(
        template,
        (await board.panels()).sources.zone,
        root=root_of(request),
        page=one,
        pages=PAGES,
        person=session.person,
        said=await sessions.said(session.token),
        csrf=session.csrf,
        **values,
    )


async def _log_in_page(
    request: Request, status: int = 401, place: str = ROOT, problem: str = ""
) -> Response:
    secret = request.cookies.get(answers.cookie_name(request, LOGIN)) or new_token()
    text = await render(
        "login.html",
        "UTC",
        root=root_of(request),
        csrf=csrf_of(secret),
        place=place,
        problem=problem,
    )
    asyncio.get_running_loop().run_in_executor(None, warm)
    return answers.set_cookie(request, page(text, status), LOGIN, secret, LOGIN_S)


def root_of(request: Request) -> str:
    """Return the path that the proxy itself is served below; empty for none."""
    return str(request.scope.get("root_path") or "").rstrip("/")


def _missing(message: str) -> HttpProblem:
    return HttpProblem(404, "invalid_request_error", "not_found", message)


def _own_place(given: str) -> str:
    """Return a path of the dashboard to go on to after the log-in, and no other one."""
    if given != ROOT and not given.startswith(BELOW):
        return ROOT
    harmless = given.isascii() and given.isprintable() and "\\" not in given and ".." not in given
    return given if harmless else ROOT


def _route_class(board: Board) -> type[APIRoute]:
    class BoardRoute(APIRoute):
        """A route whose every answer is a page with the headers that a page needs."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guard(request: Request) -> Response:
                try:
                    return await handle(request)
                except NotLoggedIn:
                    asked = request.url.path.removeprefix(root_of(request))
                    place = _own_place(asked) if request.method == "GET" else ROOT
                    return await _log_in_page(request, 401, place)
                except HttpProblem as problem:
                    return await _problem_page(request, problem.status, problem.message)
                except LedgerUnavailable as error:
                    return await _problem_page(
                        request, 503, f"The ledger does not answer: {error}."
                    )

            return guard

    return BoardRoute


async def _problem_page(request: Request, status: int, message: str) -> Response:
    text = await render(
        "problem.html", "UTC", root=root_of(request), status=status, message=message
    )
    return page(text, status)
