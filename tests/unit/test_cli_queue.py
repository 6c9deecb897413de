"""`farebox queue` against Redis and against the queue's own routes, served over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from budgets import embedded
from budgets.connection import connect
from budgets.queue.items import Item, Need, Room, State
from budgets.queue.redis_queue import RedisQueue
from budgets.queue.seal import Sealer
from hooks.access import Role
from hooks.guard import Person, presented_key
from hooks.queue_desk import QueueDesk
from hooks.queue_routes import build_router
from scripts.cli.queue import _watch
from tests.queue.items import LEASE_MS, new_item
from tests.unit.test_cli_support import HOSTILE, World, new_world, served

T = TypeVar("T")
ADMIN = {"FAREBOX_KEY": "sk-admin"}
SEALER = Sealer((bytes(32),))
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


@pytest.fixture
def admin(world: World) -> Iterator[dict[str, str]]:
    """The environment of an admin of a server with the queue's routes."""
    client = connect(embedded.ensure(world.state).url)
    opened = QueueDesk(RedisQueue(client, world.ledger_name), SEALER)

    async def desk() -> QueueDesk:
        return opened

    async def doorkeeper(request: Request) -> Person:
        role = Role.ADMIN if presented_key(request.headers) == "sk-admin" else Role.CALLER
        return Person("somebody", role, key_id="key-of-somebody")

    app = FastAPI()
    app.include_router(build_router(desk, doorkeeper))
    with served(app) as address, capture_logs():
        yield {**ADMIN, "FAREBOX_PROXY": address}


def on_queue(world: World, act: Callable[[RedisQueue], Awaitable[T]]) -> T:
    """Do something to the queue past the command."""

    async def run() -> T:
        client = connect(embedded.ensure(world.state).url)
        try:
            return await act(RedisQueue(client, world.ledger_name))
        finally:
            await client.aclose()

    return asyncio.run(run())


def add(world: World, **changes: Any) -> Item:
    new = new_item(f"q{next(_numbers)}", **{"needs": (Need("FAST", "FAST", 10**7),), **changes})
    kept = on_queue(world, lambda queue: queue.add(new, Room(100, 10**9)))
    assert isinstance(kept, Item)
    return kept


def bury(world: World, item: Item, reason: str) -> None:
    async def act(queue: RedisQueue) -> None:
        await queue.claim(item.id, "me", LEASE_MS)
        await queue.bury(item.id, "me", reason)

    on_queue(world, act)


def test_the_list_has_what_waits_in_its_order_and_nothing_sealed(world: World) -> None:
    late, first = add(world, key_name=HOSTILE), add(world, priority=9)
    world.width = 160
    printed = world.run("queue", "list")
    assert printed.index(first.id) < printed.index(late.id)
    assert "2 wait, 0 run" in printed and "budget_exceeded" in printed
    assert "FAST $0.010000" in printed
    assert "\x1b" not in printed and "sealed" not in printed
    found = world.json("queue", "list", "--count", "1")
    assert [it["queue_id"] for it in found["requests"]] == [first.id]
    assert found["queue"]["waiting"] == 2
    assert found["queue"]["expected_usd"] == "0.008"
    assert "sealed_by" not in found["requests"][0]


def test_the_dead_letter_list_has_its_reasons(world: World) -> None:
    item = add(world)
    bury(world, item, "http_500")
    assert "http_500" in world.run("queue", "list", "--state", "dead")
    assert "No request has the state waiting." in world.run("queue", "list")
    shown = world.json("queue", "show", item.id)["request"]
    assert (shown["state"], shown["reason"]) == ("dead", "http_500")


def test_one_request_is_shown_in_full(world: World) -> None:
    item = add(world, key_name=HOSTILE)
    printed = world.run("queue", "show", item.id)
    assert item.id in printed and "waiting" in printed and "0 of 3" in printed
    assert "\x1b" not in printed
    assert "no request with this id" in world.run("queue", "show", "unknown", code=2)


def test_cancel_and_retry_go_through_the_proxy(world: World, admin: dict[str, str]) -> None:
    item = add(world)
    refused = world.run("queue", "retry", item.id, code=2, environ=admin)
    assert "Only a dead request" in refused
    bury(world, item, "http_500")
    assert "waiting now" in world.run("queue", "retry", item.id, environ=admin)
    changed = world.json("queue", "cancel", item.id, environ=admin)
    assert changed["request"]["state"] == State.CANCELLED
    for bad in ("unknown", "../keys"):
        world.run("queue", "cancel", bad, code=2, environ=admin)


def test_a_caller_may_not_deal_with_others_requests(world: World, admin: dict[str, str]) -> None:
    theirs, mine = add(world), add(world, owner="key-of-somebody")
    caller = {**admin, "FAREBOX_KEY": "sk-caller"}
    assert "no request of this key" in world.run(
        "queue", "cancel", theirs.id, code=2, environ=caller
    )
    assert "cancelled" in world.run("queue", "cancel", mine.id, environ=caller)
    world.run("queue", "drain", code=1, environ=caller)


def test_draining_an_empty_queue_is_good(world: World, admin: dict[str, str]) -> None:
    assert "0 ended, 0 left" in world.run("queue", "drain", environ=admin)


def test_draining_falls_short_where_there_is_no_budget(world: World, admin: dict[str, str]) -> None:
    add(world)
    found = world.json("queue", "drain", "--timeout", "1s", code=1, environ=admin)
    assert (found["drained"], found["after"]["waiting"]) == (False, 1)
    world.run("queue", "drain", "--timeout", "soon", code=2, environ=admin)


def test_draining_ends_when_nothing_changes_any_more() -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    left = iter([3, 3, 2, 1])
    seen: list[int] = []

    def read() -> dict[str, Any]:
        seen.append(next(left, 1))
        return {"waiting": seen[-1], "running": 0}

    last = _watch(read, {"waiting": 4, "running": 1}, 600, lambda: clock[0], sleep)
    assert last["waiting"] == 1
    assert 6 < clock[0] < 12


def test_the_status_says_what_waits(world: World) -> None:
    world.report()
    assert "Queue" not in world.run("status")
    add(world)
    bury(world, add(world), "http_500")
    printed = world.run("status")
    assert "1 wait, 0 run" in printed and "1 dead" in printed
    assert world.json("status")["queue"]["by_category"]["FAST"]["requests"] == 1


def test_check_finds_a_key_that_is_none_and_one_that_is_missing(world: World) -> None:
    routing = world.folder / "hooks" / "routing.yaml"
    bad = {"FAREBOX_QUEUE_KEY": "too-short"}
    assert "The configuration is valid." in world.run("check", environ=bad)
    text = routing.read_text()
    routing.write_text(text.replace("  FAST:\n", "  FAST:\n    queue: {}\n", 1))
    printed = world.run("check", code=1, environ=bad)
    assert "FAREBOX_QUEUE_KEY" in printed and "too-short" not in printed
    assert "several machines" in world.run("check", environ={"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert "FAREBOX_QUEUE_KEY" not in world.run("check")
