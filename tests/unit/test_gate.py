"""The outermost door: too many headers, too large a body, one that never ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hooks import gate
from hooks.gate import Gate, Message

BYTES_MAX = 1_000


class Inside:
    """The application behind the gate: it reads the whole body and remembers it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while scope["type"] == "http":
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)


async def knock(
    parts: list[bytes] | None = None,
    headers: list[tuple[bytes, bytes]] | None = None,
    path: str = "/v1/chat/completions",
    *,
    gone: bool = False,
    bytes_max: int = BYTES_MAX,
) -> tuple[list[bytes], list[Message]]:
    """Send a request; return the bodies that came in, and what was answered at the door."""
    inside, answers = Inside(), list[Message]()
    waiting = [
        {"type": "http.request", "body": part, "more_body": i < len(parts or []) - 1 or gone}
        for i, part in enumerate(parts or [])
    ]

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        if gone:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        answers.append(message)

    given = headers if headers is not None else [(b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "path": path, "headers": given}
    await Gate(inside, lambda: bytes_max)(scope, receive, send)
    return inside.bodies, answers


def status_of(answers: list[Message]) -> int:
    assert json.loads(answers[1]["body"])["error"]["message"]
    return int(answers[0]["status"])


async def test_a_body_passes_unchanged_in_its_parts() -> None:
    bodies, answers = await knock([b"ab", b"", b"cd"])
    assert (bodies, answers) == ([b"abcd"], [])


async def test_a_request_without_a_body_is_not_waited_for() -> None:
    bodies, _ = await knock([b""], headers=[(b"content-length", b"0")])
    assert bodies == [b""]


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    bodies, answers = await knock([], headers=[(b"content-length", b"1001")])
    assert bodies == [] and status_of(answers) == 413


async def test_a_body_that_turns_out_too_large_is_not_passed_on() -> None:
    bodies, answers = await knock([b"x" * 600, b"x" * 600])
    assert bodies == [] and status_of(answers) == 413


async def test_the_largest_body_passes() -> None:
    assert (await knock([b"x" * BYTES_MAX]))[0] == [b"x" * BYTES_MAX]


async def test_too_many_headers_are_refused() -> None:
    headers = [(b"x-%d" % n, b"") for n in range(gate.HEADERS_MAX + 1)]
    bodies, answers = await knock([], headers=headers)
    assert bodies == [] and status_of(answers) == 431
    assert await knock([b""], headers=headers[:-1]) == ([b""], [])


async def test_a_client_that_leaves_inside_its_body_is_forgotten() -> None:
    assert await knock([b"half"], gone=True) == ([], [])


async def test_a_client_that_stops_inside_its_body_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "BODY_PAUSE_S_MAX", 0.02)
    bodies, answers = await knock([])
    assert bodies == [] and status_of(answers) == 408


@pytest.mark.parametrize("sign", [b"[],", b"{},", b"1,"])
async def test_a_body_of_countless_small_things_is_refused_before_it_is_parsed(sign: bytes) -> None:
    body = b"[" + sign * (gate.COMMAS_MAX + 1) + b"1]"
    bodies, answers = await knock([body], bytes_max=10**8)
    assert bodies == [] and status_of(answers) == 422


async def test_a_large_text_passes() -> None:
    body = json.dumps({"messages": [{"content": "def f(x): return [x, {}]\n" * 100_000}]}).encode()
    assert (await knock([body], bytes_max=10**8))[0] == [body]


@pytest.mark.parametrize(
    ("path", "keys"),
    [("/v1/messages", {"type", "error"}), ("/v1/chat/completions", {"error"})],
)
async def test_the_error_has_the_shape_of_its_path(path: str, keys: set[str]) -> None:
    _, answers = await knock([b"x" * 2_000], path=path)
    assert json.loads(answers[1]["body"]).keys() == keys


async def test_what_is_no_request_passes() -> None:
    inside = Inside()
    await Gate(inside, lambda: 1)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # unused
    assert inside.bodies == [b""]
