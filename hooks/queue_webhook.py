"""Webhooks of queued requests: which address may be called, and the call.

An address comes from a client, who is hostile until shown otherwise: only origins that the policy
lists are called, without following redirects, and the call says that a request has ended and never
what was asked or answered. The receiver fetches the answer with the key that asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from hooks.values import InvalidRequest

log = structlog.get_logger("farebox.queue")

PARAM = "metadata.queue_webhook"
TIMEOUT_S = 10.0
PAUSES_S = (1.0, 5.0, 25.0)
"""How long to wait after each failed call but the last."""


def check_address(address: str, origins: Collection[str]) -> None:
    """Raise `InvalidRequest` unless the address may be called.

    Its origin is compared as a whole and as written: what is not plainly on the list is refused.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise InvalidRequest("`queue_webhook` is not an address.", PARAM) from None
    plain = address.isascii() and address.isprintable() and not {" ", "\\", "@", "#"} & {*address}
    origin = f"{parts.scheme}://{parts.hostname or ''}{f':{port}' if port is not None else ''}"
    rest = address[len(origin) :]
    listed = (
        plain and origin in origins and address.startswith(origin) and rest[:1] in ("", "/", "?")
    )
    if not listed:
        raise InvalidRequest(
            "`queue_webhook` may not be called: its scheme, host and port are not listed under "
            "`queue.webhook_origins` of routing.yaml.",
            PARAM,
        )


async def tell(
    address: str,
    content: Mapping[str, Any],
    pauses_s: tuple[float, ...] = PAUSES_S,
    transport: httpx.AsyncBaseTransport | None = None,
) -> bool:
    """POST the content, a few times where it fails; say whether it arrived.

    Whoever misses it can still poll.
    """
    queue_id = content.get("queue_id")
    async with httpx.AsyncClient(
        timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, transport=transport
    ) as client:
        for pause_s in (*pauses_s, None):
            try:
                async with client.stream("POST", address, json=dict(content)) as answer:
                    if answer.is_success:
                        return True
                    problem = f"http_{answer.status_code}"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = type(error).__name__
            if pause_s is not None:
                await asyncio.sleep(pause_s)
    log.warning("queue_webhook_failed", queue_id=queue_id, problem=problem)
    return False
