"""The outermost door of the proxy: what is too large to be looked at goes no further.

It stands before LiteLLM's own middleware and before authentication, because a body costs time and
memory from the moment it is read, whoever sent it. It bounds the number of headers (LiteLLM looks
through all of them for each that it knows, so thousands block the event loop), the size of a body,
declared or not, and how long a client may pause inside one. It knows ASGI and nothing of LiteLLM.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hooks.arrival import Arrival, arrived

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS_MAX = 200
"""A browser sends about 20, an SDK behind several proxies about 50."""

BODY_PAUSE_S_MAX = 30.0
"""How long a client may send nothing while its body is not whole."""

SCANNED_BYTES_MIN = 1_000_000
"""From this size on a body's signs are counted before it is parsed: it takes a millisecond."""

BRACKETS_MAX = 500_000
COMMAS_MAX = 3_000_000
"""Millions of empty lists keep the parser, and the garbage collector, busy for seconds. In eight
megabytes of text (2 million tokens) there are fewer of these signs, whether prose, code or tables.
"""


class Gate:
    """ASGI middleware. `body_bytes_max` is asked at each request, since the policy may change."""

    def __init__(self, app: App, body_bytes_max: Callable[[], int]) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(headers) > HEADERS_MAX:
            await _refuse(scope, send, 431, f"The request has more than {HEADERS_MAX} headers.")
            return
        declared, has_body = _declared(headers)
        if not has_body:
            await self._app(scope, receive, send)
            return
        bytes_max = self._body_bytes_max()
        too_large = f"The request's body is larger than {bytes_max:,} bytes."
        if declared > bytes_max:
            await _refuse(scope, send, 413, too_large)
            return
        # The body is taken in whole before anyone else sees it: LiteLLM would swallow an error that
        # is raised while it reads, and go on with an empty body. It reads all of it anyway.
        parts: list[Message] = []
        size = 0
        while not parts or parts[-1].get("more_body", False):
            try:
                async with asyncio.timeout(BODY_PAUSE_S_MAX):
                    part = await receive()
            except TimeoutError:
                await _refuse(scope, send, 408, "The request's body did not come to its end.")
                return
            if part["type"] != "http.request":
                return  # The client has gone before it had said what it wants.
            size += len(part.get("body", b""))
            if size > bytes_max:
                await _refuse(scope, send, 413, too_large)
                return
            parts.append(part)
        if size >= SCANNED_BYTES_MIN and _is_crowded(parts):
            await _refuse(scope, send, 422, "The request's body has too many lists and objects.")
            return
        arrived.set(Arrival(scope, tuple(part.get("body", b"") for part in parts)))
        await self._app(scope, _again(parts, receive), send)


def _declared(headers: list[tuple[bytes, bytes]]) -> tuple[int, bool]:
    """Return the body's declared length (0 where none is declared), and whether there is a body."""
    length, has_body = 0, False
    for name, value in headers:
        if name == b"content-length":
            has_body = has_body or value != b"0"
            # The server has checked it; a value that is no number is left to the count.
            length = int(value) if value.isdigit() and len(value) < 20 else length
        elif name == b"transfer-encoding":
            has_body = True
    return length, has_body


def _is_crowded(parts: list[Message]) -> bool:
    bodies: list[bytes] = [part.get("body", b"") for part in parts]
    brackets = sum(body.count(b"[") + body.count(b"{") for body in bodies)
    return brackets > BRACKETS_MAX or sum(body.count(b",") for body in bodies) > COMMAS_MAX


def _again(parts: list[Message], receive: Receive) -> Receive:
    """Return a `receive` that gives the parts once more, then what comes after the body."""
    left = iter(parts)

    async def next_part() -> Message:
        part = next(left, None)
        return part if part is not None else await receive()

    return next_part


def error_body(path: str, type_: str, code: str, message: str) -> dict[str, Any]:
    """Return an error in the shape that clients of this path know: Anthropic's or OpenAI's."""
    error: dict[str, Any] = {"type": type_, "message": message, "code": code}
    if path.rstrip("/").endswith("/messages"):
        return {"type": "error", "error": error}
    return {"error": error | {"param": None}}


async def _refuse(scope: Scope, send: Send, status: int, message: str) -> None:
    shape = error_body(scope["path"], "invalid_request_error", "invalid_request", message)
    body = json.dumps(shape).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-farebox-code", b"invalid_request"),
        (b"x-should-retry", b"false"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
