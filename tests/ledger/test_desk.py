"""A worker's desk: what it admits from its slices, and when slices come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from budgets.approvals.types import ApprovalUse, Who
from budgets.endings import Endings
from budgets.errors import LedgerUnavailable
from budgets.holds import Held, HoldRequest, Refused
from budgets.journal import Journal
from budgets.leases.desk import Desk
from budgets.leases.slate import Slate
from budgets.ledger import Ledger, Write, Written
from budgets.outage import Outage
from budgets.settlements import Settlement
from tests.ledger.modes import MemoryDisk, plain
from tests.ledger.worlds import (
    CENT,
    DAY_MS,
    LEASE_MS,
    USD,
    World,
    all_entries,
    current_period,
    policy,
    share,
    state,
)


@dataclass
class Leased:
    """The policy's word on leases, as a test wants it."""

    share_percent: int = 10
    direct_below_percent: int = 20
    rules: tuple[str, ...] = ("team", "key")

    def leased(self, rule: str) -> bool:
        return rule in self.rules


class House:
    """One worker's desk, whose clock stands still and whose background work is waited for."""

    def __init__(
        self, ledger: Any, settings: Leased | None = None, slate: Slate | None = None
    ) -> None:
        self.ledger = ledger
        self.settings = settings or Leased()
        self.now_s = 0.0
        self.broken = False
        self.tasks: list[asyncio.Future[object]] = []
        self.journal = Journal("me", MemoryDisk())
        self.outage = Outage(ledger, self.journal, None)
        self.endings = Endings(self._tell, lambda: not self.broken, self.outage)
        self.desk = Desk(
            ledger,
            self.endings,
            lambda: self.settings,
            self._spawn,
            clock_s=lambda: self.now_s,
            slate=slate,
        )
        self.outage.adopted = self.desk.told

    async def _tell(self, writes: Sequence[Write]) -> tuple[Written, ...]:
        if self.broken:
            raise LedgerUnavailable("broken")
        written: tuple[Written, ...] = await self.ledger.write_all(writes)
        return written

    def _spawn(self, work: Awaitable[object]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def rest(self) -> None:
        """Wait for slices that were asked for."""
        while self.tasks:
            await self.tasks.pop()

    async def hold(self, hold_id: str, amount: int = CENT, **more: Any) -> Held | Refused:
        return await self.desk.hold(await request(self.ledger, hold_id, amount, **more))

    async def admit(self, hold_id: str, amount: int = CENT, **more: Any) -> Held | None:
        return self.desk.admit(await request(self.ledger, hold_id, amount, **more))

    async def warm(self, **more: Any) -> None:
        """Have slices for requests of a cent."""
        assert isinstance(await self.hold("warm", **more), Held)
        await self.rest()


async def request(
    ledger: Ledger,
    hold_id: str,
    amount: int,
    budgets: tuple[str, ...] = ("team",),
    enforced: bool = True,
    approval: ApprovalUse | None = None,
) -> HoldRequest:
    period = await current_period(ledger)
    return HoldRequest(
        hold_id=hold_id,
        amount_nano_usd=amount,
        budgets=tuple(share(it, amount, period, enforced) for it in budgets),
        lease_ms=LEASE_MS,
        expected_end_ms_in=5_000,
        facts='{"v":1,"attempts":[],"status":"open"}',
        decision_id=f"decision-{hold_id}",
        decision="{}",
        stats_period="2026-11",
        approval=approval,
    )


@pytest.fixture
async def house(world: World) -> House:
    world.ledger = plain(world.ledger)
    await world.ledger.publish(policy(team=10 * USD, key=10 * USD))
    return House(world.ledger)


async def figures(house: House) -> tuple[int, int, int]:
    found = await state(house.ledger)
    return found.spent_nano_usd, found.held_nano_usd, found.holds


class _Late:
    """The ledger, whose answers to `take_slice` come when they may."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.taken, self.may_answer = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def take_slice(self, wanted: Any) -> Any:
        answer = await cast(Any, self._ledger).take_slice(wanted)
        self.taken.set()
        await self.may_answer.wait()
        return answer


async def test_nobody_is_refused_because_of_a_slice_that_is_on_its_way(house: House) -> None:
    late = _Late(house.ledger)
    house.desk._ledger = cast(Any, late)
    assert isinstance(await house.hold("first"), Held)
    await late.taken.wait()
    assert (await figures(house))[1] > 2 * CENT, "the store has handed a slice out"
    rest = asyncio.ensure_future(house.hold("rest", 10 * USD - 2 * CENT))
    await asyncio.sleep(0.05)
    assert not rest.done(), "it waits for the slice, which has to go back first"
    late.may_answer.set()
    assert isinstance(await rest, Held)
    await house.rest()


async def test_the_first_request_asks_and_brings_a_slice_for_the_next(house: House) -> None:
    assert await house.admit("first") is None
    await house.rest()
    assert await figures(house) == (0, 8 * CENT, 1)
    held = await house.admit("second")
    assert isinstance(held, Held)
    # Nothing has been asked yet; what lies in the slice counts as left.
    assert await figures(house) == (0, 8 * CENT, 1)
    assert held.states[0].remaining_nano_usd == 10 * USD - CENT
    assert house.desk.is_unreported("second")
    await house.endings.flush()
    assert not house.desk.is_unreported("second")
    assert await figures(house) == (0, 8 * CENT, 2)


async def test_what_is_ahead_of_the_stores_knowledge_is_bounded(house: House) -> None:
    """A quarter of the slice, or two requests: as much is charged if the worker dies now."""
    await house.warm()
    asked = [await request(house.ledger, f"h{n}", CENT) for n in range(4)]
    assert [house.desk.admit(it) is not None for it in asked] == [True, True, False, False]
    await house.endings.flush()
    assert await house.admit("next") is not None


async def test_all_budgets_of_a_request_need_a_slice(house: House) -> None:
    await house.warm()
    assert await house.admit("h", budgets=("team", "key")) is None
    await house.rest()
    assert await house.admit("h", budgets=("team", "key")) is not None


async def test_what_may_not_be_leased_asks_the_store(house: House) -> None:
    await house.warm(budgets=("team", "key"))
    use = ApprovalUse("a", Who("k", ""), "t")
    assert await house.admit("approved", approval=use) is None
    assert await house.admit("shadow", enforced=False) is None
    house.settings.rules = ("team",)
    assert await house.admit("two", budgets=("team", "key")) is None
    assert await house.admit("one") is not None


async def test_a_request_that_finds_no_room_gets_that_of_the_slices(house: House) -> None:
    house.settings = Leased(share_percent=50, direct_below_percent=1)
    assert isinstance(await house.hold("warm", 50 * CENT), Held)
    await house.rest()
    assert (await figures(house))[1] > 4 * USD
    assert isinstance(await house.hold("large", 950 * CENT), Held)
    await house.endings.flush()
    assert await figures(house) == (0, 10 * USD, 2)


async def test_who_is_refused_calls_back_the_slices_of_others(house: House) -> None:
    house.settings = Leased(share_percent=50, direct_below_percent=1)
    other = House(house.ledger, house.settings)
    assert isinstance(await other.hold("warm", 50 * CENT), Held)
    await other.rest()
    refused = await house.hold("large", 950 * CENT)
    assert isinstance(refused, Refused)
    assert refused.code == "budget_busy"
    await house.rest()
    other.now_s += 1
    await other.desk.tick()
    await other.endings.flush()
    assert isinstance(await house.hold("again", 950 * CENT), Held)


async def test_slices_go_back_near_the_limit(house: House) -> None:
    await house.warm()
    assert isinstance(await House(house.ledger).hold("much", 805 * CENT), Held)
    assert await house.admit("h") is not None
    await house.endings.flush()
    # With the answer to its report: less than a fifth is left.
    assert await house.admit("next") is None
    await house.endings.flush()
    assert await figures(house) == (0, 807 * CENT, 3)


async def test_an_idle_slice_goes_back(house: House) -> None:
    await house.warm()
    for _ in range(2):
        house.now_s += 1
        await house.desk.tick()
    await house.endings.flush()
    assert await figures(house) == (0, CENT, 1)


async def test_an_edit_takes_hold_within_a_second(house: House) -> None:
    await house.warm()
    await house.ledger.publish(policy(team=CENT, key=USD))
    house.now_s += 1
    await house.desk.tick()
    await house.endings.flush()
    assert await house.admit("h") is None
    assert await figures(house) == (0, CENT, 1)


async def test_no_slice_is_used_beyond_its_period(house: House) -> None:
    await house.warm()
    assert await house.admit("h") is not None
    await house.endings.flush()
    house.now_s += 200 * DAY_MS / 1000
    assert await house.admit("late") is None


async def test_while_the_store_is_away_nothing_comes_from_slices_and_reports_are_kept(
    house: House,
) -> None:
    await house.warm()
    assert await house.admit("h") is not None
    house.broken = True
    house.desk.abandon()
    await house.endings.put(Settlement("h", 5, "{}"), lambda *_: None)
    await house.endings.flush()
    assert await house.admit("next") is None
    assert [line.operation for line in house.journal.lines()] == ["adopt", "settle"]
    house.broken = False
    await house.outage.tell()
    await house.desk.give_all_back()
    assert await figures(house) == (5, CENT, 1)
    assert [it.kind for it in await all_entries(house.ledger)] == ["settled"]


async def test_the_heir_of_a_killed_worker_reports_what_its_journal_has(house: House) -> None:
    await house.warm()
    assert await house.admit("h") is not None
    house.broken = True
    await house.endings.flush()
    heir = Outage(house.ledger, Journal("heir", MemoryDisk()), None)
    await heir.tell_of(house.journal)
    assert (await figures(house))[2] == 3


async def test_a_worker_that_was_cut_off_admits_no_more_than_its_slice_was_charged(
    world: World, house: House
) -> None:
    """Its slice has ended meanwhile; the rest of it belongs to others by now."""
    await house.warm()
    world.advance(20_000)
    await house.ledger.expire(10)
    asked = [await request(house.ledger, f"h{n}", CENT) for n in range(4)]
    assert [house.desk.admit(it) is not None for it in asked] == [True, True, False, False]
    await house.rest()
    await house.desk.give_all_back()
    assert await figures(house) == (0, 3 * CENT, 3)
    entries = await all_entries(house.ledger)
    assert [it.kind for it in entries] == ["unreconciled", "corrected", "corrected", "corrected"]
    assert sum(sum(it.charges.values()) for it in entries) == 0
    assert not await house.ledger.verify(every_hold=True)
