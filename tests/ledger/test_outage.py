"""While the store is away: slices of allowances, the journal, and what the store is told later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from budgets.errors import HoldIdReused, LedgerUnavailable
from budgets.holds import Held, HoldRequest
from budgets.journal import Journal
from budgets.ledger import Ledger
from budgets.outage import NoSlice, Outage
from budgets.records import RefusalRecord
from budgets.settlements import Settlement, SettleStatus
from budgets.slices import Slice, SliceRequest
from tests.ledger.modes import MemoryDisk
from tests.ledger.worlds import (
    CENT,
    LEASE_MS,
    USD,
    World,
    all_entries,
    current_period,
    held,
    hold,
    policy,
    settle,
    share,
    state,
)


async def ask(
    ledger: Ledger, owner: str, allowance: int = USD, have: int = 0, alone: bool = True
) -> Slice:
    """Ask for a slice of the rule `team`."""
    period = await current_period(ledger)
    (slice_,) = await ledger.slices(
        owner, [SliceRequest("team", period, allowance, have, counts_alone=alone)]
    )
    return slice_


async def request(ledger: Ledger, hold_id: str, amount: int, **budgets: int) -> HoldRequest:
    """Return a hold's request against `team`, or the given budgets."""
    period = await current_period(ledger)
    shares = budgets or {"team": amount}
    return HoldRequest(
        hold_id=hold_id,
        amount_nano_usd=amount,
        budgets=tuple(share(name, part, period) for name, part in shares.items()),
        lease_ms=LEASE_MS,
        expected_end_ms_in=5_000,
        facts='{"v":1,"marks":[],"status":"open"}',
        decision_id=f"decision-{hold_id}",
        decision='{"winner":"haiku"}',
        stats_period="2026-11",
    )


def cost(hold_id: str, amount: int) -> Settlement:
    return Settlement(hold_id, amount, json.dumps({"cost": amount}), {}, {"requests": 1})


# ── slices ───────────────────────────────────────────────────────────────────────────────────────


