"""A month's end, on the model and on Redis: closed once its holds have ended, kept once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from budgets.config import BudgetsFile
from budgets.ledger import Ledger
from budgets.months.closer import MonthCloser, Months, Rules
from budgets.months.closing import HoldsOpen, close, first_activity_ms
from budgets.months.keeping import MemorySnapshots, RedisSnapshots, SnapshotFolder, Snapshots
from budgets.months.snapshot import SnapshotDamaged, read_snapshot
from budgets.period import Period, period_at
from budgets.statements import PeriodOpen, Statement
from tests.ledger.worlds import USD, RedisWorld, World, held, settle, state

ZONE = "Europe/Berlin"
Made = Callable[..., MonthCloser]


def rules(**budgets: object) -> Rules:
    return Rules(
        BudgetsFile.model_validate(
            {
                "version": 1,
                "time_zone": ZONE,
                "baseline_usd_per_month": 550,
                "budgets": budgets
                or {"team": {"limit_usd": 100, "carry": {"unused_up_to_usd": 20, "debt": True}}},
            }
        ),
        "policy-1",
    )


class Office:
    """A ledger at some time of a month, and what is needed to close it."""

    def __init__(self, world: World, snapshots: Snapshots, folder: Path, now_ms: int) -> None:
        self.world = world
        self.rules = rules()
        self.months = Months(world.ledger, "books", snapshots, SnapshotFolder(folder, "books"))
        self.month = period_at("month", ZONE, now_ms)

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    @property
    def next(self) -> Period:
        return period_at("month", ZONE, self.month.end_ms)

    def closer(self, worker: str = "w1") -> MonthCloser:
        return MonthCloser(self.months, lambda: self.rules, worker)

    async def turn(self) -> None:
        """Let the month end."""
        self.world.advance(self.month.end_ms - await self.ledger.now_ms() + 1000)

    async def spend(self, usd: int, hold_id: str, budget: str = "team") -> None:
        period = period_at("month", ZONE, await self.ledger.now_ms())
        await held(self.ledger, usd * USD, hold_id, budgets={budget: usd * USD}, period=period)
        await settle(self.ledger, hold_id, usd * USD)


@pytest.fixture
async def office(world: World, request: pytest.FixtureRequest, tmp_path: Path) -> Office:
    snapshots: Snapshots = MemorySnapshots()
    if isinstance(world, RedisWorld):
        name = world.prefix.partition("{")[2].partition("}")[0]
        snapshots = RedisSnapshots(request.getfixturevalue("redis_client"), name)
    made = Office(world, snapshots, tmp_path, await world.ledger.now_ms())
    await world.ledger.publish(made.rules.budgets.published())
    return made


async def test_a_month_is_closed_by_itself_once_its_last_hold_has_ended(office: Office) -> None:
    await office.spend(30, "early")
    await held(office.ledger, 5 * USD, "late", period=office.month, lease_ms=90 * 86_400_000)
    closer = office.closer()
    assert await closer.look() == ()
    await office.turn()
    # The new month runs although the old one is open.
    await office.spend(1, "new")
    assert await closer.look() == ()
    assert await office.ledger.statement(office.month.id) is None
    await settle(office.ledger, "late", 2 * USD)
    assert await closer.look() == (office.month.id,)
    statement = await office.ledger.statement(office.month.id)
    assert statement is not None and statement.rows[0].spent_nano_usd == 32 * USD
    assert (await state(office.ledger, "team", office.next.id)).carry_nano_usd == 20 * USD
    assert await closer.look() == ()
    assert await office.ledger.verify() == ()


async def test_the_snapshot_says_what_the_books_said_and_is_the_same_everywhere(
    office: Office,
) -> None:
    await office.spend(30, "early")
    await office.turn()
    await office.closer().look()
    kept = await office.months.snapshot(office.month.id)
    assert kept is not None and kept == office.months.folder.read(office.month.id)
    assert (kept.closed_by, kept.policy, kept.baseline_nano_usd) == ("w1", "policy-1", 550 * USD)
    assert kept.statement() == await office.ledger.statement(office.month.id)
    assert kept.totals == await office.ledger.counters(office.month.id)
    assert [(it.budget, it.spent_nano_usd) for it in kept.budgets] == [("team", 30 * USD)]
    assert office.months.folder.file(office.month.id).stat().st_mode & 0o077 == 0


async def test_what_comes_late_leaves_the_snapshot_as_it_is_and_is_an_addendum(
    office: Office,
) -> None:
    await held(office.ledger, 5 * USD, "lost", period=office.month)
    await office.turn()
    assert len(await office.ledger.expire(9)) == 1
    await office.closer().look()
    before = office.months.folder.file(office.month.id).read_bytes()
    await settle(office.ledger, "lost", 2 * USD)
    office.rules = rules(team={"limit_usd": 999})
    await office.closer("w1").look()
    assert office.months.folder.file(office.month.id).read_bytes() == before
    (addendum,) = [it async for it in office.ledger.addenda()]
    assert (addendum.period_id, addendum.spent_nano_usd) == (office.month.id, -3 * USD)


async def test_of_several_workers_one_closes_and_the_snapshot_is_kept_once(office: Office) -> None:
    await office.spend(30, "early")
    await office.turn()
    answers = await asyncio.gather(*(office.closer(f"w{n}").look() for n in range(5)))
    assert sorted(answers, key=str) == [(office.month.id,), None, None, None, None]
    # Were two to lead for a moment, the second would find everything done.
    await asyncio.gather(
        *(office.months.close(office.rules, office.month, f"v{n}") for n in range(4))
    )
    kept = await office.months.snapshot(office.month.id)
    assert kept is not None and str(kept.closed_by) in {"w0", "w1", "w2", "w3", "w4"}


async def test_what_a_crash_left_undone_is_done_at_the_next_look(office: Office) -> None:
    await office.spend(30, "early")
    await office.turn()
    # One worker died right after the closing, another after the snapshot, before the file.
    assert isinstance(await close(office.ledger, office.rules.budgets, office.month), Statement)
    assert await office.months.snapshot(office.month.id) is None
    await office.closer().look()
    office.months.folder.file(office.month.id).unlink()
    await office.closer().look()
    assert office.months.folder.read(office.month.id) == await office.months.snapshot(
        office.month.id
    )


async def test_a_month_that_runs_or_has_open_holds_is_not_closed_by_hand_either(
    office: Office,
) -> None:
    await held(office.ledger, 5 * USD, "open", period=office.month, lease_ms=90 * 86_400_000)
    answer = await office.months.close(office.rules, office.month, "ann")
    assert isinstance(answer, PeriodOpen)
    await office.turn()
    answer = await office.months.close(office.rules, office.month, "ann")
    assert isinstance(answer, HoldsOpen)
    assert (answer.count, answer.holds[0].hold_id) == (1, "open")
    assert await office.months.snapshot(office.month.id) is None
    forced = await office.months.close(office.rules, office.month, "ann", with_open_holds=True)
    assert isinstance(forced, Statement) and forced.rows[0].held_nano_usd == 5 * USD
    kept = await office.months.snapshot(office.month.id)
    assert kept is not None and kept.closed_by == "ann"


async def test_months_without_a_worker_are_all_closed_and_nothing_before_the_first_entry(
    office: Office,
) -> None:
    await office.spend(30, "early")
    first, second = office.month, office.next
    await office.turn()
    office.month = second
    await office.turn()
    assert await office.closer().look() == (first.id, second.id)
    before = period_at("month", ZONE, first.start_ms - 1)
    assert await office.ledger.statement(before.id) is None
    assert (await state(office.ledger, "team", first.id)).carry_nano_usd == 0


async def test_an_empty_ledger_closes_nothing(office: Office) -> None:
    await office.turn()
    assert await office.closer().look() == ()
    assert await first_activity_ms(office.ledger, ZONE) is None


async def test_days_are_closed_only_where_something_is_handed_on(office: Office) -> None:
    await office.spend(1, "a")
    day = period_at("day", ZONE, await office.ledger.now_ms())
    office.world.advance(day.end_ms - await office.ledger.now_ms() + 1000)
    assert day.id not in (await office.closer().look() or ())
    office.rules = rules(daily={"limit_usd": 5, "period": "day", "carry": "balance"})
    await office.ledger.publish(office.rules.budgets.published())
    assert day.id in (await office.closer().look() or ())
    following = period_at("day", ZONE, day.end_ms)
    assert (await state(office.ledger, "daily", following.id)).carry_nano_usd == 5 * USD
    assert await office.months.snapshot(day.id) is None


async def test_a_snapshot_that_was_changed_is_found_and_never_replaced(office: Office) -> None:
    await office.spend(30, "early")
    await office.turn()
    await office.closer().look()
    path = office.months.folder.file(office.month.id)
    good = path.read_text()
    changed = good.replace(str(30 * USD), str(29 * USD), 1)
    assert changed != good
    path.write_text(changed)
    with pytest.raises(SnapshotDamaged, match="digest"):
        office.months.folder.read(office.month.id)
    with pytest.raises(SnapshotDamaged):
        await office.closer().look()
    assert path.read_text() == changed
    # Another snapshot with a digest of its own is refused too.
    other = read_snapshot(good, "here").model_copy(update={"closed_by": "mallory"})
    path.write_text(other.to_json())
    with pytest.raises(SnapshotDamaged, match="another snapshot"):
        office.months.folder.write(good)
    assert json.loads(path.read_text())["closed_by"] == "mallory"


async def test_the_digest_stands_in_the_audit_trail_once_and_proves_what_redis_keeps(
    office: Office,
) -> None:
    await office.spend(30, "early")
    await office.turn()
    for _ in range(2):
        await office.closer().look()
    kept = await office.months.snapshot(office.month.id)
    assert kept is not None
    lines = [it async for it in office.ledger.trail.lines() if it.action == "month_snapshot"]
    assert [json.loads(it.detail)["digest"] for it in lines] == [kept.digest]
    assert lines[0].actor == "w1"
    # Somebody writes another snapshot to the store, with a digest that fits it.
    forged = MemorySnapshots()
    await forged.keep(office.month.id, kept.model_copy(update={"closed_by": "mallory"}).to_json())
    months = Months(office.ledger, "books", forged, office.months.folder)
    with pytest.raises(SnapshotDamaged, match="audit trail"):
        await months.snapshot(office.month.id)
    with pytest.raises(SnapshotDamaged, match="audit trail"):
        await months.close(office.rules, office.month, "w2")
    after = [it async for it in office.ledger.trail.lines() if it.action == "month_snapshot"]
    assert after == lines


async def test_a_field_of_a_newer_release_is_kept_and_proved(office: Office) -> None:
    await office.spend(30, "early")
    await office.turn()
    await office.closer().look()
    kept = await office.months.snapshot(office.month.id)
    assert kept is not None
    newer = type(kept).model_validate({**kept.model_dump(), "digest": "", "mood": "good"})
    again = read_snapshot(newer.to_json(), "here")
    assert again.model_extra == {"mood": "good"}
