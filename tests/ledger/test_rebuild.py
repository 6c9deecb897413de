"""Promise 9, the repair: counters that something damaged are found, set right, and told about.

A `Vandal` damages the books of either kind of ledger as no operation can.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Protocol

import pytest

from budgets.connection import AsyncClient, connect
from budgets.errors import LedgerPaused, LedgerUnavailable
from budgets.memory import MemoryLedger
from budgets.money import AMOUNT_NANO_USD_MAX
from budgets.period import Period
from budgets.published import PublishedPolicy, PublishedRule
from budgets.records import Difference
from budgets.redis_store import RedisLedger
from tests.ledger.worlds import (
    LEASE_MS,
    THRESHOLDS,
    USD,
    MemoryWorld,
    RedisWorld,
    World,
    all_entries,
    all_events,
    held,
    hold,
    policy,
    settle,
    share,
    state,
    today,
)


class Vandal(Protocol):
    """Damages a ledger's counters by hand. All are of the period P1."""

    async def change(self, budget: str, counter: str, by: int) -> None: ...
    async def lose_counter(self, budget: str) -> None: ...
    async def lose_expected_ends(self, budget: str) -> None: ...
    async def lose_leases(self) -> None: ...
    async def add_lease(self, hold_id: str) -> None: ...


class MemoryVandal:
    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger

    async def change(self, budget: str, counter: str, by: int) -> None:
        found = self.ledger._counters[budget, "P1"]
        setattr(found, counter, getattr(found, counter) + by)

    async def lose_counter(self, budget: str) -> None:
        found = self.ledger._counters[budget, "P1"]
        found.spent = found.held = found.unreconciled = 0

    async def lose_expected_ends(self, budget: str) -> None:
        self.ledger._counters[budget, "P1"].expected_ends.clear()

    async def lose_leases(self) -> None:
        self.ledger._leases.clear()

    async def add_lease(self, hold_id: str) -> None:
        self.ledger._leases[hold_id] = 1


class RedisVandal:
    def __init__(self, client: AsyncClient, prefix: str) -> None:
        self.client = client
        self.prefix = prefix

    async def change(self, budget: str, counter: str, by: int) -> None:
        await self.client.hincrby(f"{self.prefix}budget:P1:{budget}", counter, by)

    async def lose_counter(self, budget: str) -> None:
        await self.client.delete(f"{self.prefix}budget:P1:{budget}")
        await self.client.srem(f"{self.prefix}counters", f"P1:{budget}")

    async def lose_expected_ends(self, budget: str) -> None:
        await self.client.delete(f"{self.prefix}ends:P1:{budget}")

    async def lose_leases(self) -> None:
        await self.client.delete(f"{self.prefix}leases")

    async def add_lease(self, hold_id: str) -> None:
        await self.client.zadd(f"{self.prefix}leases", {hold_id: 1})


@pytest.fixture
def vandal(world: World, request: pytest.FixtureRequest) -> Vandal:
    if isinstance(world, RedisWorld):
        return RedisVandal(request.getfixturevalue("redis_client"), world.prefix)
    assert isinstance(world, MemoryWorld)
    return MemoryVandal(world.ledger)


async def rebuild(world: World) -> tuple[Difference, ...]:
    return await world.ledger.rebuild("os:ann@host", lease_ms=LEASE_MS, pause_ms=30_000)


async def busy_ledger(world: World) -> None:
    """Make a ledger with a hold in every state; `h4`, `h5` and `h6` stay open."""
    await world.ledger.publish(policy(team=10_000, total=20_000))
    for number in range(4):
        await held(world.ledger, 100, f"h{number}", budgets={"team": 100, "total": 60})
    await settle(world.ledger, "h0", 70)
    await settle(world.ledger, "h1", 170, total=90)
    await world.ledger.void("h2", "{}", {})
    world.advance(LEASE_MS + 1)
    await world.ledger.expire(9)
    for number in (4, 5):
        await held(world.ledger, 100, f"h{number}", budgets={"team": 100, "total": 60})
    await held(world.ledger, 5, "h6", budgets={"total": 5})


async def books(world: World) -> list[object]:
    """Return all that a repair may touch, without the revision of anything else."""
    return [await state(world.ledger, "team"), await state(world.ledger, "total")]


