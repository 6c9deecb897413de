"""One connection that carries many scripts at once: the quick way to a Redis of one server.

A command goes out when it comes, behind those that are under way, and replies come back in the same
order. Commands that meet in one turn of the event loop so share what a round trip costs, and
nobody waits for a connection. redis-py takes one of a pool for each command, and its own work for
that costs more than the trip itself.

Only scripts are run here, none that blocks, on one server without TLS. Everything else is
redis-py's: other commands, other topologies, the first commands while this connection is being
opened, and those that are sent once more because it was lost. So nothing waits for this connection,
and nothing depends on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis
import redis
from redis._parsers.base import BaseParser  # What turns an error's code into redis-py's class.

PENDING_MAX = 1_024
"""Commands under way at once; beyond it redis-py's pool takes them, each in its turn."""

OPEN_TIMEOUT_S = 1.0
OPEN_AGAIN_S = 1.0
"""How long after a connection that could not be opened the next try is made."""

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class LaneAddress:
    """Where the server is; `path` is a Unix socket's, and then there is no host."""

    path: str = ""
    host: str = ""
    port: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0


class Wire(asyncio.Protocol):
    """An open connection. A reply that takes longer than `timeout_s` closes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self.loop = loop
        self.closed = True
        self._timeout_s = timeout_s
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        # Any: hiredis' types know no marker for "no reply yet" but False, which a reply can be.
        self._reader: Any = hiredis.Reader(
            protocolError=redis.InvalidResponse,
            replyError=cast(Any, BaseParser.parse_error),
            encoding="utf-8",
            notEnoughData=_NOTHING,
        )

    @property
    def is_full(self) -> bool:
        """Whether too many commands are under way to take another one."""
        return len(self._pending) >= PENDING_MAX

    def ask(self, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Send a command; the future has its reply, or raises the error that it answered with.

        It raises `redis.ConnectionError` if the connection is lost before, and
        `redis.TimeoutError` if no reply comes in time.
        """
        future: asyncio.Future[Any] = self.loop.create_future()
        if self.closed or self._transport is None:
            future.set_exception(redis.ConnectionError("the connection is closed"))
            return future
        self._pending.append((future, self.loop.time() + self._timeout_s))
        if self._watch is None:
            self._watch = self.loop.call_later(self._timeout_s, self._look)
        # mypy: hiredis' stub takes integers for packing and does not say so.
        self._transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]
        return future

    def close(self, error: Exception | None = None) -> None:
        """Close it; whoever waits for a reply gets the error."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        while self._pending:
            future, _ = self._pending.popleft()
            if not future.done():
                future.set_exception(error or redis.ConnectionError("the connection was closed"))

    def _look(self) -> None:
        """Give the server up if the oldest command has waited too long. One timer for all."""
        self._watch = None
        if not self._pending:
            return
        left_s = self._pending[0][1] - self.loop.time()
        if left_s <= 0:
            self.close(redis.TimeoutError("no answer in time"))
        else:
            self._watch = self.loop.call_later(left_s, self._look)

    # ── what the event loop calls ────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to take commands."""
        self._transport = cast(asyncio.Transport, transport)
        self.closed = False

    def data_received(self, data: bytes) -> None:
        """Hand each reply to whoever asked first and has none yet."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                if not self._pending:
                    raise redis.InvalidResponse("a reply that nobody asked for")
                future, _ = self._pending.popleft()
                if future.done():
                    continue  # Who asked has gone: the reply is taken off the wire all the same.
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (redis.InvalidResponse, UnicodeDecodeError):
            self.close(redis.ConnectionError("the server's reply cannot be read"))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self.close(redis.ConnectionError("the connection was lost"))


class Lane:
    """Keeps one wire open to a server, for the event loop that asks."""

    def __init__(self, address: LaneAddress, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._again_s = 0.0

    def wire(self) -> Wire | None:
        """Return the wire; None where there is none now, and one is opened in the background."""
        wire, loop = self._wire, asyncio.get_running_loop()
        if wire is not None and not wire.closed and wire.loop is loop:
            return None if wire.is_full else wire
        opening = self._opening
        # A client may outlive its event loop, in tests; what was begun there never ends.
        busy = opening is not None and not opening.done() and opening.get_loop() is loop
        other = wire is not None and wire.loop is not loop
        if not busy and (other or loop.time() >= self._again_s):
            self._again_s = loop.time() + OPEN_AGAIN_S
            self._opening = loop.create_task(self._open(loop), name="farebox-redis-lane")
        return None

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        at = self._address
        wire = Wire(loop, self._timeout_s)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                if at.path:
                    await loop.create_unix_connection(lambda: wire, at.path)
                else:
                    await loop.create_connection(lambda: wire, at.host, at.port)
                if at.password is not None:
                    account = (at.username,) if at.username else ()
                    await wire.ask("AUTH", *account, at.password)
                if at.db:
                    await wire.ask("SELECT", at.db)
        except (OSError, redis.RedisError):  # TimeoutError is an OSError.
            wire.close()  # Whoever asks meanwhile is told by redis-py's own connection why.
            return
        self._wire = wire

    async def aclose(self) -> None:
        """Close the wire."""
        opening, self._opening = self._opening, None
        if opening is not None and opening.get_loop() is asyncio.get_running_loop():
            opening.cancel()
            await asyncio.wait((opening,))
        wire, self._wire = self._wire, None
        if wire is not None and not wire.closed:
            wire.close()
