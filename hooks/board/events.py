"""Live panels: server-sent events, from one reader a worker however many people listen.

    listener ─┐                        ┌─► what changed, to those who look at it
    listener ─┼─► one task, each second┤
    listener ─┘                        └─► each few seconds: is the session still good?

A listener keeps only the newest state of each panel, so that a slow browser costs nothing. A stream
ends with its session, when the proxy stops, and after half an hour at the latest; a browser then
asks anew by itself. With nobody listening nothing is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from fastapi import Request

from budgets.errors import LedgerUnavailable
from hooks.access import Role
from hooks.board.panels import Panels, Rendered
from hooks.board.session import Session
from hooks.guard import HttpProblem, Person

log = structlog.get_logger("farebox.board")

LISTENERS_MAX = 64
"""How many may listen to one worker."""
OF_SESSION_MAX = 8
TICK_S = 1.0
SESSIONS_S = 5.0
STILL_S = 15.0
"""How often a stream says that it lives, where nothing changes: proxies close silent ones."""
LIFE_S = 1800.0
RETRY_MS = 3_000

Check = Callable[[Sequence[tuple[Request, str]]], Awaitable[list[Person | None]]]


@dataclass(eq=False, slots=True)
class Listener:
    """One browser's page."""

    request: Request
    session: Session
    root: str
    panels: tuple[str, ...]
    sent: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Rendered] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    @property
    def role(self) -> Role:
        """The role of who listens."""
        return self.session.person.role

    def tell(self, made: Rendered) -> None:
        """Keep a panel for the browser, unless it has it."""
        if self.sent.get(made.name) != made.version:
            self.sent[made.name] = made.version
            self.waiting[made.name] = made
            self.news.set()

    def end(self) -> None:
        """End the stream."""
        self.is_over = True
        self.news.set()


class Events:
    """The listeners of one worker, and the task that reads for all of them."""

    def __init__(self, panels: Callable[[], Awaitable[Panels]], check: Check) -> None:
        self._panels = panels
        self._check = check
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._listeners)

    def open(
        self, request: Request, session: Session, root: str, panels: tuple[str, ...]
    ) -> AsyncIterator[str]:
        """Return a stream for one page; raises `HttpProblem` where too many listen already."""
        own = sum(it.session.token == session.token for it in self._listeners)
        if len(self._listeners) >= LISTENERS_MAX or own >= OF_SESSION_MAX:
            raise HttpProblem(
                503, "service_unavailable", "too_many_listeners",
                "Too many pages are open live; this one is not renewed by itself.",
            )  # fmt: skip
        return self._stream(Listener(request, session, root, panels))

    def end(self, token: str) -> None:
        """End the streams of a session that was logged out here."""
        for listener in self._listeners:
            if listener.session.token == token:
                listener.end()

    async def _stream(self, listener: Listener) -> AsyncIterator[str]:
        until = time.monotonic() + LIFE_S
        # Only here: a stream whose browser left before it began would never be taken out again.
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="farebox-board")
        try:
            yield f"retry: {RETRY_MS}\n\n"
            while time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listener.news.wait(), STILL_S)
                listener.news.clear()
                if listener.is_over:
                    yield "event: over\ndata: {}\n\n"
                    return
                waiting, listener.waiting = listener.waiting, {}
                for made in waiting.values():
                    html = made.of(listener.session.csrf)
                    data = {"name": made.name, "version": made.version, "html": html}
                    yield f"event: panel\ndata: {json.dumps(data)}\n\n"
                if not waiting:
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(listener)

    # ── the reader ───────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        checked_s = time.monotonic()
        while self._listeners:
            try:
                if _is_stopping():
                    for listener in self._listeners:
                        listener.end()
                    return
                if time.monotonic() - checked_s >= SESSIONS_S:
                    checked_s = time.monotonic()
                    await self._check_sessions()
                await self._tell()
            except (LedgerUnavailable, HttpProblem) as error:
                log.warning("board_not_read", reason=str(error))
            except Exception:
                log.exception("board_not_read")
            await asyncio.sleep(TICK_S)

    async def _check_sessions(self) -> None:
        listeners = list(self._listeners)
        people = await self._check([(it.request, it.session.token) for it in listeners])
        for listener, person in zip(listeners, people, strict=True):
            if person is None:
                listener.end()

    async def _tell(self) -> None:
        panels = await self._panels()
        wanted: dict[tuple[str, Role, str], list[Listener]] = {}
        for listener in self._listeners:
            for name in listener.panels:
                wanted.setdefault((name, listener.role, listener.root), []).append(listener)
        for (name, role, root), listeners in wanted.items():
            made = await panels.render(name, role, root)
            for listener in listeners:
                listener.tell(made)


def _is_stopping() -> bool:
    """Whether this process's server was told to stop: it waits for every open answer.

    Nothing says so to an answer that is under way. The server itself has taken the signal, and
    its handler is a method of it.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
