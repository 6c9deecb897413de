"""The ends of requests go to the store in batches, behind everybody's back, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from budgets import endings as module
from budgets.connection import AsyncClient
from budgets.endings import Endings
from budgets.errors import LedgerUnavailable
from budgets.journal import Journal
from budgets.leases.slate import FilePages, Slate
from budgets.outage import Outage
from budgets.redis_scripts import _script
from budgets.settlements import Ending, Settled, Settlement, SettleStatus, Voiding
from tests.ledger.modes import MemoryDisk
from tests.ledger.worlds import CENT, USD, RedisWorld, World, all_entries, held, policy, state


class Link:
    """The way to the store: it can stall, break, and tells what went by it."""

    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False
        self.trips: list[int] = []

    async def tell(self, endings: Sequence[Ending]) -> tuple[Settled, ...]:
        self.trips.append(len(endings))
        await self.open.wait()
        if self.broken:
            raise LedgerUnavailable("broken")
        settled: tuple[Settled, ...] = await self.ledger.write_all(endings)
        return settled


class House:
    """A worker's queue with its journal, and the way to the store."""

    def __init__(self, world: World, slate: Slate | None = None) -> None:
        self.link = Link(world.ledger)
        self.disk = MemoryDisk()
        self.journal = Journal("me", self.disk, slate=slate)
        self.outage = Outage(world.ledger, self.journal, None)
        self.endings = Endings(self.link.tell, lambda: not self.link.broken, self.outage)
        self.told: list[tuple[str, SettleStatus]] = []

    async def put(self, ending: Ending) -> None:
        await self.endings.put(ending, lambda it, done: self.told.append((it.hold_id, done.status)))


@pytest.fixture
async def house(world: World) -> AsyncIterator[House]:
    await world.ledger.publish(policy(100 * USD))
    made = House(world)
    yield made
    made.link.open.set()
    await made.endings.close(1)


