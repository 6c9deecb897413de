"""Decisions that nobody looks at any more are packed, and read as if they were not."""

from __future__ import annotations

import json

import pytest

from budgets.connection import AsyncClient
from budgets.holds import Held, HoldRequest
from budgets.packed import Dictionary, decisions, unpack
from budgets.packer import AGE_MS, PAGE_LINES, Packer
from budgets.records import RefusalRecord
from budgets.redis_store import RedisLedger
from budgets.settlements import Settlement
from tests.ledger.worlds import LEASE_MS, RedisWorld, current_period, policy, share

COUNT = 12
COUNTER = {"requests": 1, "actual_nano": 1}


def decision(number: int) -> str:
    """Return the JSON of a decision: like its neighbours, but for its figures."""
    candidates = [
        {
            "group": group, "kept": group != "small", "estimate_nano_usd": 1_000 * number + place,
            "reason": "" if group != "small" else "quality: needs swe_bench_verified 75, has 33.2",
        }
        for place, group in enumerate(("large", "middle", "small", "other"))
    ]  # fmt: skip
    return json.dumps({"id": f"d{number}", "candidates": candidates, "notes": ["é", "\U0001f600"]})


@pytest.fixture
def packer(redis_world: RedisWorld, redis_client: AsyncClient) -> Packer:
    """A packer of the world's ledger."""
    return packer_of(redis_world, redis_client, "a")


def packer_of(world: RedisWorld, client: AsyncClient, worker: str) -> Packer:
    """Return a worker's packer, which makes no pauses."""
    name = world.prefix.partition("{")[2].partition("}")[0]
    return Packer(client, world.ledger, name, worker, pause_s=0)


async def settled(ledger: RedisLedger, numbers: range) -> None:
    """Settle requests with these decisions."""
    period = await current_period(ledger)
    for number in numbers:
        asked = HoldRequest(
            hold_id=f"h{number}", amount_nano_usd=10, budgets=(share("team", 10, period),),
            lease_ms=LEASE_MS, expected_end_ms_in=5_000, facts="{}", decision_id=f"d{number}",
            decision=decision(number), stats_period="2026-11",
        )  # fmt: skip
        assert isinstance(await ledger.hold(asked), Held)
        body = json.dumps({"decision_id": f"d{number}"})
        await ledger.settle(Settlement(f"h{number}", 1, body, {"team": 1}, COUNTER))


async def kept(world: RedisWorld, client: AsyncClient, kind: str) -> int:
    """Return how many keys of a kind the ledger has."""
    return len([key async for key in client.scan_iter(f"{world.prefix}{kind}:*", count=1000)])


async def test_old_decisions_are_packed_and_read_as_they_were(
    redis_world: RedisWorld, redis_client: AsyncClient, packer: Packer
) -> None:
    ledger = redis_world.ledger
    await ledger.publish(policy(10_000))
    await settled(ledger, range(COUNT))
    assert await packer.look() == 0
    redis_world.advance(AGE_MS)
    assert await packer.look() == COUNT
    assert await kept(redis_world, redis_client, "decision") == 0
    for number in range(COUNT):
        assert await ledger.decision(f"d{number}") == decision(number)
        assert 0 < await redis_client.ttl(f"{redis_world.prefix}packed:d{number}") < 35 * 86_400
    assert await ledger.decision("nobody") is None
    assert await packer.look() == 0
    assert await ledger.verify() == ()


async def test_packed_decisions_take_a_fraction(
    redis_world: RedisWorld, redis_client: AsyncClient, packer: Packer
) -> None:
    await redis_world.ledger.publish(policy(10_000))
    await settled(redis_world.ledger, range(COUNT))
    before = len(decision(COUNT - 1))
    redis_world.advance(AGE_MS)
    await packer.look()
    packed = await redis_client.strlen(f"{redis_world.prefix}packed:d{COUNT - 1}")
    assert packed < before / 3


