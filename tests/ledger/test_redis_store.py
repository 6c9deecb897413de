"""What only a real Redis can do to a ledger: forget scripts or data, fail, and be shared."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid

import pytest
from redis import asyncio as redis_asyncio
from redis import exceptions as errors
from redis.asyncio.connection import UnixDomainSocketConnection

from budgets.connection import AsyncClient
from budgets.errors import LedgerUnavailable, PolicyNotPublished
from budgets.redis_scripts import redis_errors
from budgets.redis_store import RedisLedger
from budgets.settlements import SettleStatus
from tests.ledger.worlds import CENT, RedisWorld, all_entries, held, hold, policy, settle, state

WORKER = """
import asyncio, sys
from budgets.connection import connect
from budgets.holds import Held
from budgets.redis_store import RedisLedger
from tests.ledger.worlds import hold

async def main(url, name):
    client = connect(url)
    ledger = RedisLedger(client, name)
    await ledger.now_ms()
    answers = await asyncio.gather(*(hold(ledger, 11_000_000) for _ in range(30)))
    print(sum(isinstance(answer, Held) for answer in answers))
    await client.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_three_processes_admit_exactly_what_fits(
    redis_url: str, redis_client: AsyncClient
) -> None:
    name = uuid.uuid4().hex
    ledger = RedisLedger(redis_client, name)
    await ledger.publish(policy(22 * CENT))
    command = [sys.executable, "-c", WORKER, redis_url, name]
    workers = [
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)
    ]
    outputs = [(await worker.communicate())[0] for worker in workers]
    assert sum(int(output) for output in outputs) == 20
    assert (await state(ledger)).held_nano_usd == 22 * CENT