async def test_two_workers_get_half_of_the_allowance_each(world: World) -> None:
    await world.ledger.publish(policy(10 * USD))
    first = await ask(world.ledger, "a")
    assert first.granted_nano_usd == USD
    # Nothing is left for the second until the first one gave its half back.
    second = await ask(world.ledger, "b")
    assert (second.granted_nano_usd, second.target_nano_usd) == (0, USD // 2)
    first = await ask(world.ledger, "a", have=USD)
    assert (first.granted_nano_usd, first.target_nano_usd) == (USD, USD // 2)
    first = await ask(world.ledger, "a", have=USD // 2)
    assert first.granted_nano_usd == USD // 2
    second = await ask(world.ledger, "b")
    assert second.granted_nano_usd == USD // 2


async def test_a_worker_that_asks_no_more_keeps_its_slice_and_is_no_longer_reckoned_with(
    world: World,
) -> None:
    await world.ledger.publish(policy(10 * USD))
    await ask(world.ledger, "a")
    await ask(world.ledger, "b")
    await ask(world.ledger, "a", have=USD // 2)
    world.advance(60_000)
    alone = await ask(world.ledger, "c")
    assert (alone.granted_nano_usd, alone.target_nano_usd) == (USD // 2, USD)


async def test_a_budget_that_is_used_up_gives_no_slice(world: World) -> None:
    await world.ledger.publish(policy(USD))
    assert (await ask(world.ledger, "a")).granted_nano_usd == USD
    await held(world.ledger, USD, "h")
    await settle(world.ledger, "h", USD)
    taken_back = await ask(world.ledger, "a", have=0)
    assert (taken_back.granted_nano_usd, taken_back.target_nano_usd) == (0, 0)
    for_each = await ask(world.ledger, "a", alone=False)
    assert for_each.granted_nano_usd == USD


async def test_released_slices_can_be_handed_out_again(world: World) -> None:
    await world.ledger.publish(policy(10 * USD))
    await ask(world.ledger, "a")
    await world.ledger.release_slices("a")
    assert (await ask(world.ledger, "b")).granted_nano_usd == USD


# ── replay ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def outage(world: World, tmp_path: Path) -> AsyncIterator[Outage]:
    """Return a worker's outage with a slice of $1 of the rule `team`."""
    await world.ledger.publish(policy(team=10 * USD, total=100 * USD))
    made = Outage(world.ledger, Journal.open(tmp_path), tmp_path)
    await take_slice(world.ledger, made)
    yield made
    await made.close()


async def take_slice(ledger: Ledger, outage: Outage, allowance: int = USD) -> None:
    period = await current_period(ledger)
    wanted = outage.allowance.wanted([("team", period, allowance, True)])
    outage.allowance.take(await ledger.slices(outage.owner, wanted))


async def test_a_slice_is_spent_to_the_nanodollar_and_no_further(
    world: World, outage: Outage
) -> None:
    now = await world.ledger.now_ms()
    for number in range(20):
        await outage.hold(await request(world.ledger, f"h{number}", 5 * CENT), now)
    with pytest.raises(NoSlice, match="team"):
        await outage.hold(await request(world.ledger, "late", 1), now)
    # A request that cost less than it held leaves room for the next one.
    await outage.end(cost("h0", 2 * CENT), "settled")
    await outage.hold(await request(world.ledger, "next", 3 * CENT), now)
    with pytest.raises(NoSlice):
        await outage.hold(await request(world.ledger, "late", 1), now)


async def test_every_enforced_budget_needs_a_slice(world: World, outage: Outage) -> None:
    wide = await request(world.ledger, "h", CENT, team=CENT, total=CENT)
    with pytest.raises(NoSlice, match="total"):
        await outage.hold(wide, 0)
    # The part of `team` was not taken.
    await outage.hold(await request(world.ledger, "all", USD), 0)


async def test_what_was_admitted_offline_is_told_once(world: World, outage: Outage) -> None:
    now = await world.ledger.now_ms()
    await outage.hold(await request(world.ledger, "h", 5 * CENT), now)
    await outage.end(cost("h", 3 * CENT), "settled")
    await outage.tell()
    await outage.tell()
    (entry,) = await all_entries(world.ledger)
    assert (entry.kind, entry.cost_nano_usd, entry.held_nano_usd) == ("settled", 3 * CENT, 5 * CENT)
    found = await state(world.ledger)
    assert (found.spent_nano_usd, found.held_nano_usd, found.holds) == (3 * CENT, 0, 0)
    assert await world.ledger.counters("2026-11") == {"requests": 1}
    assert await world.ledger.decision("decision-h") == '{"winner":"haiku"}'
    assert await world.ledger.verify() == ()
    assert outage.depth == 0


async def test_what_an_outage_spent_is_gone_from_the_allowance(
    world: World, outage: Outage
) -> None:
    for hold_id, amount in (("a", 60 * CENT), ("b", 40 * CENT)):
        await outage.hold(await request(world.ledger, hold_id, amount), 0)
        await outage.end(cost(hold_id, amount), "settled")
        await outage.tell()
        await take_slice(world.ledger, outage)
    with pytest.raises(NoSlice):
        await outage.hold(await request(world.ledger, "c", 1), 0)


async def test_a_void_offline_costs_nothing_and_leaves_its_entry(
    world: World, outage: Outage
) -> None:
    await outage.hold(await request(world.ledger, "h", USD), 0)
    await outage.end(cost("h", 0), "voided")
    await outage.tell()
    (entry,) = await all_entries(world.ledger)
    assert (entry.kind, entry.cost_nano_usd) == ("voided", 0)
    await outage.hold(await request(world.ledger, "again", USD), 0)


async def test_a_raised_offline_hold_is_one_request(world: World, outage: Outage) -> None:
    first = await request(world.ledger, "h", 10 * CENT)
    await outage.hold(first, 0)
    raised = await request(world.ledger, "h", 90 * CENT)
    await outage.top_up("h", 90 * CENT, raised.budgets)
    with pytest.raises(NoSlice):
        await outage.hold(await request(world.ledger, "other", 11 * CENT), 0)
    more = await request(world.ledger, "h", 2 * USD)
    with pytest.raises(NoSlice):
        await outage.top_up("h", 2 * USD, more.budgets)
    await outage.end(cost("h", 80 * CENT), "settled")
    await outage.tell()
    (entry,) = await all_entries(world.ledger)
    assert (entry.cost_nano_usd, entry.held_nano_usd) == (80 * CENT, 90 * CENT)


async def test_a_worker_that_crashes_leaves_its_journal_to_the_next(
    world: World, tmp_path: Path
) -> None:
    await world.ledger.publish(policy(10 * USD))
    crashed = Journal.open(tmp_path)
    dead = Outage(world.ledger, crashed, tmp_path)
    await take_slice(world.ledger, dead)
    await dead.hold(await request(world.ledger, "ended", 5 * CENT), 0)
    await dead.hold(await request(world.ledger, "lost", 7 * CENT), 0)
    await dead.end(cost("ended", 2 * CENT), "settled")
    await dead.refuse(RefusalRecord("r", "ledger_unavailable", "{}", "{}", "2026-11", {"no": 1}))
    crashed._disk.close(remove=False)  # A crash lets go of the file and does nothing else.

    heir = Outage(world.ledger, Journal.open(tmp_path), tmp_path)
    await heir.tell()
    await heir.tell()
    entries = {entry.hold_id: entry for entry in await all_entries(world.ledger)}
    assert {it: entries[it].kind for it in entries} == {"ended": "settled", "lost": "unreconciled"}
    assert entries["lost"].cost_nano_usd == 7 * CENT
    assert "offline" in json.loads(entries["lost"].body)["marks"]
    assert (await state(world.ledger)).spent_nano_usd == 9 * CENT
    refusals = [it async for it in world.ledger.refusals()]
    assert len(refusals) == 1
    assert await world.ledger.verify() == ()
    # The dead worker's slice goes on, less what it spent.
    await take_slice(world.ledger, heir)
    assert heir.allowance.slices() == {"team": 91 * CENT}
    assert [path.name for path in tmp_path.iterdir()] == [f"{heir.owner}.journal"]
    await heir.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_hold_whose_answer_was_lost_ends_as_the_offline_request(
    world: World, outage: Outage
) -> None:
    asked = await request(world.ledger, "h", 5 * CENT)
    assert isinstance(await world.ledger.hold(asked), Held)
    await outage.hold(asked, 0)
    await outage.end(cost("h", 3 * CENT), "settled")
    await outage.tell()
    (entry,) = await all_entries(world.ledger)
    assert (entry.kind, entry.cost_nano_usd) == ("settled", 3 * CENT)
    found = await state(world.ledger)
    assert (found.spent_nano_usd, found.held_nano_usd, found.holds) == (3 * CENT, 0, 0)
    assert await world.ledger.verify() == ()


async def test_an_offline_hold_that_the_sweeper_ended_is_corrected(
    world: World, outage: Outage
) -> None:
    asked = await request(world.ledger, "h", 5 * CENT)
    await world.ledger.hold(asked)
    await outage.hold(asked, 0)
    world.advance(LEASE_MS + 1)
    await world.ledger.expire(10)
    await outage.end(cost("h", 3 * CENT), "settled")
    await outage.tell()
    assert [it.kind for it in await all_entries(world.ledger)] == ["unreconciled", "corrected"]
    assert (await state(world.ledger)).spent_nano_usd == 3 * CENT


async def test_a_settle_in_the_journal_is_told_once(world: World, outage: Outage) -> None:
    await held(world.ledger, 5 * CENT, "h")
    await outage.end_later(cost("h", 4 * CENT))
    assert outage.depth == 1
    await outage.tell()
    assert outage.depth == 0
    assert (await state(world.ledger)).spent_nano_usd == 4 * CENT
    assert (await settle(world.ledger, "h", 1)).status is SettleStatus.ALREADY_SETTLED


# ── a hold that nobody waits for ─────────────────────────────────────────────────────────────────


async def test_a_forbidden_hold_cannot_come_any_more(world: World) -> None:
    await world.ledger.publish(policy(USD))
    answer = await world.ledger.void("h", "{}", {}, ahead=True)
    assert answer.status is SettleStatus.UNKNOWN_HOLD
    with pytest.raises(HoldIdReused):
        await hold(world.ledger, CENT, hold_id="h")
    assert (await world.ledger.void("h", "{}", {})).status is SettleStatus.ALREADY_VOIDED
    assert (await state(world.ledger)).held_nano_usd == 0
    assert await all_entries(world.ledger) == []


async def test_a_hold_that_did_come_is_voided(world: World) -> None:
    await world.ledger.publish(policy(USD))
    await held(world.ledger, CENT, "h")
    answer = await world.ledger.void("h", "{}", {}, ahead=True)
    assert answer.status is SettleStatus.VOIDED
    assert (await state(world.ledger)).held_nano_usd == 0


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────


async def test_without_disk_nothing_is_admitted_and_no_end_is_forgotten(world: World) -> None:
    await world.ledger.publish(policy(10 * USD))
    disk = MemoryDisk()
    outage = Outage(world.ledger, Journal("me", disk), None)
    await take_slice(world.ledger, outage)
    await held(world.ledger, 5 * CENT, "online")
    await outage.hold(await request(world.ledger, "h", CENT), 0)
    disk.full = True
    with pytest.raises(NoSlice, match="journal"):
        await outage.hold(await request(world.ledger, "late", CENT), 0)
    await outage.end_later(cost("online", 4 * CENT))
    await outage.end(cost("h", CENT), "settled")
    assert (outage.unwritten, outage.depth) == (2, 3)
    disk.full = False
    await outage.tell()
    assert outage.depth == 0
    assert (await state(world.ledger)).spent_nano_usd == 5 * CENT
    # What was held for the request that was not written is free again.
    await take_slice(world.ledger, outage)
    await outage.hold(await request(world.ledger, "rest", 99 * CENT), 0)


class Away:
    """A ledger that is away while `away` is set."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.away = True

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise LedgerUnavailable("away")
        return getattr(self._ledger, name)


async def test_telling_goes_on_where_the_store_went_away(world: World, tmp_path: Path) -> None:
    await world.ledger.publish(policy(10 * USD))
    away: Any = Away(world.ledger)
    outage = Outage(away, Journal.open(tmp_path), tmp_path)
    for number in range(5):
        await held(world.ledger, CENT, f"h{number}")
        await outage.end_later(cost(f"h{number}", CENT))
    with pytest.raises(LedgerUnavailable):
        await outage.tell()
    assert outage.depth == 5
    away.away = False
    await outage.tell()
    assert (await state(world.ledger)).spent_nano_usd == 5 * CENT
    await outage.close()
    assert list(tmp_path.iterdir()) == []


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


async def test_lines_that_come_together_share_one_sync() -> None:
    class Counting(MemoryDisk):
        syncs = 0

        def append(self, data: bytes) -> None:
            super().append(data)
            self.syncs += 1

    disk = Counting()
    journal = Journal("me", disk)
    await asyncio.gather(*(journal.append("void", {"n": n}) for n in range(100)))
    assert [line.content["n"] for line in journal.lines()] == list(range(100))
    assert disk.syncs < 10


async def test_a_torn_journal_is_read_though_the_disk_is_full() -> None:
    disk = MemoryDisk()
    await Journal("me", disk).append("refuse", {"n": 1})
    disk.data += b"half a li"
    disk.full = True
    journal = Journal("me", disk)
    assert [line.content["n"] for line in journal.lines()] == [1]
    disk.full = False
    await journal.append("refuse", {"n": 2})
    assert [line.content["n"] for line in journal.lines()] == [1, 2]
    assert [line.content["n"] for line in Journal("me", disk).lines()] == [1, 2]


@pytest.mark.parametrize("cut", [1, 10, 20])
async def test_a_torn_line_is_left_out_and_the_next_one_is_whole(cut: int) -> None:
    disk = MemoryDisk()
    first = Journal("me", disk)
    await first.append("void", {"n": 1})
    await first.append("void", {"n": 2})
    disk.data = disk.data[:-cut]
    second = Journal("me", disk)
    await second.append("void", {"n": 3})
    found = [line.content["n"] for line in Journal("me", disk).lines()]
    assert found == [1, 3] if cut > 1 else [1, 2, 3]


async def test_a_journal_belongs_to_one_process(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    assert list(Journal.adopt(tmp_path)) == []
    assert (tmp_path / f"{journal.owner}.journal").stat().st_mode & 0o777 == 0o600
    await journal.append("void", {"n": 1})
    await journal.close()
    (found,) = Journal.adopt(tmp_path)
    assert [line.content["n"] for line in found.lines()] == [1]
    await found.close()


async def test_an_emptied_journal_is_an_empty_file(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    numbers = [await journal.append("void", {"n": n}) for n in range(3)]
    journal.done(numbers)
    await journal.append("void", {"n": 3})
    assert [line.content["n"] for line in journal.lines()] == [3]
    journal.done([line.number for line in journal.lines()])
    await journal.close()
    assert list(tmp_path.iterdir()) == []