def cost(hold_id: str, amount: int) -> Settlement:
    return Settlement(hold_id, amount, "{}", {}, {"requests": 1})


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (a background task's doing)
            await asyncio.sleep(0.005)


async def test_ends_go_together_in_their_order(world: World, house: House) -> None:
    for number in range(20):
        await held(world.ledger, CENT, f"h{number}")
    for number in range(20):
        hold_id = f"h{number}"
        await house.put(Voiding(hold_id, "{}") if number % 5 == 4 else cost(hold_id, number))
    # One more: it is told that its hold has ended already.
    await house.put(cost("h0", 77))
    await house.endings.flush()
    assert house.link.trips == [21]
    assert house.told == [
        *((f"h{n}", "voided" if n % 5 == 4 else "settled") for n in range(20)),
        ("h0", "already_settled"),
    ]
    team = await state(world.ledger)
    assert (team.spent_nano_usd, team.held_nano_usd) == (sum(set(range(20)) - {4, 9, 14, 19}), 0)
    assert not house.outage.depth


async def test_nobody_waits_for_the_store(world: World, house: House) -> None:
    house.link.open.clear()
    await held(world.ledger, CENT, "h")
    async with asyncio.timeout(1):
        await house.put(cost("h", 3))
    assert (await state(world.ledger)).held_nano_usd == CENT
    house.link.open.set()
    await house.endings.flush()
    assert (await state(world.ledger)).spent_nano_usd == 3


async def test_what_waits_for_a_slow_store_survives_a_kill(world: World, house: House) -> None:
    """Also what stands behind the batch that is under way."""
    count = module.BATCH_MAX + 10
    for number in range(count):
        await held(world.ledger, CENT, f"h{number}")
    house.link.open.clear()
    for number in range(count):
        await house.put(cost(f"h{number}", 5))
    await until(lambda: house.journal.depth == count)
    # Another process finds the journal as the disk has it now.
    found = Journal("me", _copy(house.disk))
    heir = Outage(world.ledger, Journal("heir", MemoryDisk()), None)
    await heir.tell_of(found)
    assert {it.kind for it in await all_entries(world.ledger)} == {"settled"}
    assert (await state(world.ledger)).spent_nano_usd == 5 * count
    # And where the first one was alive after all, each of its ends is charged once.
    house.link.open.set()
    await house.endings.flush()
    assert {status for _, status in house.told} == {SettleStatus.ALREADY_SETTLED}
    assert (await state(world.ledger)).spent_nano_usd == 5 * count
    assert not house.outage.depth


async def test_what_waits_for_its_batch_survives_a_kill(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has been told nothing, and the journal has no line of it: it is on the slate."""
    monkeypatch.setattr(module, "LINGER_S", 3600.0)
    await world.ledger.publish(policy(100 * USD))
    pages = tmp_path / "me.slate"
    killed = House(world, Slate(FilePages(pages), "this start"))
    for hold_id in ("kept", "void", "open"):
        await held(world.ledger, CENT, hold_id)
    await killed.put(cost("kept", 5))
    await killed.put(Voiding("void", "{}"))
    assert not killed.link.trips and not killed.journal.depth
    for boot in ("this start", "another start"):
        found = Journal("me", _copy(killed.disk), slate=Slate(FilePages(pages), boot))
        heir = Outage(world.ledger, Journal("heir", MemoryDisk()), None)
        await heir.tell_of(found)
        assert await found.close() is None
        entries = {
            it.hold_id: (it.kind, it.cost_nano_usd) for it in await all_entries(world.ledger)
        }
        assert entries == {"kept": ("settled", 5), "void": ("voided", 0)}
    assert (await state(world.ledger)).held_nano_usd == CENT
    # And where it was alive after all, each of its ends is charged once.
    await killed.endings.flush()
    assert (await state(world.ledger)).spent_nano_usd == 5
    await killed.endings.close(1)


async def test_what_was_told_is_wiped_off_the_slate(world: World, tmp_path: Path) -> None:
    await world.ledger.publish(policy(100 * USD))
    slate = Slate(FilePages(tmp_path / "me.slate"))
    house = House(world, slate)
    await held(world.ledger, CENT, "h")
    await house.put(cost("h", 5))
    (line,) = slate.lines()
    assert (line.operation, line.content["hold"], line.content["cost"]) == ("settle", "h", 5)
    await house.endings.flush()
    assert not [*slate.lines()]
    # One that goes to the journal instead has its line there.
    await held(world.ledger, CENT, "later")
    house.link.broken = True
    await house.put(cost("later", 5))
    await house.endings.flush()
    assert (house.journal.depth, [*slate.lines()]) == (1, [])
    house.link.broken = False
    await house.endings.close(1)


def _copy(disk: MemoryDisk) -> MemoryDisk:
    copied = MemoryDisk()
    copied.data = disk.data
    return copied


async def test_a_store_that_answers_costs_the_disk_nothing(world: World, house: House) -> None:
    await held(world.ledger, CENT, "h")
    await house.put(cost("h", 3))
    await house.endings.flush()
    assert house.told == [("h", SettleStatus.SETTLED)]
    assert house.journal.bytes == 0


async def test_what_a_broken_link_keeps_back_is_told_from_the_journal(
    world: World, house: House
) -> None:
    for number in range(3):
        await held(world.ledger, CENT, f"h{number}")
    house.link.broken = True
    for number in range(3):
        await house.put(cost(f"h{number}", 5))
    await house.endings.flush()
    assert house.outage.depth == 3
    assert (await state(world.ledger)).spent_nano_usd == 0
    await house.outage.tell()
    assert (await state(world.ledger)).spent_nano_usd == 15
    assert not house.outage.depth


async def test_without_disk_and_store_an_end_waits_in_memory(world: World, house: House) -> None:
    await held(world.ledger, CENT, "h")
    house.link.broken = house.disk.full = True
    await house.put(cost("h", 5))
    await house.endings.flush()
    assert house.outage.unwritten == 1
    await house.outage.tell()
    assert (await state(world.ledger)).spent_nano_usd == 5


async def test_a_full_queue_makes_callers_wait_and_drops_nothing(
    world: World, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 5)
    for number in range(12):
        await held(world.ledger, CENT, f"h{number}")
    house.link.open.clear()
    putting = asyncio.gather(*(house.put(cost(f"h{number}", 5)) for number in range(12)))
    await until(lambda: house.journal.depth == 5)
    assert len(house.endings) == 5
    assert not putting.done()
    house.link.open.set()
    await putting
    await house.endings.flush()
    assert (await state(world.ledger)).spent_nano_usd == 60
    assert sorted(house.told) == sorted((f"h{n}", SettleStatus.SETTLED) for n in range(12))


async def test_one_end_that_is_wrong_keeps_no_other_back(world: World, house: House) -> None:
    for hold_id in ("first", "wrong", "last"):
        await held(world.ledger, CENT, hold_id)
    await house.put(cost("first", 5))
    await house.put(cost("wrong", -1))
    await house.put(cost("last", 5))
    await house.endings.flush()
    assert {hold_id for hold_id, _ in house.told} == {"first", "last"}
    team = await state(world.ledger)
    # The wrong one's hold stands until its lease charges it.
    assert (team.spent_nano_usd, team.held_nano_usd) == (10, CENT)


async def test_a_process_that_stops_tells_what_it_can_and_writes_down_the_rest(
    world: World, house: House
) -> None:
    await held(world.ledger, CENT, "told")
    await house.put(cost("told", 5))
    await house.endings.close(5)
    assert (await state(world.ledger)).spent_nano_usd == 5
    await held(world.ledger, CENT, "kept")
    house.link.open.clear()
    await house.put(cost("kept", 5))
    await house.endings.close(0.01)
    # Twice where it was being written just then; telling it twice is harmless.
    assert {line.content["hold"] for line in house.journal.lines()} == {"kept"}


@pytest.mark.parametrize("forgotten", ["all", "batch", "settle", "void"])
async def test_ends_keep_their_order_although_redis_has_forgotten_its_scripts(
    redis_world: RedisWorld, redis_client: AsyncClient, forgotten: str
) -> None:
    """A void that overtook the settle of its hold would make the request cost nothing."""
    await redis_world.ledger.publish(policy(USD))
    for hold_id in "abc":
        await held(redis_world.ledger, CENT, hold_id)
    await redis_world.ledger.write_all([cost("c", 1), Voiding("c", "{}")])
    await redis_world.ledger.settle(cost("c", 1))
    await redis_world.ledger.void("c", "{}", {})
    await redis_client.script_flush()
    if forgotten != "all":
        for name in {"batch", "settle", "void"} - {forgotten}:
            await redis_client.script_load(_script(name).text)
    ends = [cost("a", 3), Voiding("a", "{}"), Voiding("b", "{}"), cost("b", 5), cost("a", 1)]
    settled = await redis_world.ledger.write_all(ends)
    assert [it.status for it in settled] == [
        *("settled", "already_settled", "voided", "already_voided", "already_settled"),
    ]
    assert (await state(redis_world.ledger)).spent_nano_usd == 4


async def test_scripts_that_are_flushed_all_the_time_change_no_order(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    await redis_world.ledger.publish(policy(USD))
    over = asyncio.Event()

    async def flush() -> None:
        while not over.is_set():
            await redis_client.script_flush()

    flushing = asyncio.create_task(flush())
    for number in range(20):
        names = [f"{number}:{k}" for k in range(8)]
        await asyncio.gather(*(held(redis_world.ledger, CENT, it) for it in names))
        ends = [end for it in names for end in (cost(it, 1), Voiding(it, "{}"))]
        settled = await redis_world.ledger.write_all(ends)
        assert [it.status for it in settled] == ["settled", "already_settled"] * 8
    over.set()
    await flushing
    assert (await state(redis_world.ledger)).spent_nano_usd == 160


async def test_an_error_of_redis_in_mid_batch_is_told_and_keeps_no_other_back(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    ledger = redis_world.ledger
    await ledger.publish(policy(USD))
    for hold_id in "abc":
        await held(ledger, CENT, hold_id)
    spoiled = f"{redis_world.prefix}hold:b"
    kept = await redis_client.dump(spoiled)
    await redis_client.set(spoiled, "no hash")
    for ends in ([cost("a", 1), cost("b", 1), cost("c", 1)], [cost("b", 1), cost("c", 1)]):
        with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
            await ledger.write_all(ends)
        assert (await state(ledger)).spent_nano_usd == 2
    await redis_client.restore(spoiled, 0, kept, replace=True)
    settled = await ledger.write_all([cost(it, 1) for it in "abc"])
    assert [it.status for it in settled] == ["already_settled", "settled", "already_settled"]
