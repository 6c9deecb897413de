"""The simulator's routes: the providers' own, and `/_sim/…` to steer it and to read its bill."""

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from scripts.simulator.anthropic import Messages
from scripts.simulator.ask import BadRequest, Dialect
from scripts.simulator.exchange import UNKNOWN, Endpoint, Latency, Provider
from scripts.simulator.gemini import GenerateContent
from scripts.simulator.openai import ChatCompletions, Embeddings, TextCompletions, error_body
from scripts.simulator.prices import PriceBook
from scripts.simulator.responses import Responses
from scripts.simulator.script import BehaviourError
from scripts.simulator.tokens import tokeniser


class UnknownRoute(ChatCompletions):
    """Any other path: answered 404 and put on the bill at 0, so that a test sees the attempt."""

    name = UNKNOWN


def build_app(
    prices: Mapping[str, Mapping[str, object]], latency: Latency | None = None
) -> Starlette:
    """The ASGI application. `prices`: model name -> USD a token, as in LiteLLM's price map.

    Its `state.provider` holds the bill and the script for use in the same process.
    """
    tokeniser()  # loaded before the first call, not within it
    provider = Provider(PriceBook(prices), latency=latency or Latency())
    routes: list[BaseRoute] = [
        Route("/_sim/health", _health),
        Route("/_sim/bill", _bill),
        Route("/_sim/calls", _calls),
        Route("/_sim/script", _script, methods=["POST"]),
        Route("/_sim/reset", _reset, methods=["POST"]),
    ]
    openai: list[tuple[str, Dialect]] = [
        ("/chat/completions", ChatCompletions()),
        ("/completions", TextCompletions()),
        ("/embeddings", Embeddings()),
        ("/responses", Responses()),
    ]
    for path, dialect in openai:
        for prefix in ("/v1", ""):
            routes.append(Route(prefix + path, Endpoint(dialect, provider)))
    for prefix in ("/anthropic/v1", "/anthropic", "/v1", ""):
        count = Route(f"{prefix}/messages/count_tokens", _count_messages, methods=["POST"])
        routes += [count, Route(f"{prefix}/messages", Endpoint(Messages(), provider))]
    models = "/{prefix:path}models/{model:path}"
    generate = Endpoint(GenerateContent(), provider)
    routes += [
        Route(f"{models}:countTokens", _count_contents, methods=["POST"]),
        Route(f"{models}:generateContent", generate),
        Route(f"{models}:streamGenerateContent", generate),
        Route("/{path:path}", Endpoint(UnknownRoute(), provider)),
    ]
    app = Starlette(routes=routes)
    app.state.provider = provider
    return app


def _provider(request: Request) -> Provider:
    provider: Provider = request.app.state.provider
    return provider


async def _health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _bill(request: Request) -> JSONResponse:
    return JSONResponse(_provider(request).bill.totals())


async def _calls(request: Request) -> JSONResponse:
    since = request.query_params.get("since", "0")
    if not since.isdecimal():
        return JSONResponse(error_body(400, "'since' must be a call's seq, a number"), 400)
    return JSONResponse({"calls": _provider(request).bill.calls_since(int(since))})


async def _script(request: Request) -> JSONResponse:
    """Queue behaviours: {"model": "gpt-4o", "behaviours": [{"status": 500}, "usage=none"]}"""
    try:
        body = await request.json()
        waiting = _provider(request).script.add(str(body["model"]), list(body["behaviours"]))
    except BehaviourError as error:
        return JSONResponse(error_body(400, str(error)), 400)
    except (ValueError, KeyError, TypeError):
        message = 'send {"model": "gpt-4o" or "*", "behaviours": [{"status": 500}, …]}'
        return JSONResponse(error_body(400, message), 400)
    return JSONResponse({"waiting": waiting})


async def _reset(request: Request) -> JSONResponse:
    """Forget the bill and the script. Calls in flight belong to the old bill."""
    provider = _provider(request)
    provider.bill.reset()
    provider.script.reset()
    return JSONResponse({"status": "ok"})


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise BadRequest("the body is not JSON") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


async def _count_messages(request: Request) -> JSONResponse:
    """Anthropic's token count: free, and so not on the bill."""
    try:
        return JSONResponse({"input_tokens": Messages.prompt(await _body(request)).tokens})
    except BadRequest as error:
        return JSONResponse(Messages().error(400, str(error)), 400)


async def _count_contents(request: Request) -> JSONResponse:
    """Gemini's token count: free, and so not on the bill."""
    try:
        return JSONResponse({"totalTokens": GenerateContent.prompt(await _body(request)).tokens})
    except BadRequest as error:
        return JSONResponse(GenerateContent().error(400, str(error)), 400)
