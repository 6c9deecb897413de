"""What the bill keeps of a request: never a prompt, never a key, and nothing of unbounded size."""

import hashlib
from typing import Any

from starlette.requests import Request

from scripts.simulator.ask import Body, compact_json

FIELD_CHARACTERS_MAX = 2_000
HEADER_CHARACTERS_MAX = 200
_FIELDS = (
    "model",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "stream",
    "stream_options",
    "metadata",
    "user",
    "dimensions",
)
_HEADERS = ("user-agent", "anthropic-version", "anthropic-beta", "traceparent", "content-type")
_HEADER_PREFIXES = ("x-litellm-", "x-farebox-", "x-stainless-retry")


def key_hash(request: Request) -> str | None:
    """SHA-256 in hex of the API key, wherever the dialect puts it; None without a key."""
    headers = request.headers
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    key = headers.get("x-api-key") or headers.get("x-goog-api-key") or ""
    if not key and scheme.lower() == "bearer":
        key = bearer
    key = key or request.query_params.get("key", "")
    return hashlib.sha256(key.encode()).hexdigest() if key else None


def kept_headers(request: Request) -> dict[str, str]:
    """The headers that say who called and how; none that carries a key."""
    return {
        name: value[:HEADER_CHARACTERS_MAX]
        for name, value in request.headers.items()
        if name in _HEADERS or name.startswith(_HEADER_PREFIXES)
    }


def kept_fields(body: Body) -> dict[str, Any]:
    """The small fields of a body that a test wants to see passed on."""
    kept = {key: body[key] for key in _FIELDS if key in body}
    return {key: v for key, v in kept.items() if len(compact_json(v)) <= FIELD_CHARACTERS_MAX}


def body_keys(body: Body) -> tuple[str, ...]:
    """The names of a body's fields, sorted."""
    return tuple(sorted(str(key) for key in body))
