"""One leader at a time for each role; who dies is replaced within the lease, who stops at once."""

from __future__ import annotations

import asyncio

import pytest

from budgets.ledger import Leader
from budgets.sweeper import LEASE_INTERVALS, ROLE, Sweeper
from tests.ledger.worlds import LEASE_MS, World, all_entries, held, policy, state

HOUR_MS = 3_600_000


async def test_of_many_that_ask_at_once_one_leads(world: World) -> None:
    owners = [f"worker-{number}" for number in range(20)]
    won = await asyncio.gather(*(world.ledger.lead("r", owner, LEASE_MS) for owner in owners))
    assert sum(won) == 1
    (leader,) = await world.ledger.leaders()
    assert leader.owner == owners[won.index(True)]


async def test_a_leader_that_asks_again_stays_and_the_others_wait(world: World) -> None:
    for _ in range(5):
        assert await world.ledger.lead("r", "ann", LEASE_MS)
        assert not await world.ledger.lead("r", "bob", LEASE_MS)
        world.advance(LEASE_MS * 2 // 3)


async def test_a_leader_that_dies_is_replaced_when_its_lease_has_ended(world: World) -> None:
    assert await world.ledger.lead("r", "ann", LEASE_MS)
    world.advance(LEASE_MS + 1)
    assert await world.ledger.leaders() == ()
    assert await world.ledger.lead("r", "bob", LEASE_MS)
    assert not await world.ledger.lead("r", "ann", LEASE_MS)


async def test_only_the_leader_can_resign(world: World) -> None:
    assert not await world.ledger.resign("r", "ann")
    assert await world.ledger.lead("r", "ann", LEASE_MS)
    assert not await world.ledger.resign("r", "bob")
    assert await world.ledger.resign("r", "ann")
    assert not await world.ledger.resign("r", "ann")
    assert await world.ledger.lead("r", "bob", LEASE_MS)


async def test_roles_are_apart(world: World) -> None:
    assert await world.ledger.lead("sweeper", "ann", LEASE_MS)
    assert await world.ledger.lead("archiver", "bob", 2 * LEASE_MS)
    now = await world.ledger.now_ms()
    archiver, sweeper = await world.ledger.leaders()
    assert (archiver.role, archiver.owner) == ("archiver", "bob")
    assert (sweeper.role, sweeper.owner) == ("sweeper", "ann")
    assert isinstance(sweeper, Leader)
    assert now < sweeper.until_ms < archiver.until_ms <= now + 2 * LEASE_MS


@pytest.mark.parametrize(("role", "owner", "lease_ms"), [("", "a", 1), ("r", "", 1), ("r", "a", 0)])
async def test_a_role_cannot_be_taken_without_a_name_or_a_lease(
    world: World, role: str, owner: str, lease_ms: int
) -> None:
    with pytest.raises(ValueError, match=r"role|owner|lease"):
        await world.ledger.lead(role, owner, lease_ms)


# ── the sweeper ──────────────────────────────────────────────────────────────────────────────────


async def dead_holds(world: World, count: int) -> None:
    await world.ledger.publish(policy(10**6))
    for start in range(0, count, 50):
        ids = [f"h{number}" for number in range(start, min(count, start + 50))]
        await asyncio.gather(*(held(world.ledger, 1, hold_id) for hold_id in ids))


async def test_only_the_sweeper_that_leads_sweeps(world: World) -> None:
    await dead_holds(world, 3)
    world.advance(LEASE_MS + 1)
    first, second = (Sweeper(world.ledger, owner=name) for name in ("first", "second"))
    assert await first.lead()
    assert await second.sweep_if_leading() == []
    assert len(await first.sweep_if_leading()) == 3


async def test_a_sweeper_that_dies_is_replaced_within_its_lease(world: World) -> None:
    await dead_holds(world, 2)
    dead, alive = Sweeper(world.ledger, owner="dead"), Sweeper(world.ledger, owner="alive")
    assert await dead.sweep_if_leading() == []
    world.advance(LEASE_MS + LEASE_INTERVALS * 5000 + 1)
    assert len(await alive.sweep_if_leading()) == 2
    assert not await dead.lead()


async def test_after_hours_without_any_worker_the_first_one_ends_all_leases(world: World) -> None:
    await dead_holds(world, 450)
    world.advance(9 * HOUR_MS)
    assert (await state(world.ledger)).held_nano_usd == 450
    swept = await Sweeper(world.ledger, count_max=100).sweep_if_leading()
    assert len({entry.hold_id for entry in swept}) == 450
    assert len(await all_entries(world.ledger)) == 450
    found = await state(world.ledger)
    assert (found.held_nano_usd, found.holds, found.spent_nano_usd) == (0, 0, 450)
    assert await world.ledger.verify() == ()


async def test_a_sweeper_that_stops_leaves_its_place_at_once(world: World) -> None:
    await dead_holds(world, 1)
    world.advance(LEASE_MS + 1)
    stopping = Sweeper(world.ledger, interval_s=60, owner="stopping")
    stopping.start()
    async with asyncio.timeout(5):
        while not await all_entries(world.ledger):  # noqa: ASYNC110 - The store tells no events.
            await asyncio.sleep(0.005)
    assert [leader.owner for leader in await world.ledger.leaders()] == ["stopping"]
    await stopping.stop()
    assert await world.ledger.lead(ROLE, "next", LEASE_MS)


async def test_sweepers_have_names_of_their_own(world: World) -> None:
    assert Sweeper(world.ledger).owner != Sweeper(world.ledger).owner
