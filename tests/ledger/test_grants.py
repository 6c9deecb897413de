"""Grants and transfers: what a budget bears is derived, expires by itself, and is provable."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from budgets.errors import ClockSkew
from budgets.grants.types import (
    GRANTS_PER_COUNTER_MAX,
    Granted,
    GrantRefused,
    NewGrant,
    grant_to,
    transfer_between,
)
from budgets.ledger import Ledger
from budgets.period import Period
from budgets.published import Level, PublishedPolicy, PublishedRule
from tests.ledger.worlds import (
    CENT,
    DAY_MS,
    THRESHOLDS,
    USD,
    MemoryWorld,
    RedisWorld,
    World,
    all_events,
    current_period,
    held,
    hold,
    policy,
    refused,
    settle,
    state,
)

HOUR_MS = 3_600_000


async def grant(ledger: Ledger, grant_id: str, amount: int, **more: Any) -> Granted:
    period = more.pop("period", None) or await current_period(ledger)
    budget = more.pop("budget", "team")
    rule = budget.partition(":")[0]
    said = {"actor": "ann", "reason": "the release", **more}
    answer = await ledger.grant(grant_to(grant_id, budget, rule, period, amount, **said))
    assert isinstance(answer, Granted)
    return answer


async def transfer(
    ledger: Ledger, amount: int, grant_id: str = "t", **more: Any
) -> Granted | GrantRefused:
    period = more.pop("period", None) or await current_period(ledger)
    said = {"actor": "ann", "reason": "b needs it", **more}
    return await ledger.grant(
        transfer_between(grant_id, ("a", "a"), ("b", "b"), period, amount, **said)
    )


async def test_a_grant_raises_what_a_budget_bears_until_it_is_over(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await refused(world.ledger, 3 * USD)
    now = await world.ledger.now_ms()
    answer = await grant(world.ledger, "g", 2 * USD, until_ms=now + HOUR_MS)
    (after,) = answer.states
    assert (after.limit_nano_usd, after.granted_nano_usd) == (USD, 2 * USD)
    assert after.remaining_nano_usd == 3 * USD
    await held(world.ledger, 3 * USD, "h")
    await refused(world.ledger, 1)
    await settle(world.ledger, "h", 2 * USD)
    world.advance(HOUR_MS + 1)
    found = await state(world.ledger)
    assert (found.granted_nano_usd, found.remaining_nano_usd) == (0, -USD)
    assert await world.ledger.verify() == ()


async def test_grants_add_up_to_the_nanodollar(world: World) -> None:
    await world.ledger.publish(policy(0))
    for number in range(3):
        await grant(world.ledger, f"g{number}", 7 + number)
    await held(world.ledger, 24, "h")
    assert (await refused(world.ledger, 1)).state.remaining_nano_usd == 0


async def test_a_repeated_grant_changes_nothing(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await asyncio.gather(*(grant(world.ledger, "g", CENT) for _ in range(5)))
    assert (await state(world.ledger)).granted_nano_usd == CENT
    assert len(await world.ledger.grants("P1")) == 1
    assert len([line async for line in world.ledger.trail.lines()]) == 1


async def test_a_grant_arms_the_thresholds_again(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await held(world.ledger, 90 * CENT, "a")
    first = await settle(world.ledger, "a", 90 * CENT)
    assert [it.level for it in first.events] == [Level.INFORMATIONAL, Level.WARNING]
    (after,) = (await grant(world.ledger, "g", USD)).states
    assert (after.limit_epoch, after.claimed) == (2, ())
    await held(world.ledger, 15 * CENT, "b")
    (event,) = (await settle(world.ledger, "b", 15 * CENT)).events
    assert (event.level, event.limit_epoch) == (Level.INFORMATIONAL, 2)
    # Its percentage is that of the limit with the grant.
    assert (event.limit_nano_usd, event.spent_nano_usd) == (2 * USD, 105 * CENT)


async def test_a_grant_that_ends_arms_nothing(world: World) -> None:
    await world.ledger.publish(policy(USD))
    now = await world.ledger.now_ms()
    await grant(world.ledger, "g", USD, until_ms=now + HOUR_MS)
    world.advance(2 * HOUR_MS)
    assert (await state(world.ledger)).limit_epoch == 2


async def test_a_grant_counts_for_its_own_counter_and_period_only(world: World) -> None:
    await world.ledger.publish(policy(team=10, user=10))
    await grant(world.ledger, "g", 5, budget="user:ann")
    assert (await state(world.ledger, "user:ann")).granted_nano_usd == 5
    assert (await state(world.ledger, "user:bob")).granted_nano_usd == 0
    assert (await state(world.ledger, "user:ann", "P2")).granted_nano_usd == 0


async def test_a_grant_needs_a_period_and_a_time_of_now(world: World) -> None:
    await world.ledger.publish(policy(USD))
    now = await world.ledger.now_ms()
    past = Period("P0", now - 2 * DAY_MS, now - DAY_MS)
    with pytest.raises(ClockSkew):
        await grant(world.ledger, "g", 1, period=past)
    late = grant_to(
        "g", "team", "team", await current_period(world.ledger), 1, until_ms=now - 1, actor="a",
        reason="r",
    )  # fmt: skip
    assert await world.ledger.grant(late) == GrantRefused("over", "team")


@pytest.mark.parametrize(
    "change",
    [{"amount": 0}, {"amount": -5}, {"reason": "  "}, {"actor": ""}, {"until_ms": 1}],
    ids=str,
)
async def test_a_malformed_grant_is_refused(world: World, change: dict[str, Any]) -> None:
    period = await current_period(world.ledger)
    given = {"amount": 5, "actor": "ann", "reason": "r", **change}
    amount = given.pop("amount")
    with pytest.raises(ValueError, match=r"grant"):
        await world.ledger.grant(grant_to("g", "team", "team", period, amount, **given))


async def test_grants_of_a_counter_are_bounded(world: World) -> None:
    await world.ledger.publish(policy(USD))
    for number in range(GRANTS_PER_COUNTER_MAX):
        await grant(world.ledger, f"g{number}", 1)
    period = await current_period(world.ledger)
    more = grant_to("more", "team", "team", period, 1, actor="a", reason="r")
    assert await world.ledger.grant(more) == GrantRefused("too_many", "team")


# ── transfers ────────────────────────────────────────────────────────────────────────────────────


async def test_a_transfer_keeps_the_total(world: World) -> None:
    await world.ledger.publish(policy(a=10, b=20))
    answer = await transfer(world.ledger, 4)
    assert isinstance(answer, Granted)
    assert [it.remaining_nano_usd for it in answer.states] == [6, 24]
    assert [it.limit_epoch for it in answer.states] == [1, 2]
    await refused(world.ledger, 7, budgets={"a": 7})
    await held(world.ledger, 24, "h", budgets={"b": 24})


async def test_a_transfer_takes_only_what_is_neither_spent_nor_held(world: World) -> None:
    await world.ledger.publish(policy(a=10, b=0))
    await held(world.ledger, 3, "h", budgets={"a": 3})
    await held(world.ledger, 4, "s", budgets={"a": 4})
    await settle(world.ledger, "s", 4)
    assert await transfer(world.ledger, 4) == GrantRefused("insufficient", "a", 3)
    assert (await state(world.ledger, "b")).granted_nano_usd == 0
    assert isinstance(await transfer(world.ledger, 3), Granted)


async def test_transfers_at_once_never_take_more_than_there_is(world: World) -> None:
    await world.ledger.publish(policy(a=10, b=0))
    answers = await asyncio.gather(*(transfer(world.ledger, 3, f"t{i}") for i in range(9)))
    assert sum(isinstance(it, Granted) for it in answers) == 3
    assert (await state(world.ledger, "a")).remaining_nano_usd == 1
    assert (await state(world.ledger, "b")).remaining_nano_usd == 9


async def test_a_transfer_does_not_outlast_the_grant_that_it_is_made_of(world: World) -> None:
    await world.ledger.publish(policy(a=0, b=0))
    now = await world.ledger.now_ms()
    await grant(world.ledger, "g", 10, budget="a", until_ms=now + HOUR_MS)
    assert await transfer(world.ledger, 10) == GrantRefused("insufficient", "a", 0)
    assert isinstance(await transfer(world.ledger, 10, until_ms=now + HOUR_MS), Granted)


async def test_a_transfer_that_is_over_has_gone_back(world: World) -> None:
    await world.ledger.publish(policy(a=10, b=0))
    now = await world.ledger.now_ms()
    await transfer(world.ledger, 4, until_ms=now + HOUR_MS)
    world.advance(2 * HOUR_MS)
    assert (await state(world.ledger, "a")).remaining_nano_usd == 10
    assert (await state(world.ledger, "b")).remaining_nano_usd == 0


# ── the closing ──────────────────────────────────────────────────────────────────────────────────


def carrying(**limits: int) -> PublishedPolicy:
    rules = tuple(PublishedRule(it, n, THRESHOLDS, "balance") for it, n in limits.items())
    return PublishedPolicy("carrying", rules)


@pytest.mark.parametrize(
    ("spent", "granted", "carried"),
    [(70, 0, 30), (120, 20, 0), (150, 50, 0), (158, 50, -8)],
    ids=["unused", "used in part", "used up", "overdrawn"],
)
async def test_a_grant_is_neither_carried_nor_owed(
    world: World, spent: int, granted: int, carried: int
) -> None:
    """What is left of a limit of 100 with a grant of 50, by what was spent."""
    await world.ledger.publish(carrying(team=100))
    now = await world.ledger.now_ms()
    period = Period("M1", now - DAY_MS, now + DAY_MS)
    await grant(world.ledger, "g", 50, period=period)
    await held(world.ledger, min(spent, 150), "h", period=period)
    await settle(world.ledger, "h", spent)
    world.advance(DAY_MS + 1)
    following = Period("M2", period.end_ms, period.end_ms + DAY_MS)
    statement = await world.ledger.close_period(period, following)
    (row,) = statement.rows  # type: ignore[union-attr] # It has ended.
    assert (row.granted_nano_usd, row.carried_nano_usd) == (granted, carried)
    assert (await state(world.ledger, "team", "M2")).carry_nano_usd == carried
    assert await world.ledger.verify() == ()


async def test_a_transfer_to_the_end_of_the_period_counts_at_its_closing(world: World) -> None:
    await world.ledger.publish(carrying(a=100, b=100))
    now = await world.ledger.now_ms()
    period = Period("M1", now - DAY_MS, now + DAY_MS)
    await transfer(world.ledger, 30, period=period)
    await held(world.ledger, 60, "a", period=period, budgets={"a": 60})
    await held(world.ledger, 120, "b", period=period, budgets={"b": 120})
    await settle(world.ledger, "a", 60)
    world.advance(DAY_MS + 1)
    following = Period("M2", period.end_ms, period.end_ms + DAY_MS)
    await world.ledger.close_period(period, following)
    # A late settle amends it: 120 were held, 115 were spent.
    await settle(world.ledger, "b", 115)
    assert (await state(world.ledger, "a", "M2")).carry_nano_usd == 10
    assert (await state(world.ledger, "b", "M2")).carry_nano_usd == 15
    assert await world.ledger.verify() == ()


# ── proof ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_grant_leaves_a_record_an_event_and_an_audit_line(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await grant(world.ledger, "g", CENT, approver="bob")
    (kept,) = await world.ledger.grants("P1")
    assert (kept.id, kept.actor, kept.approver, kept.reason) == ("g-g", "ann", "bob", "the release")
    assert kept.parts[0].amount_nano_usd == CENT
    (event,) = await all_events(world.ledger, "granted")
    (line,) = [line async for line in world.ledger.trail.lines()]
    assert (line.actor, line.action) == ("ann", "grant")
    assert json.loads(line.detail) == json.loads(event.body)


async def test_a_grant_that_was_not_made_shows_and_is_mended(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await grant(world.ledger, "g", 5)
    match world:
        case MemoryWorld():
            world.ledger._counters["team", "P1"].grants.append(("g-x", USD, 1))  # type: ignore[attr-defined] # A forgery.
        case RedisWorld():
            key = f"{world.prefix}budget:P1:team"
            client = world.ledger._client
            forged = await client.hget(key, "grants") + f"g-x:{USD}:9999999999999;"  # type: ignore[misc] # Asynchronous.
            await client.hset(key, "grants", forged)  # type: ignore[misc] # Asynchronous.
    (found,) = await world.ledger.verify()
    assert (found.counter, found.stored_nano_usd) == ("granted", USD + 5)
    assert found.recomputed_nano_usd == 5
    assert await world.ledger.rebuild("ann", lease_ms=1000, pause_ms=1000) != ()
    assert await world.ledger.verify() == ()
    assert (await state(world.ledger)).granted_nano_usd == 5


async def test_a_grant_whose_time_was_changed_shows(redis_world: RedisWorld) -> None:
    await redis_world.ledger.publish(policy(USD))
    now = await redis_world.ledger.now_ms()
    await grant(redis_world.ledger, "g", 5, until_ms=now + HOUR_MS)
    key = f"{redis_world.prefix}budget:P1:team"
    await redis_world.ledger._client.hset(key, "grants", "g-g:5:9999999999999;")  # type: ignore[misc] # Asynchronous.
    (found,) = await redis_world.ledger.verify()
    assert (found.stored_nano_usd, found.recomputed_nano_usd) == (0, 5)


async def test_a_hold_without_grants_costs_no_command_more(redis_world: RedisWorld) -> None:
    await redis_world.ledger.publish(policy(USD))
    client = redis_world.ledger._client

    async def calls() -> int:
        stats = await client.info("commandstats")
        return sum(int(row["calls"]) for row in stats.values())

    async def cost(hold_id: str) -> int:
        before = await calls()
        await hold(redis_world.ledger, 1, hold_id=hold_id)
        return await calls() - before

    await cost("first")
    plain = await cost("second")
    new: NewGrant = grant_to(
        "g", "team", "team", await current_period(redis_world.ledger), 5, actor="a", reason="r"
    )
    await redis_world.ledger.grant(new)
    assert await cost("third") == plain
