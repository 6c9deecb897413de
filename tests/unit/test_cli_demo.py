"""`farebox demo`: what it sends through the real SDKs, and what it shows of the answers.

The upstream is the simulator behind a thin layer that adds what Farebox's hooks add: the headers, a
decision and an entry for every answer, a refusal for the demo's tag. The whole way through a real
proxy is an end-to-end test.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from budgets.config import load_budgets
from scripts.cli.demo_requests import REFUSAL_TAG, REQUESTS
from scripts.simulator.app import build_app
from scripts.simulator.prices import bundled_prices
from tests.unit.test_cli_support import CENT, Request, World, new_world, served


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


class Governed:
    """Adds Farebox's headers to the simulator's answers, and their entries to a world's ledger."""

    def __init__(self, app: ASGIApp, world: World, mode: str = "enforce") -> None:
        self._app = app
        self._world = world
        self._mode = mode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest(scope)
        if request.headers.get("authorization", request.headers.get("x-api-key")) is None:
            await JSONResponse({"error": {"message": "no key"}}, 401)(scope, receive, send)
            return
        made = Request(cost=CENT, id=uuid.uuid4().hex)
        headers = {
            "x-farebox-decision": f"d-{made.id}",
            "x-farebox-category": "FAST",
            "x-farebox-task-type": made.task_type,
            "x-farebox-model": made.group,
            "x-farebox-mode": self._mode,
            "x-farebox-budget-remaining": "49.98",
        }
        if request.headers.get("x-farebox-tags") == REFUSAL_TAG and self._mode == "enforce":
            headers["x-farebox-code"] = "budget_exceeded"
            body = {"error": {"message": "full", "code": "budget_exceeded"}}
            await JSONResponse(body, 402, headers)(scope, receive, send)
            return
        async with self._world.opened() as (ledger, _):
            budgets = load_budgets(self._world.budgets_file)[1]
            await made.send(ledger, budgets)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in headers.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, with_headers)


def environ(address: str) -> dict[str, str]:
    return {"FAREBOX_PROXY": address, "FAREBOX_KEY": "sk-test"}


def test_every_request_is_answered_priced_and_explained(world: World) -> None:
    world.fill()
    with served(Governed(build_app(bundled_prices()), world)) as address:
        found = world.json("demo", environ=environ(address))
        shown = world.run("demo", environ=environ(address))
    assert len(found["requests"]) == len(REQUESTS) == 20
    assert found["as_expected"] is True and found["note"] == ""
    (refused,) = [one for one in found["requests"] if one["code"]]
    assert refused["code"] == "budget_exceeded" and refused["cost_usd"] is None
    answered = [one for one in found["requests"] if not one["code"]]
    assert {one["cost_usd"] for one in answered} == {"0.01"}
    assert found["total_nano_usd"] == 19 * CENT
    assert found["frontier_group"] == "claude-opus"
    # 19 times 100 tokens in and 50 out, at $4 and $20 a million.
    assert found["frontier_nano_usd"] == 19 * 1_400_000
    assert "budget_exceeded" in shown and "Total $0.190000" in shown


def test_shadow_mode_refuses_nothing_and_that_is_as_expected(world: World) -> None:
    world.fill()
    with served(Governed(build_app(bundled_prices()), world, mode="shadow")) as address:
        found = world.json("demo", environ=environ(address))
    assert found["as_expected"] is True
    assert not any(one["code"] for one in found["requests"])


def test_a_proxy_that_is_not_governed_falls_short(world: World) -> None:
    with served(build_app(bundled_prices())) as address:
        shown = world.run("demo", environ=environ(address), code=1)
    assert "is this proxy governed?" in shown and "Not as expected" in shown


def test_where_no_proxy_answers_it_ends_at_once(world: World) -> None:
    assert "./scripts/serve" in world.run("demo", environ=environ("http://127.0.0.1:9"), code=1)


def test_a_key_that_is_not_accepted_is_told(world: World) -> None:
    async def refuse(request: HttpRequest) -> Response:
        return JSONResponse({"error": {"message": "no", "code": "unknown_key"}}, 401)

    app = Starlette()
    app.add_route("/{path:path}", refuse, methods=["GET", "POST"])
    with served(app) as address:
        shown = world.run("demo", environ=environ(address), code=1)
    assert "does not accept the key" in shown and "sk-test" not in shown
