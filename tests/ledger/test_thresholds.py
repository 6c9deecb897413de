"""Promise 8 and publishing: thresholds fire once for a budget, period and limit epoch."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import pytest

from budgets.published import Level, PublishedPolicy, PublishedRule
from tests.ledger.worlds import (
    CENT,
    DAY_MS,
    LEASE_MS,
    USD,
    World,
    all_events,
    held,
    hold,
    policy,
    refused,
    settle,
    state,
    today,
)


async def spend(world: World, amount: int, hold_id: str) -> list[Level]:
    """Spend an amount and return the levels that this claimed."""
    await held(world.ledger, amount, hold_id)
    return [event.level for event in (await settle(world.ledger, hold_id, amount)).events]


async def test_each_threshold_fires_once_when_spent_reaches_it(world: World) -> None:
    await world.ledger.publish(policy(USD))
    assert await spend(world, 50 * CENT - 1, "a") == []
    assert await spend(world, 1, "b") == [Level.INFORMATIONAL]
    assert await spend(world, 1, "c") == []
    assert await spend(world, 30 * CENT, "d") == [Level.WARNING]
    assert await spend(world, 15 * CENT, "e") == [Level.CRITICAL]
    assert await spend(world, 5 * CENT - 1, "f") == [Level.EMERGENCY]
    assert (await state(world.ledger)).claimed == tuple(Level)


async def test_thresholds_crossed_together_fire_in_rising_order(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await held(world.ledger, USD, "h")
    answer = await settle(world.ledger, "h", USD)
    assert [event.level for event in answer.events] == list(Level)
    assert [event.percent for event in answer.events] == [50, 80, 95, 100]
    lines = await all_events(world.ledger, "threshold")
    assert [json.loads(line.body) for line in lines] == [asdict(it) for it in answer.events]
    last = answer.events[-1]
    assert (last.budget, last.rule, last.period_id, last.limit_epoch) == ("team", "team", "P1", 1)
    assert (last.limit_nano_usd, last.spent_nano_usd) == (USD, USD)


async def test_holds_alone_claim_nothing(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await held(world.ledger, USD, "h")
    assert (await state(world.ledger)).claimed == ()
    assert (await refused(world.ledger, 1)).events == ()


async def test_thresholds_fire_once_under_concurrency(world: World) -> None:
    await world.ledger.publish(policy(USD))
    for number in range(25):
        await held(world.ledger, 4 * CENT, f"h{number}")
    answers = await asyncio.gather(
        *(settle(world.ledger, f"h{number}", 4 * CENT) for number in range(25))
    )
    # Answers come back in any order; what was spent at each claim tells the order of the claims.
    events = sorted((it for answer in answers for it in answer.events), key=lambda it: it.percent)
    assert [event.level for event in events] == list(Level)
    assert [event.spent_nano_usd // CENT for event in events] == [52, 80, 96, 100]
    refusals = await asyncio.gather(*(hold(world.ledger, 1) for _ in range(10)))
    assert [event for answer in refusals for event in answer.events] == []
    assert len(await all_events(world.ledger, "threshold")) == 4


async def test_a_raised_limit_arms_the_thresholds_again(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await spend(world, 60 * CENT, "a")
    await world.ledger.publish(policy(USD + 1))
    found = await state(world.ledger)
    assert (found.limit_epoch, found.claimed) == (2, ())
    assert await spend(world, 1, "b") == [Level.INFORMATIONAL]
    assert (await state(world.ledger)).claimed == (Level.INFORMATIONAL,)


@pytest.mark.parametrize("limit", [USD, USD - 1])
async def test_an_equal_or_lower_limit_arms_nothing(world: World, limit: int) -> None:
    await world.ledger.publish(policy(USD))
    await spend(world, 60 * CENT, "a")
    await world.ledger.publish(policy(limit))
    found = await state(world.ledger)
    assert (found.limit_epoch, found.limit_nano_usd) == (1, limit)
    assert await spend(world, 1, "b") == []


async def test_every_period_has_its_own_claims(world: World) -> None:
    await world.ledger.publish(policy(10))
    for number in range(2):
        await held(world.ledger, 10, f"h{number}", period=await today(world.ledger))
        assert len((await settle(world.ledger, f"h{number}", 10)).events) == 4
        world.advance(DAY_MS)


async def test_an_expired_lease_claims_what_it_reaches(world: World) -> None:
    await world.ledger.publish(policy(10))
    await held(world.ledger, 8, "h")
    world.advance(LEASE_MS + 1)
    await world.ledger.expire(10)
    levels = [json.loads(it.body)["level"] for it in await all_events(world.ledger, "threshold")]
    assert levels == ["informational", "warning"]


async def test_every_budget_that_refuses_claims_its_emergency(world: World) -> None:
    await world.ledger.publish(policy(a=10, b=20, c=100))
    answer = await refused(world.ledger, 30, budgets={"a": 30, "b": 30, "c": 30})
    assert [(it.budget, it.level) for it in answer.events] == [
        ("a", Level.EMERGENCY),
        ("b", Level.EMERGENCY),
    ]
    assert [it.claimed for it in answer.states] == [(Level.EMERGENCY,), (Level.EMERGENCY,), ()]


async def test_a_rule_without_thresholds_claims_nothing(world: World) -> None:
    await world.ledger.publish(PublishedPolicy("bare", (PublishedRule("team", 10, ()),)))
    assert (await refused(world.ledger, 11)).events == ()
    assert await spend(world, 10, "h") == []


async def test_publishing_what_is_current_changes_nothing(world: World) -> None:
    first = policy(USD, digest="one")
    assert await world.ledger.publish(first) == 1
    assert await world.ledger.publish(first) == 1
    assert await world.ledger.publish(policy(2 * USD, digest="two")) == 2
    assert (await state(world.ledger)).limit_epoch == 2
    assert await world.ledger.publish(first) == 3
    found = await state(world.ledger)
    assert (found.limit_nano_usd, found.limit_epoch) == (USD, 2)


async def test_a_new_limit_rules_the_next_hold(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await held(world.ledger, 10, "h")
    await world.ledger.publish(policy(5))
    assert (await refused(world.ledger, 1)).code == "budget_busy"
    await settle(world.ledger, "h", 10)
    assert (await refused(world.ledger, 1)).code == "budget_exceeded"


async def test_a_rule_that_left_the_policy_still_rules_those_who_have_not_heard(
    world: World,
) -> None:
    await world.ledger.publish(policy(old=10))
    await world.ledger.publish(policy(new=10))
    await held(world.ledger, 10, "h", budgets={"old": 10})
    assert (await refused(world.ledger, 1, budgets={"old": 1})).code == "budget_busy"
    assert len((await settle(world.ledger, "h", 10)).events) == 4
