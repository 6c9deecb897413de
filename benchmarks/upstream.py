"""The quickest upstream that speaks OpenAI's chat: fixed answers, nothing counted.

    python -m benchmarks.upstream PORT

It stands in for a provider where what the proxy does is measured; `scripts/simulator` is the one
that bills.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from aiohttp import web

from benchmarks.servers import line_of, usage_of

ANSWER = "The export starts before the load has been committed."
BODY_BYTES_MAX = 64 * 2**20


async def chat(request: web.Request) -> web.StreamResponse:
    """Answer one chat completion, as a stream where that was asked for."""
    body = await request.json()
    usage = usage_of(len(json.dumps(body)) // 4, 10)
    head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": ANSWER}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return web.json_response(whole)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    head |= {"object": "chat.completion.chunk"}
    for word in ANSWER.split():
        choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
        await response.write(line_of({**head, "choices": [choice]}))
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    await response.write(line_of({**head, "choices": [choice]}))
    await response.write(line_of({**head, "choices": [], "usage": usage}))
    await response.write(b"data: [DONE]\n\n")
    return response


async def ready(_: web.Request) -> web.Response:
    """Say that it listens."""
    return web.Response()


def main() -> None:
    """Serve on the loopback until terminated."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes([web.get("/", ready), web.post("/v1/chat/completions", chat)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
