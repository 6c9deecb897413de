"""Promise 9: the counters are what entries and open holds add up to, and a difference is found."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from budgets.records import Difference
from tests.ledger.worlds import LEASE_MS, RedisWorld, World, all_entries, held, hold, policy, settle


async def busy_ledger(world: World) -> None:
    """Make a ledger with a hold in every state."""
    await world.ledger.publish(policy(team=10_000, total=20_000))
    for number in range(6):
        await held(world.ledger, 100, f"h{number}", budgets={"team": 100, "total": 60})
    await settle(world.ledger, "h0", 70)
    await settle(world.ledger, "h1", 170, total=90)
    await world.ledger.void("h2", "{}", {})
    world.advance(LEASE_MS + 1)
    await world.ledger.expire(2)
    await settle(world.ledger, "h3", 10)
    await held(world.ledger, 5, "h6", budgets={"total": 5})


async def test_the_books_balance_with_holds_in_every_state(world: World) -> None:
    assert await world.ledger.verify() == ()
    await busy_ledger(world)
    assert await world.ledger.verify() == ()


async def test_a_changed_counter_is_found(redis_world: RedisWorld, redis_client: Redis) -> None:
    await busy_ledger(redis_world)
    prefix = redis_world.prefix
    await redis_client.hincrby(f"{prefix}budget:P1:team", "spent", 1)
    await redis_client.hincrby(f"{prefix}budget:P1:total", "held", -2)
    assert await redis_world.ledger.verify() == (
        Difference("spent", "team", "P1", 351, 350),
        Difference("held", "total", "P1", 63, 65),
    )


async def test_a_lost_entry_a_lost_counter_and_a_lost_lease_are_found(
    redis_world: RedisWorld, redis_client: Redis
) -> None:
    await busy_ledger(redis_world)
    prefix = redis_world.prefix
    first, *_ = await all_entries(redis_world.ledger)
    await redis_client.xdel(f"{prefix}entries", first.id)
    await redis_client.zrem(f"{prefix}leases", "h6")
    await redis_client.zadd(f"{prefix}leases", {"h0": 1})
    await redis_client.zadd(f"{prefix}ends:P1:total", {"h0": 1})
    await redis_client.delete(f"{prefix}budget:P1:team")
    found = {(it.counter, it.budget) for it in await redis_world.ledger.verify()}
    assert found == {
        ("spent", "team"),
        ("held", "team"),
        ("holds", "team"),
        ("unreconciled", "team"),
        ("spent", "total"),
        ("leases", "total"),
        ("expected_ends", "total"),
        ("leases", ""),
    }


async def test_traffic_while_verifying_is_no_difference(redis_world: RedisWorld) -> None:
    await redis_world.ledger.publish(policy(a=10**9, b=10**9))
    done = asyncio.Event()

    async def traffic(worker: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            hold_id = f"{worker}-{number}"
            name = f"a:{number % 70}"
            await hold(redis_world.ledger, 9, hold_id=hold_id, budgets={name: 9, "b": 9})
            await settle(redis_world.ledger, hold_id, number % 12)

    workers = [asyncio.create_task(traffic(worker)) for worker in range(4)]
    try:
        for _ in range(15):
            assert await redis_world.ledger.verify() == ()
    finally:
        done.set()
        await asyncio.gather(*workers)
