"""The background tasks: leases of living workers are renewed, those of dead ones end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from budgets.errors import LedgerUnavailable
from budgets.inflight import InFlight
from budgets.memory import MemoryLedger
from budgets.sweeper import Sweeper
from tests.ledger.worlds import LEASE_MS, World, all_entries, held, policy, settle


async def eventually(condition: Callable[[], bool], bound_s: float = 5.0) -> None:
    """Wait until a condition holds, and fail where it does not within the bound."""
    async with asyncio.timeout(bound_s):
        while not condition():  # noqa: ASYNC110 - The condition is a counter, not an event.
            await asyncio.sleep(0.005)


class Flaky(MemoryLedger):
    """A ledger whose store is down at first."""

    failures = 2
    calls = 0

    async def renew(self, hold_ids: object, lease_ms: int) -> int:
        self.fail()
        return 0

    async def expire(self, count_max: int) -> tuple[()]:
        self.fail()
        return ()

    def fail(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise LedgerUnavailable("down")
        if self.calls == 2:
            raise RuntimeError("a defect")


async def test_a_worker_keeps_its_holds_alive(world: World) -> None:
    await world.ledger.publish(policy(100))
    inflight = InFlight(world.ledger, LEASE_MS)
    for name in ("kept", "done", "foreign"):
        await held(world.ledger, 1, name)
    assert inflight.add("kept")
    assert inflight.add("done")
    await settle(world.ledger, "done", 1)
    inflight.remove("done")
    inflight.remove("never there")
    world.advance(LEASE_MS - 1000)
    assert await inflight.renew() == 1
    world.advance(2000)
    assert [entry.hold_id for entry in await Sweeper(world.ledger).sweep()] == ["foreign"]


async def test_the_registry_is_bounded_and_forgets_what_nobody_ends(world: World) -> None:
    clock = [0.0]
    await world.ledger.publish(policy(100))
    inflight = InFlight(world.ledger, LEASE_MS, holds_max=1, age_s_max=10, clock=lambda: clock[0])
    await held(world.ledger, 1, "h")
    assert inflight.add("h")
    assert inflight.add("h")
    assert not inflight.add("i")
    clock[0] = 9.0
    assert await inflight.renew() == 1
    clock[0] = 10.0
    assert await inflight.renew() == 0
    assert len(inflight) == 0


async def test_a_sweep_ends_every_lease_that_has_run_out(world: World) -> None:
    await world.ledger.publish(policy(100))
    for number in range(7):
        await held(world.ledger, 1, f"h{number}")
    world.advance(LEASE_MS + 1)
    assert len(await Sweeper(world.ledger, count_max=3).sweep()) == 7
    assert len(await all_entries(world.ledger)) == 7


async def test_several_sweepers_end_each_lease_once(world: World) -> None:
    await world.ledger.publish(policy(100))
    for number in range(7):
        await held(world.ledger, 1, f"h{number}")
    world.advance(LEASE_MS + 1)
    swept = await asyncio.gather(*(Sweeper(world.ledger, count_max=2).sweep() for _ in range(3)))
    assert sorted(it.hold_id for entries in swept for it in entries) == [
        f"h{number}" for number in range(7)
    ]


async def test_the_tasks_outlive_a_store_that_is_down() -> None:
    swept, renewed = Flaky(lambda: 0), Flaky(lambda: 0)
    sweeper, inflight = Sweeper(swept, interval_s=0.001), InFlight(renewed, lease_ms=3)
    inflight.add("h")
    sweeper.start()
    inflight.start()
    sweeper.start()
    try:
        await eventually(lambda: swept.calls > 3 and renewed.calls > 3)
    finally:
        await sweeper.stop()
        await inflight.stop()
    await sweeper.stop()


async def test_a_sweeper_waits_until_it_may() -> None:
    swept = Flaky(lambda: 0)
    sweeper = Sweeper(swept, interval_s=0.001)
    asked, allowed = 0, False

    def may_sweep() -> bool:
        nonlocal asked
        asked += 1
        return allowed

    sweeper.may_sweep = may_sweep
    sweeper.start()
    try:
        await eventually(lambda: asked > 5)
        assert swept.calls == 0
        allowed = True
        await eventually(lambda: swept.calls > 0)
    finally:
        await sweeper.stop()


@pytest.mark.parametrize(("interval_s", "count_max"), [(0, 1), (1, 0)])
def test_a_sweeper_that_would_spin_is_not_made(interval_s: float, count_max: int) -> None:
    with pytest.raises(ValueError, match="pause"):
        Sweeper(MemoryLedger(lambda: 0), interval_s, count_max)
