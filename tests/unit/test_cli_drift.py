"""`farebox drift` against Redis and the routes of drift, served over HTTP."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from budgets import embedded
from budgets.connection import connect
from budgets.drift.findings import Finding
from budgets.drift.store import Changes, DriftStore
from budgets.redis_store import RedisLedger
from hooks import drift_routes
from hooks.access import Role
from hooks.guard import Person, presented_key
from tests.unit.test_cli_support import World, new_world, served

FOUND = Finding(
    signal="escalation_rate",
    task_type="rag_answer",
    model=None,
    key_name=None,
    since_ms=1_795_255_200_000,
    seen_ms=1_795_258_800_000,
    statistic=18.25,
    limit=16.2,
    expected=0.08,
    observed=0.4,
    count=90,
    text="40 % of the last 90 requests of rag_answer failed their gate; 8.0 % is usual.",
)
OTHER = Finding(
    "frontier_by_name", None, None, "team/a b", 1, 2, 17.0, 16.2, 0.5, 1.0, 30, "Always Opus."
)
KEYS = {"sk-viewer": Role.VIEWER, "sk-approver": Role.APPROVER}


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


@pytest.fixture
def proxy(world: World) -> Iterator[dict[str, str]]:
    """The environment of somebody before a server with the routes of drift."""
    client = connect(embedded.ensure(world.state).url)
    site = drift_routes.Site(RedisLedger(client, world.ledger_name), client, world.ledger_name)

    async def doorkeeper(request: Request) -> Person:
        key = presented_key(request.headers) or ""
        return Person("carol", KEYS.get(key, Role.CALLER), key_id="k")

    app = FastAPI()
    app.include_router(drift_routes.build_router(doorkeeper, lambda: site))
    with served(app) as address, capture_logs():
        yield {"FAREBOX_PROXY": address, "FAREBOX_KEY": "sk-approver"}


def plant(world: World, *found: Finding) -> None:
    """Have the watch find these, and tell of them."""

    async def run() -> None:
        async with world.opened() as (_, client):
            told = {it.id: json.dumps({"id": it.id, **asdict(it)}) for it in found}
            changes = Changes(findings={it.id: (it, told[it.id]) for it in found})
            assert await DriftStore(client, world.ledger_name).keep("", "1-0", changes)

    asyncio.run(run())


def trail(world: World) -> list[tuple[str, str, str]]:
    async def run() -> list[tuple[str, str, str]]:
        async with world.opened() as (ledger, _):
            return [(it.actor, it.action, it.detail) async for it in ledger.trail.lines()]

    return asyncio.run(run())


def test_findings_are_listed_and_the_exit_code_says_that_there_are_some(world: World) -> None:
    assert "Nothing is out of control" in world.run("drift", "list")
    plant(world, FOUND, OTHER)
    shown = world.run("drift", "list", code=1)
    assert "escalation_rate/rag_answer" in shown and "40.0 %" in shown
    (one, other) = world.json("drift", "list", code=1)["findings"]
    assert (one["id"], one["observed"], one["count"]) == ("escalation_rate/rag_answer", 0.4, 90)
    assert other["id"] == "frontier_by_name/-/-/team%2Fa%20b"
    assert world.json("drift", "list", "--all", code=1)["scores"] == []


def test_a_finding_is_told_and_shown_with_its_runbook(world: World) -> None:
    plant(world, FOUND)
    assert "90 requests of rag_answer" in world.run("alerts", "tail").replace("\n", " ")
    shown = world.run("drift", "show", FOUND.id)
    assert "runbooks.md#drift-escalation_rate" in shown.replace("\n", "")
    assert world.json("drift", "show", FOUND.id)["finding"]["limit"] == 16.2
    assert "There is no finding" in world.run("drift", "show", "untagged_share", code=2)


def test_accepting_bears_a_name_and_stands_in_the_trail(
    world: World, proxy: dict[str, str]
) -> None:
    plant(world, FOUND, OTHER)
    arguments = ("drift", "accept", FOUND.id, "--reason", "new prompts")
    shown = world.run(*arguments, code=1, environ=proxy | {"FAREBOX_KEY": "sk-viewer"})
    assert "approver" in shown
    answer = world.json(*arguments, environ=proxy)
    assert answer["accepted"]["id"] == FOUND.id
    assert [it["id"] for it in world.json("drift", "list", code=1)["findings"]] == [OTHER.id]
    ((actor, action, detail),) = trail(world)
    assert (actor, action) == ("carol", "drift_accepted")
    assert json.loads(detail)["reason"] == "new prompts"
    assert "There is no finding" in world.run(*arguments, code=2, environ=proxy)
    world.run("drift", "accept", OTHER.id, "--reason", "on purpose", environ=proxy)
    world.run("drift", "list")
