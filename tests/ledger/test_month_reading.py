"""A month is read out of the archive and Redis alike, and what is missing is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from budgets.archive import archive
from budgets.archive_files import ArchiveFolder
from budgets.months.reading import Missing, read_months
from budgets.months.tally import Setting, Tally
from budgets.period import period_at
from budgets.records import RefusalRecord
from budgets.settlements import Settlement
from tests.ledger.worlds import World, held, policy


async def tally_of(world: World, before: bool = False) -> Tally:
    """Return an empty tally of this month, or of the one before."""
    month = period_at("month", "UTC", await world.ledger.now_ms())
    if before:
        month = period_at("month", "UTC", month.start_ms - 1)
    return Tally(Setting(month, "UTC", {}, {}, lambda _: None, None))


async def spend(world: World, *costs: int) -> None:
    period = period_at("month", "UTC", await world.ledger.now_ms())
    for number, cost in enumerate(costs):
        hold_id = f"{cost}-{number}"
        await held(world.ledger, cost, hold_id, period=period)
        body = json.dumps({"category": "FAST", "serving_group": "g"})
        await world.ledger.settle(Settlement(hold_id, cost, body))


@pytest.fixture
async def world(world: World) -> World:
    await world.ledger.publish(policy(10**9))
    return world


async def test_entries_refusals_and_events_of_the_month_are_added_once(world: World) -> None:
    await spend(world, 5, 7)
    await world.ledger.refuse(RefusalRecord("d", "budget_exceeded", "{}", "{}", "S"))
    await world.ledger.trail.append("ann", "approval_asked", {})
    this, last = await tally_of(world), await tally_of(world, before=True)
    seen: list[int] = []
    assert await read_months(world.ledger, None, (this, last), seen.append) == Missing(0, ())
    assert (this.total.requests, this.total.charged) == (2, 12)
    assert this.refusals == {"budget_exceeded": {"(none)": 1}}
    assert (last.total.requests, last.refusals, last.trail) == (0, {}, {})
    assert this.trail["approval_asked"] == 1
    assert len(seen) == 2


async def test_archived_entries_count_and_those_that_are_lost_are_told(
    world: World, tmp_path: Path
) -> None:
    await spend(world, 5, 7, 11)
    lines = [line async for line in world.ledger.lines()]
    folder = ArchiveFolder(tmp_path, "books")
    world.advance(1000)
    await archive(
        world.ledger, folder, zone="UTC", before_ms=lines[-1].time_ms + 1, part_entries_max=2
    )
    await spend(world, 13)
    tally = await tally_of(world)
    assert await read_months(world.ledger, folder, (tally,)) == Missing(0, ())
    assert (tally.total.requests, tally.total.charged) == (4, 36)
    first = (await world.ledger.archive_state()).parts[0]
    path = folder.path / first.file
    path.write_bytes(path.read_bytes()[:-8])
    damaged = await tally_of(world)
    assert await read_months(world.ledger, folder, (damaged,)) == Missing(2, (first.file,))
    assert damaged.total.charged == 24
    nowhere = await tally_of(world)
    missing = await read_months(world.ledger, None, (nowhere,))
    assert (missing.entries, len(missing.files)) == (3, 2)
    assert nowhere.total.charged == 13


async def test_a_month_long_over_opens_no_file_of_later_ones(world: World, tmp_path: Path) -> None:
    await spend(world, 5)
    lines = [line async for line in world.ledger.lines()]
    folder = ArchiveFolder(tmp_path, "books")
    world.advance(1000)
    await archive(world.ledger, folder, zone="UTC", before_ms=lines[-1].time_ms + 1)
    (part,) = (await world.ledger.archive_state()).parts
    (folder.path / part.file).unlink()
    month = period_at("month", "UTC", lines[0].time_ms - 200 * 86_400_000)
    old = Tally(Setting(month, "UTC", {}, {}, lambda _: None, None))
    assert await read_months(world.ledger, folder, (old,)) == Missing(0, ())


async def test_a_body_that_says_nothing_is_counted_and_charged_all_the_same(world: World) -> None:
    period = period_at("month", "UTC", await world.ledger.now_ms())
    await held(world.ledger, 5, "h", period=period)
    await world.ledger.settle(Settlement("h", 5, "no JSON"))
    tally = await tally_of(world)
    await read_months(world.ledger, None, (tally,))
    assert (tally.unreadable, tally.total.charged) == (1, 5)
    assert tally.categories["(none)"].charged == 5