async def test_decisions_of_refusals_are_packed_too(
    redis_world: RedisWorld, redis_client: AsyncClient, packer: Packer
) -> None:
    await redis_world.ledger.publish(policy(10_000))
    for number in range(COUNT):
        refusal = RefusalRecord(
            decision_id=f"d{number}", code="budget_exceeded", body="{}",
            decision=decision(number), stats_period="2026-11", counters={"all:refused": 1},
        )  # fmt: skip
        await redis_world.ledger.refuse(refusal)
    redis_world.advance(AGE_MS)
    assert await packer.look() == COUNT
    found = await decisions(redis_client, redis_world.prefix, ["d3", "nobody", "d1"])
    assert found == [decision(3), None, decision(1)]


async def test_one_worker_packs(
    redis_world: RedisWorld, redis_client: AsyncClient, packer: Packer
) -> None:
    assert await packer.look() == 0
    assert await packer_of(redis_world, redis_client, "b").look() is None


async def test_too_few_decisions_wait_for_more(
    redis_world: RedisWorld, redis_client: AsyncClient, packer: Packer
) -> None:
    await redis_world.ledger.publish(policy(10_000))
    await settled(redis_world.ledger, range(3))
    redis_world.advance(AGE_MS)
    assert await packer.look() == 0
    redis_world.advance(-AGE_MS)
    await settled(redis_world.ledger, range(3, COUNT))
    redis_world.advance(AGE_MS)
    # Whoever leads next goes on with what the first has stored.
    assert await packer.look() == COUNT


async def test_pages_follow_each_other_and_another_worker_takes_over(
    redis_world: RedisWorld, redis_client: AsyncClient, packer: Packer
) -> None:
    ledger = redis_world.ledger
    await ledger.publish(policy(100_000))
    await settled(ledger, range(PAGE_LINES + 5))
    redis_world.advance(AGE_MS)
    assert await packer.look() == PAGE_LINES + 5
    redis_world.advance(-AGE_MS)
    await settled(ledger, range(100, 102))
    redis_world.advance(AGE_MS)
    await ledger.resign("packer", "a")
    assert await packer_of(redis_world, redis_client, "b").look() == 2
    assert await ledger.decision("d101") == decision(101)


async def test_what_cannot_be_unpacked_is_as_good_as_forgotten(
    redis_world: RedisWorld, redis_client: AsyncClient, packer: Packer
) -> None:
    ledger = redis_world.ledger
    await ledger.publish(policy(10_000))
    await settled(ledger, range(COUNT))
    redis_world.advance(AGE_MS)
    await packer.look()
    packed = str(await redis_client.get(f"{redis_world.prefix}packed:d1"))
    digest = packed.partition(":")[0]
    for damaged in (packed[:-8], "nothing", f"{digest}:####", ""):
        await redis_client.set(f"{redis_world.prefix}packed:d1", damaged)
        assert await ledger.decision("d1") is None
    assert await ledger.decision("d2") == decision(2)
    await redis_client.delete(f"{redis_world.prefix}packing:{digest}")
    assert await ledger.decision("d2") is None


async def test_totals_are_a_table_that_nobody_walks_through(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    await redis_world.ledger.publish(policy(10_000))
    await settled(redis_world.ledger, range(1))
    (key,) = [it async for it in redis_client.scan_iter(f"{redis_world.prefix}stats:*")]
    assert await redis_client.object("encoding", key) == "hashtable"
    assert await redis_world.ledger.counters(key.rpartition(":")[2]) == COUNTER


@pytest.mark.parametrize("text", ["", "a", "é\U0001f600", "x" * 50_000, decision(3)])
@pytest.mark.parametrize("common", ["", decision(1), "é" * 20_001])
def test_any_text_comes_back(text: str, common: str) -> None:
    dictionary = Dictionary.of(common)
    assert unpack(dictionary.pack(text), dictionary.text) == text
    assert Dictionary.of(dictionary.text) == dictionary