async def test_scripts_that_redis_forgot_are_sent_again(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    await redis_world.ledger.publish(policy(100))
    await held(redis_world.ledger, 10, "h")
    await redis_client.script_flush()
    assert (await settle(redis_world.ledger, "h", 10)).status is SettleStatus.SETTLED
    await redis_client.script_flush()
    assert await redis_world.ledger.verify() == ()


async def test_a_policy_that_redis_lost_is_published_again(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    await redis_world.ledger.publish(policy(100))
    await held(redis_world.ledger, 10, "h")
    await forget(redis_client, redis_world.prefix)
    assert (await state(redis_world.ledger)).held_nano_usd == 0
    await forget(redis_client, redis_world.prefix)
    await held(redis_world.ledger, 10, "h")
    with pytest.raises(PolicyNotPublished):
        await hold(redis_world.ledger, 1, budgets={"stranger": 1})


async def forget(client: AsyncClient, prefix: str) -> None:
    """Take everything of one ledger away, and nothing else: the Redis may be somebody's."""
    async for key in client.scan_iter(f"{prefix}*"):
        await client.delete(key)


async def test_a_newer_storage_format_is_left_alone(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    await redis_client.hset(f"{redis_world.prefix}policy", "format", "2")
    with pytest.raises(LedgerUnavailable, match="FORMAT"):
        await redis_world.ledger.publish(policy(100))


async def test_live_money_has_no_ttl_and_what_is_ended_has_one(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    await redis_world.ledger.publish(policy(100))
    await held(redis_world.ledger, 10, "open")
    await held(redis_world.ledger, 10, "ended")
    await settle(redis_world.ledger, "ended", 10)
    mortal = set()
    async for key in redis_client.scan_iter(f"{redis_world.prefix}*"):
        if await redis_client.ttl(key) != -1:
            mortal.add(key.removeprefix(redis_world.prefix))
    assert mortal == {"hold:ended", "decision:decision-open", "decision:decision-ended"}


async def test_long_streams_are_read_to_their_end(redis_world: RedisWorld) -> None:
    await redis_world.ledger.publish(policy(10**6))
    for start in range(0, 1100, 50):
        ids = [f"h{number}" for number in range(start, start + 50)]
        await asyncio.gather(*(held(redis_world.ledger, 1, hold_id) for hold_id in ids))
        await asyncio.gather(*(settle(redis_world.ledger, hold_id, 1) for hold_id in ids))
    entries = await all_entries(redis_world.ledger)
    assert len({entry.hold_id for entry in entries}) == 1100
    backwards = [entry async for entry in redis_world.ledger.entries(newest_first=True)]
    assert backwards == entries[::-1]
    assert await redis_world.ledger.verify() == ()


async def test_many_leases_end_in_one_call(redis_world: RedisWorld) -> None:
    await redis_world.ledger.publish(policy(10**6))
    for start in range(0, 450, 90):
        ids = [f"h{number}" for number in range(start, start + 90)]
        await asyncio.gather(*(held(redis_world.ledger, 1, hold_id) for hold_id in ids))
    redis_world.advance(10**6)
    assert len(await redis_world.ledger.expire(430)) == 430
    assert len(await redis_world.ledger.expire(430)) == 20


async def test_a_redis_that_is_not_there_is_unavailable() -> None:
    pool = redis_asyncio.ConnectionPool(
        connection_class=UnixDomainSocketConnection,
        path="/nowhere/redis.sock",
        password="a-secret",
        decode_responses=True,
    )
    async with redis_asyncio.Redis(connection_pool=pool) as client:
        ledger = RedisLedger(client, "x")
        with pytest.raises(LedgerUnavailable) as caught:
            await ledger.publish(policy(1))
        with pytest.raises(LedgerUnavailable):
            await ledger.counters("2026-11")
        with pytest.raises(LedgerUnavailable):
            await all_entries(ledger)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.TimeoutError("secret"), "Redis did not answer in time"),
        (errors.BusyLoadingError("secret"), "Redis is loading its data"),
        (errors.ReadOnlyError("secret"), "this Redis is a read-only replica"),
        (errors.OutOfMemoryError("secret"), "Redis is out of memory"),
        (errors.ClusterDownError("secret"), "the Redis cluster is down"),
        (errors.AuthenticationError("secret"), "Redis refused the credentials"),
        (errors.ResponseError("MISCONF secret"), "Redis answered with the error MISCONF"),
        (
            errors.ResponseError("Error running script: @user_script:9: -OOM secret"),
            "Redis answered with the error OOM",
        ),
        (errors.ResponseError("user_script:1: secret"), "Redis answered with an error"),
        (ConnectionResetError("secret"), "Redis cannot be reached"),
    ],
)
def test_errors_of_redis_have_a_short_reason_without_their_text(
    error: Exception, reason: str
) -> None:
    with pytest.raises(LedgerUnavailable) as caught, redis_errors():
        raise error
    assert str(caught.value).startswith(reason)
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(
    "FAREBOX_TEST_REDIS_URL" in os.environ, reason="changes the settings of the server"
)
async def test_a_redis_out_of_memory_holds_nothing_in_part(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    await redis_world.ledger.publish(policy(100))
    await held(redis_world.ledger, 10, "h")
    await redis_client.config_set("maxmemory", "1")
    try:
        with pytest.raises(LedgerUnavailable, match=r"OOM|out of memory"):
            await hold(redis_world.ledger, 10)
        with pytest.raises(LedgerUnavailable, match=r"OOM|out of memory"):
            await settle(redis_world.ledger, "h", 10)
    finally:
        await redis_client.config_set("maxmemory", "0")
    assert (await state(redis_world.ledger)).holds == 1
    assert await redis_world.ledger.verify() == ()
    assert (await settle(redis_world.ledger, "h", 10)).status is SettleStatus.SETTLED


@pytest.mark.parametrize("name", ["", "a{b", "}"])
def test_a_ledgers_name_cannot_break_its_hash_tag(redis_client: AsyncClient, name: str) -> None:
    with pytest.raises(ValueError, match="braces"):
        RedisLedger(redis_client, name)
