"""What a scrape reads from the ledger: bounded, right, and absent where it is not known."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from budgets.config import BudgetsFile
from budgets.connection import AsyncClient, connect
from budgets.inflight import InFlight
from budgets.outage import Outage
from budgets.redis_store import RedisLedger
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from hooks.metrics_store import EACH_SHOWN_MAX, Families, StoreReader
from tests.ledger.worlds import CENT, RedisWorld, held, settle, today

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def budgets_of(**rules: Mapping[str, Any]) -> BudgetsFile:
    return BudgetsFile.model_validate({"version": 1, "time_zone": "UTC", "budgets": rules})


def runtime_of(client: AsyncClient, ledger: RedisLedger) -> Runtime:
    outage = Outage(ledger, None, None)
    return Runtime(ledger, InFlight(ledger, 60_000), Sweeper(ledger), outage, client=client)


class Scraped:
    """A reader of one ledger, with a clock that a test moves."""

    def __init__(self, client: AsyncClient, world: RedisWorld, budgets: BudgetsFile) -> None:
        self.runtime = runtime_of(client, world.ledger)
        self.now_s = 0.0
        self.reader = StoreReader(
            lambda: self.runtime,
            lambda: budgets,
            world.prefix.split("{")[1].rstrip("}:"),
            lambda: ("FAST",),
            lambda: self.now_s,
        )

    async def samples(self) -> Samples:
        """Scrape, a while later."""
        self.now_s += 5
        return samples_of(await self.reader.families())


def samples_of(families: Families) -> Samples:
    return {
        (it.name, frozenset(it.labels.items())): it.value
        for family in families.collect()
        for it in family.samples
    }


def of(budget: str, rule: str = "", period: str = "day", **more: str) -> frozenset[tuple[str, str]]:
    return frozenset({"budget": budget, "rule": rule or budget, "period": period, **more}.items())


async def test_budgets_are_shown_as_they_stand(
    redis_client: AsyncClient, redis_world: RedisWorld
) -> None:
    budgets = budgets_of(team={"limit_usd": 1, "period": "day"})
    await redis_world.ledger.publish(budgets.published())
    scraped = Scraped(redis_client, redis_world, budgets)
    await _spend(redis_world, "team", 85 * CENT)
    await _hold(redis_world, "team", 10 * CENT)
    found = await scraped.samples()
    assert found["farebox_budget_limit_usd", of("team")] == 1
    assert found["farebox_budget_spent_usd", of("team")] == 0.85
    assert found["farebox_budget_held_usd", of("team")] == 0.1
    assert found["farebox_budget_remaining_usd", of("team")] == 0.05
    assert found["farebox_budget_holds", of("team")] == 1
    assert found["farebox_budget_threshold_passed", of("team", level="warning")] == 1
    assert found["farebox_budget_threshold_passed", of("team", level="critical")] == 0
    resets = found["farebox_budget_resets_timestamp_seconds", of("team")]
    assert resets % 86_400 == 0 and resets * 1000 > await redis_world.ledger.now_ms()
    assert found["farebox_queue_depth", frozenset({("category", "FAST")})] == 0
    assert found["farebox_ledger_read", frozenset()] == 1


async def test_a_rule_without_a_limit_in_force_is_absent_and_hides_no_other(
    redis_client: AsyncClient, redis_world: RedisWorld
) -> None:
    await redis_world.ledger.publish(budgets_of(team={"limit_usd": 1}).published())
    edited = budgets_of(team={"limit_usd": 1}, later={"limit_usd": 2})
    found = await Scraped(redis_client, redis_world, edited).samples()
    assert ("farebox_budget_limit_usd", of("team", period="month")) in found
    assert ("farebox_budget_limit_usd", of("later", period="month")) not in found


async def test_of_many_counters_the_fullest_are_shown_and_their_number(
    redis_client: AsyncClient, redis_world: RedisWorld
) -> None:
    budgets = budgets_of(person={"limit_usd": 1, "period": "day", "each": "user"})
    await redis_world.ledger.publish(budgets.published())
    many = EACH_SHOWN_MAX + 10
    for number in range(many):
        await _hold(redis_world, "person", CENT + number, f"person:u{number}")
    scraped = Scraped(redis_client, redis_world, budgets)
    found = await scraped.samples()
    shown = {dict(labels)["budget"] for name, labels in found if name == "farebox_budget_held_usd"}
    assert shown == {f"person:u{number}" for number in range(10, many)}
    assert found["farebox_budget_counters", frozenset({("rule", "person")})] == many


async def test_without_the_store_everything_is_absent_but_that(redis_world: RedisWorld) -> None:
    nowhere = connect("redis://127.0.0.1:1/0")
    budgets = budgets_of(team={"limit_usd": 1})
    away = RedisWorld(RedisLedger(nowhere, "away"), "away")
    scraped = Scraped(nowhere, away, budgets)
    assert await scraped.samples() == {("farebox_ledger_read", frozenset()): 0}
    scraped.runtime.available = False
    assert await scraped.samples() == {("farebox_ledger_read", frozenset()): 0}
    await nowhere.aclose()


@pytest.mark.skipif(
    "cluster" in os.environ.get("FAREBOX_TEST_REDIS_URL", ""),
    reason="the client of a cluster has no MONITOR",
)
async def test_a_scrape_asks_redis_a_dozen_things_and_several_at_once_ask_once(
    redis_client: AsyncClient, redis_world: RedisWorld
) -> None:
    rules = {f"team-{number}": {"limit_usd": 1} for number in range(150)}
    budgets = budgets_of(**rules)
    await redis_world.ledger.publish(budgets.published())
    scraped = Scraped(redis_client, redis_world, budgets)
    await scraped.samples()
    async with redis_client.monitor() as watch:
        found = await scraped.samples()
        again = samples_of(await scraped.reader.families())
        await redis_client.echo("the end")
        asked = await _asked(watch)
    assert len([name for name, _ in found if name == "farebox_budget_spent_usd"]) == 150
    assert again == found
    assert 5 < len(asked) <= 12, asked


async def _asked(watch: Any) -> list[str]:
    """Return the commands that clients sent, up to the echo; those of scripts do not count."""
    asked: list[str] = []
    async for seen in watch.listen():
        if seen["client_type"] != "lua":
            asked.append(seen["command"][:60])
        if seen["command"].startswith("ECHO"):
            break
    return asked[:-1]


async def _hold(world: RedisWorld, rule: str, amount: int, budget: str = "") -> str:
    name = budget or rule
    period = await today(world.ledger)
    answer = await held(
        world.ledger, amount, uuid.uuid4().hex, budgets={name: amount}, period=period
    )
    return answer.hold_id


async def _spend(world: RedisWorld, rule: str, amount: int) -> None:
    await settle(world.ledger, await _hold(world, rule, amount), amount, **{rule: amount})
