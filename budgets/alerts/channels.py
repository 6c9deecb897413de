"""Sends a message to a channel: by Apprise, or to a webhook with a signature.

Addresses and secrets come from the environment and never leave this module: an error says what
kind of channel failed and how, never where it leads.

A webhook gets a POST with JSON. Its headers:

    x-farebox-timestamp   Unix seconds of the sending
    x-farebox-signature   v1=HEX, the HMAC-SHA256 of `TIMESTAMP.BODY` with the secret
    idempotency-key       the same for every attempt of this message to this channel

A receiver computes the signature over the raw body, compares it in constant time, refuses old
timestamps, and forgets a message whose key it has seen.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import hmac
import json
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

from budgets.alerts.render import Message
from budgets.alerts.settings import Channel

SEND_TIMEOUT_S = 30.0
"""How long one message may take; Apprise's own time-outs are shorter."""
WEBHOOK_TIMEOUT_S = 10.0

Environment = Callable[[], Mapping[str, str]]
"""Returns the environment with what `.env` adds; read anew for every message."""

_TYPES = {"informational": "info", "warning": "warning", "critical": "failure",
          "emergency": "failure"}  # fmt: skip
_STATUS = re.compile(r"\berror=([45]\d\d)\b")

_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="farebox-alerts")
"""Apprise's threads. The event loop's own resolve the providers' names: a mail server that hangs
must not keep a request waiting for one."""

_sending: ContextVar[bool] = ContextVar("farebox_sends_an_alert", default=False)


class ChannelError(Exception):
    """A message did not arrive; the text has nothing secret in it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message with what a program wants to know of it. `key` is the delivery's."""

    key: str
    alert_id: str
    kind: str
    level: str
    time_ms: int
    message: Message
    facts: Mapping[str, Any]


async def send(channel: Channel, letter: Letter, environment: Environment, now_ms: int) -> None:
    """Send a letter to a channel.

    Raises:
        ChannelError: it did not arrive, as far as can be told.
    """
    _guard_logs()
    values = await asyncio.to_thread(environment)
    address = _value(values, channel.url_env)
    token = _sending.set(True)
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            if channel.type == "webhook":
                assert channel.secret_env is not None  # `Channel` sees to it.
                secret = _value(values, channel.secret_env)
                await _post(address, secret, letter, now_ms // 1000)
            else:
                run = partial(contextvars.copy_context().run, _notify, address, letter)
                await asyncio.get_running_loop().run_in_executor(_threads, run)
    except TimeoutError:
        raise ChannelError(f"no answer within {SEND_TIMEOUT_S:.0f} s") from None
    finally:
        _sending.reset(token)


def _guard_logs() -> None:
    """Take the words out of what any library logs while it sends an alert; once is enough.

    HTTP libraries log whole addresses, some of them at the level INFO.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "guards_alerts", False):
        return

    def make_guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        # Apprise's own records go nowhere but into its result: see `_notify`.
        if _sending.get() and record.name != "apprise":
            record.msg, record.args = "[left out while an alert is sent]", None
            record.exc_info = record.exc_text = record.stack_info = None
        return record

    vars(make_guarded).update(vars(make), guards_alerts=True)
    logging.setLogRecordFactory(make_guarded)


def _value(values: Mapping[str, str], name: str) -> str:
    value = values.get(name, "").strip()
    if not value:
        raise ChannelError(
            f"the environment variable {name} is not set; set it for the proxy, or in .env beside "
            "litellm_config.yaml"
        )
    return value


# ── the webhook ──────────────────────────────────────────────────────────────────────────────────


def body_of(letter: Letter) -> bytes:
    """Return what a webhook is sent."""
    document = {
        "version": 1,
        "id": letter.alert_id,
        "kind": letter.kind,
        "level": letter.level,
        "time_ms": letter.time_ms,
        "title": letter.message.title,
        "text": letter.message.text,
        "facts": dict(letter.facts),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def signature(secret: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `x-farebox-signature`."""
    signed = f"{timestamp_s}.".encode() + body
    return "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


async def _post(address: str, secret: str, letter: Letter, timestamp_s: int) -> None:
    import httpx

    if not _is_http(address):
        raise ChannelError("the webhook's address is not one of http:// or https://")
    body = body_of(letter)
    headers = {
        "content-type": "application/json",
        "idempotency-key": letter.key,
        "user-agent": "farebox",
        "x-farebox-timestamp": str(timestamp_s),
        "x-farebox-signature": signature(secret, timestamp_s, body),
    }
    try:
        async with httpx.AsyncClient(
            timeout=WEBHOOK_TIMEOUT_S, follow_redirects=False, verify=_certificates()
        ) as client:
            answer = await client.post(address, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
        # The error's own text names the address.
        raise ChannelError(f"the webhook cannot be reached ({type(error).__name__})") from None
    if not answer.is_success:
        raise ChannelError(f"the webhook answered with status {answer.status_code}")


@cache
def _certificates() -> ssl.SSLContext:
    """Return what certificates are checked by; loading them takes longer than sending a message."""
    import httpx

    return httpx.create_ssl_context()


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


# ── Apprise ──────────────────────────────────────────────────────────────────────────────────────


def _notify(address: str, letter: Letter) -> None:
    """Hand a letter to Apprise; runs in a thread, as Apprise waits and is slow to import."""
    import apprise

    # Apprise logs addresses and answers: they stay with its own result.
    logging.getLogger("apprise").propagate = False
    target = apprise.Apprise()
    if not target.add(address) or len(target) == 0:
        raise ChannelError(
            "the variable's value is no address that Apprise knows; see "
            "https://appriseit.com/services/"
        )
    if len(target) > 1:
        # One of them could fail alone, and the others would get every repeat.
        raise ChannelError("the variable has several addresses; give each its own channel")
    result: Any = target.notify(
        title=letter.message.title,
        body=letter.message.text,
        notify_type=apprise.NotifyType(_TYPES.get(letter.level, "info")),
        body_format=apprise.NotifyFormat.TEXT,
    )
    if not result:
        service = str(getattr(target[0], "service_name", None) or "the service")
        # Releases before 2.0 answer with no more than a truth value.
        said = result.logs() if hasattr(result, "logs") else ()
        raise ChannelError(_reason(service, "\n".join(str(line) for line in said)))


def _reason(service: str, said: str) -> str:
    """Return what Apprise says of a failure, without any text that may have a token in it."""
    status = _STATUS.search(said)
    if status is not None:
        return f"{service} answered with status {status[1]}"
    return f"{service} did not take the message"
