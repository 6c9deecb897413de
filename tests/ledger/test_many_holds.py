"""A counter with very many open holds is proved a few of them at a time, while others go on."""

from __future__ import annotations

import asyncio

import pytest

from budgets.connection import AsyncClient
from budgets.redis_audit import HOLDS_PER_CALL
from tests.ledger.worlds import RedisWorld, held, policy, settle

COUNT = HOLDS_PER_CALL + 20


@pytest.fixture
async def world(redis_world: RedisWorld) -> RedisWorld:
    """A ledger with more open holds than one call looks at."""
    await redis_world.ledger.publish(policy(1_000_000))
    await asyncio.gather(*(held(redis_world.ledger, 10, f"h{n}") for n in range(COUNT)))
    return redis_world


async def test_it_agrees_while_others_hold_and_settle(world: RedisWorld) -> None:
    ended = asyncio.Event()

    async def traffic() -> None:
        number = 0
        while not ended.is_set():
            await held(world.ledger, 7, f"more{number}")
            await settle(world.ledger, f"h{number}", 3)
            number = (number + 1) % COUNT

    others = asyncio.create_task(traffic())
    try:
        for _ in range(3):
            assert await world.ledger.verify() == ()
    finally:
        ended.set()
        await others


@pytest.mark.parametrize(
    ("command", "counter", "stored", "recomputed"),
    [
        ("HINCRBY {p}budget:P1:team held 5", "held", 10 * COUNT + 5, 10 * COUNT),
        ("HINCRBY {p}budget:P1:team holds -1", "holds", COUNT - 1, COUNT),
        ("ZREM {p}ends:P1:team h3", "expected_ends", COUNT - 1, COUNT),
        ("ZREM {p}leases h3", "leases", COUNT - 1, COUNT),
        ("HSET {p}hold:h3 state settled", "held", 10 * COUNT, 10 * (COUNT - 1)),
    ],
)
async def test_what_is_wrong_is_found(
    world: RedisWorld,
    redis_client: AsyncClient,
    command: str,
    counter: str,
    stored: int,
    recomputed: int,
) -> None:
    await redis_client.execute_command(*command.format(p=world.prefix).split())
    found = {it.counter: it for it in await world.ledger.verify()}
    assert (found[counter].stored_nano_usd, found[counter].recomputed_nano_usd) == (
        stored,
        recomputed,
    )


async def test_a_hold_that_is_no_longer_open_and_still_expected_is_found(
    world: RedisWorld, redis_client: AsyncClient
) -> None:
    await settle(world.ledger, "h3", 10)
    await redis_client.zadd(f"{world.prefix}ends:P1:team", {"h3": 1})
    (found,) = await world.ledger.verify()
    assert found.counter == "expected_ends"
