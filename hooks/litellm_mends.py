"""What is put right in LiteLLM 1.106 at start, a function each. Called once a worker.

Only what no setting of LiteLLM's can do is here, and each goes when LiteLLM no longer needs it:
`tests/e2e/test_hostile.py` and `tests/unit/test_litellm_mends.py` fail without them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

from fastapi import Request
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.proxy import proxy_server
from litellm.proxy.auth import user_api_key_auth
from litellm.proxy.auth.auth_utils import get_request_route
from litellm.proxy.common_utils.http_parsing_utils import safe_set_request_parsed_body
from litellm.proxy.db.exception_handler import PrismaDBExceptionHandler

from hooks import body as bodies
from hooks.gate import Gate
from hooks.litellm_auth import AuthRefusal
from hooks.queue_answer import QueuedAnswers

taken_fields: ContextVar[tuple[str, ...]] = ContextVar("farebox_taken_fields", default=())
"""The names that were taken out of the body of the request that this task serves."""


def _strip_nothing(_path: str, _body: dict[str, Any]) -> tuple[str, ...]:
    return ()


_strip: Callable[[str, dict[str, Any]], tuple[str, ...]] = _strip_nothing


def apply() -> None:
    """Put everything right; doing it again changes nothing."""
    infer_no_redis()
    suspect_no_database()
    read_objects_only()
    finalise_no_stream()


def stand_before(body_bytes_max: Callable[[], int]) -> None:
    """Put the gate before everything else of the proxy's application.

    Plugins are loaded while the application starts, when it takes no more middleware: its finished
    stack is wrapped instead.
    """
    app = proxy_server.app
    if app.middleware_stack is None:
        app.add_middleware(QueuedAnswers)
        app.add_middleware(Gate, body_bytes_max=body_bytes_max)
    elif not isinstance(app.middleware_stack, Gate):
        app.middleware_stack = Gate(QueuedAnswers(app.middleware_stack), body_bytes_max)


def strip_with(strip: Callable[[str, dict[str, Any]], tuple[str, ...]]) -> None:
    """Have `strip` take fields out of every body, by its route, as soon as it is read."""
    global _strip
    _strip = strip


def infer_no_redis() -> None:
    """Keep LiteLLM from taking the ledger's Redis for its own counters only because of `REDIS_URL`.

    It would cost every request several round trips, and LiteLLM's counter script runs INCRBYFLOAT,
    after which a Redis 6.2 that was built with libc's malloc writes past its argument vector and
    dies. Whoever wants LiteLLM on Redis says so in `general_settings.coordination_redis`. LiteLLM
    calls this function after it has made the callbacks.
    """
    proxy_server._build_redis_usage_cache_from_environment = lambda: None


def suspect_no_database() -> None:
    """Let LiteLLM's own refusals keep their status where its database client is not installed.

    For every error of its authentication (a body that is no object, a field that it bans) LiteLLM
    asks whether it is one of the database's, imports `prisma` for that, and without it answers with
    a bare 500. Without the client there is no database, so the answer is known.
    """
    if find_spec("prisma") is not None:
        return
    for name in vars(PrismaDBExceptionHandler):
        if name.startswith("is_"):
            setattr(PrismaDBExceptionHandler, name, staticmethod(_never))


def _never(*_: object, **__: object) -> bool:
    return False


def read_objects_only() -> None:
    """Refuse a body that is no object or that LiteLLM would fail on, with a 500 or in seconds.

    LiteLLM treats the refusal like a body that is no JSON: it finds out who asks, then raises it.
    Where its own parser fails otherwise (too deep, too long a number, no UTF-8) it goes on with an
    empty body, for which the client would be told that the model is missing.
    """
    read = vars(user_api_key_auth)["read_request_body"]
    if hasattr(read, "farebox"):
        return

    async def read_object(request: Request | None) -> dict[str, Any]:
        read_before = _parsed_before(request)
        body: object = await read(request=request)
        if not isinstance(body, dict):
            raise _unreadable("The body must be a JSON object.")
        if request is None or read_before:
            return body
        if (fault := await _fault_of(request, body)) is not None:
            raise _unreadable(fault)
        taken = _strip(get_request_route(request), body)
        taken_fields.set(taken)
        if taken:
            safe_set_request_parsed_body(request, body)
        return body

    vars(read_object)["farebox"] = True  # How it is known the second time.
    vars(user_api_key_auth)["read_request_body"] = read_object


def _parsed_before(request: Request | None) -> bool:
    return request is None or "parsed_body" in request.scope


async def _fault_of(request: Request, body: dict[str, Any]) -> str | None:
    if body:
        return bodies.fault_of(body)
    content_type = request.headers.get("content-type", "").lower()
    if "form" in content_type or "protobuf" in content_type:
        return None  # LiteLLM reads these otherwise, and says what is wrong with them.
    sent = b"".join((await request.body()).split())
    return "The body cannot be read as JSON in UTF-8." if sent not in (b"", b"{}") else None


def _unreadable(message: str) -> AuthRefusal:
    return AuthRefusal(422, "invalid_request_error", "invalid_request", message)


def finalise_no_stream() -> None:
    """Keep a forgotten stream from setting context variables while garbage is collected.

    Under Python 3.11 and older, where an allocation may start a collection, a finaliser that sets
    a context variable while another is being set frees the table that is being copied (CPython
    issue 148891). The process crashes then or later, and every stream on it is lost; the
    agreement test's 2,000 requests now and then saw it. LiteLLM's finaliser only restores the ids
    that `request_correlation_in_logs` writes into log lines, in a context that ends with its
    request.
    """
    if "__del__" in vars(CustomStreamWrapper):
        del CustomStreamWrapper.__del__