DAMAGES = {
    "spent": [("change", "team", "spent", 7)],
    "spent below": [("change", "total", "spent", -1)],
    "held": [("change", "total", "held", -5)],
    "unreconciled": [("change", "team", "unreconciled", 3)],
    "counter lost": [("lose_counter", "team")],
    "expected ends lost": [("lose_expected_ends", "total")],
    "leases lost": [("lose_leases",)],
    "stray lease of an ended hold": [("add_lease", "h0")],
    "stray lease of nobody": [("add_lease", "ghost")],
    "all that says a hold is open": [("lose_expected_ends", "total"), ("lose_leases",)],
    "everything": [
        ("lose_counter", "team"),
        ("lose_counter", "total"),
        ("lose_expected_ends", "team"),
        ("lose_expected_ends", "total"),
        ("lose_leases",),
        ("add_lease", "h0"),
    ],
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_damage_is_found_and_mended(world: World, vandal: Vandal, name: str) -> None:
    await busy_ledger(world)
    before = await books(world)
    for what, *args in DAMAGES[name]:
        await getattr(vandal, what)(*args)
    found = await world.ledger.verify()
    assert found
    assert await rebuild(world)
    assert await world.ledger.verify() == ()
    assert [timeless(it) for it in await books(world)] == [timeless(it) for it in before]
    # The open holds are whole: each can still be settled, and expires when nobody does.
    await settle(world.ledger, "h4", 30)
    world.advance(2 * LEASE_MS)
    assert {entry.hold_id for entry in await world.ledger.expire(9)} == {"h5", "h6"}
    assert await world.ledger.verify() == ()


def timeless(found: object) -> object:
    """Return a budget's figures; which levels were told is not part of the sums."""
    return {name: getattr(found, name) for name in ("spent_nano_usd", "held_nano_usd", "holds")}


async def test_a_repair_says_what_it_changed_and_who_did_it(world: World, vandal: Vandal) -> None:
    await busy_ledger(world)
    await vandal.change("team", "spent", 7)
    stored = (await state(world.ledger)).spent_nano_usd
    assert await rebuild(world) == (Difference("spent", "team", "P1", stored, stored - 7),)
    (event,) = await all_events(world.ledger, "rebuilt")
    body = json.loads(event.body)
    assert (body["actor"], body["count"]) == ("os:ann@host", 1)
    assert await rebuild(world) == ()
    assert len(await all_events(world.ledger, "rebuilt")) == 1


async def test_a_sound_ledger_is_not_paused_and_not_touched(world: World) -> None:
    await busy_ledger(world)
    before, entries = await books(world), await all_entries(world.ledger)
    assert await rebuild(world) == ()
    await held(world.ledger, 1, "h9", budgets={"total": 1})
    assert await world.ledger.void("h9", "{}", {})
    assert await books(world) == before
    assert (await all_entries(world.ledger))[:-1] == entries


async def test_a_pause_refuses_admissions_and_lets_settles_pass(world: World) -> None:
    await world.ledger.publish(policy(1000))
    await held(world.ledger, 100, "open")
    await held(world.ledger, 100, "more")
    await world.ledger.pause(5_000)
    with pytest.raises(LedgerPaused) as paused:
        await hold(world.ledger, 1)
    assert 0 < paused.value.retry_after_ms <= 5_000
    assert isinstance(paused.value, LedgerUnavailable)
    with pytest.raises(LedgerPaused):
        await hold(world.ledger, 1, budgets={})
    with pytest.raises(LedgerPaused):
        period = await today(world.ledger)
        await world.ledger.top_up("open", 200, (share("team", 200, period),))
    assert (await held(world.ledger, 100, "open")).repeated
    assert (await settle(world.ledger, "open", 90)).charged_nano_usd == 90
    assert await world.ledger.renew(["more"], LEASE_MS) == 1
    await world.ledger.void("more", "{}", {})
    world.advance(5_001)
    await held(world.ledger, 1, "after")


async def test_a_pause_can_be_ended_before_its_time(world: World) -> None:
    await world.ledger.publish(policy(1000))
    await world.ledger.pause(60_000)
    await world.ledger.pause(0)
    await held(world.ledger, 1, "h")


async def test_a_repair_of_a_closed_period_hands_on_what_the_damage_kept_back(
    world: World, vandal: Vandal
) -> None:
    now, hour = await world.ledger.now_ms(), 3_600_000
    first = Period("P1", now - hour, now + hour)
    rule = PublishedRule("team", 100, THRESHOLDS, "balance")
    await world.ledger.publish(PublishedPolicy("carrying", (rule,)))
    await held(world.ledger, 10, "late", period=first, lease_ms=9 * hour)
    world.advance(2 * hour)
    await world.ledger.close_period(first, Period("P2", now + hour, now + 3 * hour))
    await vandal.change("team", "spent", 7)
    # The settle hands 10 - 4 on, less what the damage seems to have cost.
    await settle(world.ledger, "late", 4)
    assert (await state(world.ledger, "team", "P2")).carry_nano_usd == 100 - 4 - 7
    assert await rebuild(world) == (Difference("spent", "team", "P1", 11, 4),)
    assert (await state(world.ledger, "team", "P2")).carry_nano_usd == 100 - 4
    assert await world.ledger.verify() == ()


async def test_a_repair_is_right_while_settles_go_on(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    """Counters are damaged again and again under traffic, and every repair leaves them right."""
    ledger, vandal = redis_world.ledger, RedisVandal(redis_client, redis_world.prefix)
    await ledger.publish(policy(a=10**9, b=10**9))
    done = asyncio.Event()
    ended = 0

    async def traffic(worker: int) -> None:
        nonlocal ended
        number = 0
        while not done.is_set():
            number += 1
            hold_id = f"{worker}-{number}"
            try:
                await held(ledger, 9, hold_id, budgets={f"a:{number % 7}": 9, "b": 9})
            except LedgerPaused:
                await asyncio.sleep(0.001)
                continue
            await settle(ledger, hold_id, number % 12)
            ended += 1

    workers = [asyncio.create_task(traffic(worker)) for worker in range(4)]
    try:
        for round_number in range(12):
            before = ended
            while ended < before + 20:  # noqa: ASYNC110 - The condition is a counter.
                await asyncio.sleep(0.001)
            await vandal.change("b", "spent", 13 + round_number)
            await vandal.change("a:3", "held", -4)
            await vandal.lose_expected_ends("b")
            changed = {(it.counter, it.budget) for it in await rebuild(redis_world)}
            assert {("spent", "b"), ("held", "a:3")} <= changed
            assert await ledger.verify() == ()
    finally:
        done.set()
        await asyncio.gather(*workers)
    assert await ledger.verify() == ()
    assert (await state(ledger, "b")).held_nano_usd == 0
    spent = sum(entry.charges["b", "P1"] for entry in await all_entries(ledger))
    assert (await state(ledger, "b")).spent_nano_usd == spent


async def test_more_entries_than_one_call_may_read_are_caught_up_with(
    redis_world: RedisWorld, redis_url: str
) -> None:
    """While the entries are read, more come than the comparison itself reads."""
    ledger, late_entries = redis_world.ledger, 650
    await ledger.publish(policy(10**9))
    await held(ledger, 9, "first")
    await settle(ledger, "first", 9)

    async def write_more() -> None:
        name = redis_world.prefix.removeprefix("farebox:{").removesuffix("}:")
        async with connect(redis_url) as client:
            other = RedisLedger(client, name)
            for number in range(late_entries):
                await held(other, 9, f"h{number}")
                await settle(other, f"h{number}", 5)

    def write_more_once(time_ms: int) -> None:
        # In a thread and waited for, so that the reading stands still meanwhile.
        if not written:
            written.append(threading.Thread(target=asyncio.run, args=[write_more()]))
            written[0].start()
            written[0].join()

    written: list[threading.Thread] = []
    assert await ledger.verify(watch=write_more_once) == ()
    assert (await state(ledger)).spent_nano_usd == 9 + late_entries * 5


async def test_sums_beyond_what_lua_can_count_are_set_exactly(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    ledger, vandal = redis_world.ledger, RedisVandal(redis_client, redis_world.prefix)
    large = 4_400_000 * USD + 1
    await ledger.publish(policy(total=AMOUNT_NANO_USD_MAX))
    for number in range(3):
        await held(ledger, 0, f"h{number}", budgets={"total": 0})
    for number in range(3):
        await settle(ledger, f"h{number}", large)
    assert 3 * large > 2**53
    await vandal.change("total", "spent", -1)
    assert await rebuild(redis_world) == (
        Difference("spent", "total", "P1", 3 * large - 1, 3 * large),
    )
    assert await ledger.verify() == ()
