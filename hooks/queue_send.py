"""Sends a queued request through this worker's own proxy, as if its client had sent it.

The proxy's application is called in this process, with everything that stands before the hooks: the
gate, authentication, LiteLLM's routes. So no address or internal key is needed that others could
find. Whom the request acts for stands in its ASGI scope (`arrival.RUN`), where no client can write.
"""

from __future__ import annotations

import asyncio

import httpx

from hooks.arrival import RUN, Run
from hooks.gate import App, Receive, Scope, Send
from hooks.queue_desk import StoredRequest
from hooks.queue_outcome import Reply

RUN_S_MAX = 3_000.0
"""How long one run may take; a hold is kept alive for an hour at most."""


async def send(app: App, run: Run, request: StoredRequest) -> Reply:
    """Return the whole answer; a defect inside the application is an answer with status 500."""

    async def marked(scope: Scope, receive: Receive, reply: Send) -> None:
        scope[RUN] = run
        await app(scope, receive, reply)

    transport = httpx.ASGITransport(app=marked, raise_app_exceptions=False)
    headers = {**request.headers, "content-type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url="http://farebox.queue") as client:
        try:
            async with asyncio.timeout(RUN_S_MAX):
                answer = await client.post(request.path, content=request.body, headers=headers)
        except TimeoutError:
            return Reply(504, {}, b"")
    return Reply(answer.status_code, dict(answer.headers), answer.content)
