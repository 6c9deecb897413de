"""What a client gets whose request was queued: status 202 and a body that SDKs can read.

An exception in the pre-call hook ends in LiteLLM's error shape, `{"error": …}`. With status 202 an
SDK takes that for a success, so it is given the fields that one looks at, all of them empty: no
choice, no content, no output. `error` with its code `queued` stays beside them. The `status` of the
Responses API has the word `queued` for this.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

from hooks.arrival import path_of
from hooks.fields import CALL_TYPES
from hooks.gate import App, Message, Receive, Scope, Send
from hooks.headers import QUEUE_ID

_HEADER = QUEUE_ID.encode()

_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "acompletion": {"object": "chat.completion", "choices": []},
    "atext_completion": {"object": "text_completion", "choices": []},
    "aresponses": {"object": "response", "output": []},
    "aembedding": {"object": "list", "data": []},
    "anthropic_messages": {
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    },
}


def answer(path: str, error: Mapping[str, Any], queue_id: str) -> dict[str, Any]:
    """Return the body for a client of this path, from LiteLLM's `error` object."""
    specific = error.get("provider_specific_fields")
    farebox = error.get("farebox") or (specific or {}).get("farebox") or {}
    return {
        "id": queue_id,
        **_SHAPES.get(CALL_TYPES.get(path, ""), {}),
        "status": "queued",
        "queue_id": queue_id,
        "farebox": farebox,
        "error": {
            "message": error.get("message"),
            "type": "queued",
            "param": None,
            "code": "queued",
            "farebox": farebox,
        },
    }


class QueuedAnswers:
    """ASGI middleware: gives the answer of a queued request its body; all else passes as it is."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of the server."""
        if scope["type"] != "http" or path_of(scope) not in CALL_TYPES:
            await self._app(scope, receive, send)
            return
        started: list[Message] = []
        parts: list[bytes] = []

        async def pass_on(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_queued(message):
                started.append(message)
                return
            if not started:
                await send(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await _send_answer(path_of(scope), started[0], b"".join(parts), send)

        await self._app(scope, receive, pass_on)


def _is_queued(start: Message) -> bool:
    return start["status"] == 202 and any(name == _HEADER for name, _ in start["headers"])


async def _send_answer(path: str, start: Message, made: bytes, send: Send) -> None:
    queue_id = next(value for name, value in start["headers"] if name == _HEADER).decode()
    # LiteLLM compresses what its clients can unpack, and does so before this.
    packed = (b"content-encoding", b"gzip") in start["headers"]
    try:
        error = json.loads(gzip.decompress(made) if packed else made)["error"]
        body = json.dumps(answer(path, error, queue_id)).encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        # Another shape than LiteLLM's is better shown than lost: the headers say what it is.
        await send(start)
        await send({"type": "http.response.body", "body": made})
        return
    replaced = (b"content-length", b"content-type", b"content-encoding")
    headers = [(name, value) for name, value in start["headers"] if name not in replaced]
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})
