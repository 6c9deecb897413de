"""Settlements that a store took and lost are charged once more by the process that made them."""

from __future__ import annotations

from budgets.connection import AsyncClient
from budgets.holds import BudgetHold
from budgets.recent import KEPT_S, SETTLEMENTS_MAX, Recent
from budgets.settlements import Recovery, Settlement
from tests.ledger.worlds import RedisWorld, World, all_entries, current_period, held, policy, state


async def settled(world: World, recent: Recent, hold_id: str, cost: int) -> None:
    """Hold and settle, and remember it."""
    made = await held(world.ledger, 10, hold_id)
    period = await current_period(world.ledger)
    budgets = (BudgetHold("team", "team", period, 10),)
    recovery = Recovery(10, budgets, made.time_ms, f"d-{hold_id}", "2026-11")
    settlement = Settlement(hold_id, cost, "{}", recovery=recovery)
    await world.ledger.settle(settlement)
    recent.remember(settlement)


async def test_what_a_failover_dropped_is_charged_again_and_the_rest_stays(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    ledger, recent = redis_world.ledger, Recent(redis_world.ledger)
    await ledger.publish(policy(100))
    for number in range(3):
        await settled(redis_world, recent, f"lost{number}", 7)
    # A replica that takes over without any of it.
    async for key in redis_client.scan_iter(f"{redis_world.prefix}*"):
        await redis_client.delete(key)
    await ledger.publish(policy(100))
    await settled(redis_world, recent, "kept", 5)
    assert await recent.repeat() == 3
    assert (await state(ledger)).spent_nano_usd == 3 * 7 + 5
    assert [entry.kind for entry in await all_entries(ledger)] == ["settled"] + ["recovered"] * 3
    assert await recent.repeat() == 0
    assert await ledger.verify() == ()


async def test_a_repetition_after_an_outage_without_loss_changes_nothing(world: World) -> None:
    recent = Recent(world.ledger)
    await world.ledger.publish(policy(100))
    await settled(world, recent, "h", 7)
    before = await all_entries(world.ledger)
    assert await recent.repeat() == 0
    assert await all_entries(world.ledger) == before
    assert (await state(world.ledger)).spent_nano_usd == 7


def test_settlements_are_forgotten_after_their_time_and_beyond_their_number(world: World) -> None:
    now = [0.0]
    recent = Recent(world.ledger, clock=lambda: now[0])
    recent.remember(Settlement("first", 1, "{}"))
    now[0] = KEPT_S
    recent.remember(Settlement("second", 1, "{}"))
    assert len(recent) == 1
    for number in range(SETTLEMENTS_MAX + 5):
        recent.remember(Settlement(f"h{number}", 1, "{}"))
    assert len(recent) == SETTLEMENTS_MAX
