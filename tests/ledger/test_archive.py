"""Entries that are old leave for files; a crash at any point loses nothing and doubles nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from budgets.archive import (
    ArchiveFailed,
    Stage,
    Step,
    archive,
    check_files,
    cutoff_ms,
    everything,
    preview,
)
from budgets.archive_files import ArchiveFolder
from budgets.archived import ArchivedPart, ArchivedSums, ArchiveMoved, EntryLine, Sums
from budgets.archivist import Archivist, Settings
from budgets.connection import connect
from budgets.ledger import Ledger
from budgets.records import Difference
from budgets.settlements import SettleStatus
from tests.ledger.worlds import (
    DAY_MS,
    LEASE_MS,
    RedisWorld,
    World,
    all_entries,
    held,
    policy,
    settle,
    state,
)

MONTH_MS = 31 * DAY_MS


class Crash(BaseException):
    """The process ends here: not even an `except Exception` gets to see it."""


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    return ArchiveFolder(tmp_path / "sink", "a/b")


async def months_of_entries(world: World, months: int = 3, each: int = 4) -> list[EntryLine]:
    """Settle some holds in each of several months, the last of them now; return all entries."""
    await world.ledger.publish(policy(team=10**9, total=10**9))
    for month in range(months):
        if month:
            world.advance(MONTH_MS)
        for number in range(each):
            hold_id = f"m{month}-{number}"
            await held(world.ledger, 10, hold_id, budgets={"team": 10, "total": 10})
            await settle(world.ledger, hold_id, month + number, team=3)
    return [line async for line in world.ledger.lines()]


async def now_cutoff_ms(ledger: Ledger, live_months: int = 1) -> int:
    return cutoff_ms("UTC", live_months, await ledger.now_ms())


async def move(
    world: World,
    folder: ArchiveFolder,
    observe: Callable[[Step], None] = lambda _: None,
    part_entries_max: int = 1000,
) -> int:
    """Archive all but the current month; return how many entries."""
    done = await archive(
        world.ledger,
        folder,
        zone="UTC",
        before_ms=await now_cutoff_ms(world.ledger),
        observe=observe,
        part_entries_max=part_entries_max,
    )
    return done.entries


async def file_sums(world: World, folder: ArchiveFolder) -> ArchivedSums:
    check = await check_files(world.ledger, folder)
    assert check.problems == ()
    assert check.unrecorded == ()
    return check.sums


async def assert_whole(world: World, folder: ArchiveFolder, before: list[EntryLine]) -> None:
    """Every entry is there once, in order, in the archive or live, and the books add up."""
    assert [line async for line in everything(world.ledger, folder)] == before
    assert await world.ledger.verify() == ()
    assert await world.ledger.verify(await file_sums(world, folder)) == ()
    assert not [it.name for it in folder.path.iterdir() if it.name.startswith(".")]


# ── what is moved ────────────────────────────────────────────────────────────────────────────────


async def test_entries_beyond_the_live_months_are_moved_whole(
    world: World, folder: ArchiveFolder
) -> None:
    before = await months_of_entries(world)
    states = [await state(world.ledger, name) for name in ("team", "total")]
    assert await move(world, folder) == 8
    assert [entry.hold_id for entry in await all_entries(world.ledger)] == [
        f"m2-{number}" for number in range(4)
    ]
    assert [await state(world.ledger, name) for name in ("team", "total")] == states
    await assert_whole(world, folder, before)
    reached = await world.ledger.archive_state()
    assert (reached.to, reached.entries) == (before[7].id, 8)
    assert await move(world, folder) == 0


async def test_names_are_in_the_order_of_entries_and_parts_are_bounded(
    world: World, folder: ArchiveFolder
) -> None:
    before = await months_of_entries(world)
    await move(world, folder, part_entries_max=3)
    parts = (await world.ledger.archive_state()).parts
    assert [part.entries for part in parts] == [3, 1, 3, 1]
    assert sorted(part.file for part in parts) == [part.file for part in parts]
    first = datetime.fromtimestamp(before[0].time_ms / 1000, UTC)
    assert parts[0].file.startswith(f"{first:%Y-%m}-000001-")
    assert folder.path.name == "ledger-a%2Fb"
    await assert_whole(world, folder, before)


async def test_a_line_of_a_file_is_the_entry_as_it_was_stored(
    world: World, folder: ArchiveFolder
) -> None:
    before = await months_of_entries(world, months=2, each=1)
    await move(world, folder)
    (part,) = (await world.ledger.archive_state()).parts
    path = folder.path / part.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == part.sha256
    (line,) = gzip.decompress(path.read_bytes()).splitlines()
    assert json.loads(line) == {"id": before[0].id, **before[0].fields}
    assert json.loads(json.loads(line)["body"]) == {"cost": 0}
    manifest = json.loads(path.with_name(f"{path.name[:-9]}.manifest.json").read_text())
    assert manifest["sums"] == [["team", "P1", 3], ["total", "P1", 0]]
    assert (manifest["entries"], manifest["first"], manifest["last"]) == (1, part.first, part.last)
    assert path.stat().st_mode & 0o077 == 0


async def test_fields_that_this_release_does_not_know_are_kept(
    redis_world: RedisWorld, redis_client: Redis, folder: ArchiveFolder
) -> None:
    before = await months_of_entries(redis_world, months=1, each=1)
    fields = {**before[0].fields, "kind": "of a newer release", "charges": "[]", "more": "ü"}
    await redis_client.xadd(f"{redis_world.prefix}entries", fields)
    redis_world.advance(2 * MONTH_MS)
    before = [line async for line in redis_world.ledger.lines()]
    assert await move(redis_world, folder) == 2
    await assert_whole(redis_world, folder, before)


async def test_a_ledger_whose_entries_are_all_archived_goes_on(
    world: World, folder: ArchiveFolder
) -> None:
    before = await months_of_entries(world, months=1)
    world.advance(3 * MONTH_MS)
    await move(world, folder)
    assert await all_entries(world.ledger) == []
    await assert_whole(world, folder, before)
    await held(world.ledger, 10, "later", budgets={"team": 10})
    await settle(world.ledger, "later", 7)
    (later,) = [line async for line in world.ledger.lines()]
    await assert_whole(world, folder, [*before, later])


async def test_a_late_settle_corrects_an_entry_that_is_archived(
    world: World, folder: ArchiveFolder
) -> None:
    await months_of_entries(world, months=1)
    await held(world.ledger, 100, "lost", budgets={"team": 100})
    world.advance(LEASE_MS + 1)
    (expired,) = await world.ledger.expire(9)
    spent = (await state(world.ledger)).spent_nano_usd
    world.advance(MONTH_MS)
    await move(world, folder)
    assert expired.id not in [entry.id for entry in await all_entries(world.ledger)]
    assert await world.ledger.verify(await file_sums(world, folder)) == ()
    assert (await settle(world.ledger, "lost", 40)).status is SettleStatus.CORRECTED
    assert (await state(world.ledger)).spent_nano_usd == spent - 60
    assert await world.ledger.verify(await file_sums(world, folder)) == ()


async def test_a_preview_writes_nothing(world: World, folder: ArchiveFolder) -> None:
    before = await months_of_entries(world)
    seen = await preview(world.ledger, "UTC", await now_cutoff_ms(world.ledger))
    assert (seen.entries, len(seen.months)) == (8, 2)
    assert not folder.path.exists()
    assert [line async for line in world.ledger.lines()] == before


@pytest.mark.parametrize(
    ("zone", "live_months", "now", "cutoff"),
    [
        ("UTC", 1, "2026-11-21T07:00+00:00", "2026-11-01T00:00+00:00"),
        ("UTC", 2, "2026-11-01T00:00+00:00", "2026-10-01T00:00+00:00"),
        ("UTC", 3, "2026-01-31T23:59+00:00", "2025-11-01T00:00+00:00"),
        ("UTC", 2, "2028-03-30T12:00+00:00", "2028-02-01T00:00+00:00"),
        ("Europe/Berlin", 2, "2026-04-30T22:30+00:00", "2026-04-01T00:00+02:00"),
        ("Europe/Berlin", 1, "2026-10-31T22:30+00:00", "2026-10-01T00:00+02:00"),
    ],
)
def test_the_live_months_are_calendar_months_of_the_policys_zone(
    zone: str, live_months: int, now: str, cutoff: str
) -> None:
    now_ms = int(datetime.fromisoformat(now).timestamp() * 1000)
    found = datetime.fromtimestamp(cutoff_ms(zone, live_months, now_ms) / 1000, ZoneInfo(zone))
    assert found == datetime.fromisoformat(cutoff)


# ── crashes, and several at once ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("parts_before", [0, 1])
async def test_a_crash_loses_nothing_and_doubles_nothing(
    world: World, folder: ArchiveFolder, stage: Stage, parts_before: int
) -> None:
    before = await months_of_entries(world)
    trimmed = 0

    def crash(step: Step) -> None:
        nonlocal trimmed
        if step.stage is stage and trimmed == parts_before:
            raise Crash
        trimmed += step.stage is Stage.TRIMMED

    with pytest.raises(Crash):
        await move(world, folder, crash, part_entries_max=3)
    assert await world.ledger.verify() == ()
    await move(world, folder, part_entries_max=3)
    assert len(await all_entries(world.ledger)) == 4
    await assert_whole(world, folder, before)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from budgets.archive import archive
from budgets.archive_files import ArchiveFolder
from budgets.connection import connect
from budgets.redis_store import RedisLedger

async def main(url, name, offset_ms, sink, before_ms, stage):
    def die(step):
        if step.stage == stage:
            os._exit(9)
    async with connect(url) as client:
        ledger = RedisLedger(client, name, clock_offset_ms=int(offset_ms))
        await archive(ledger, ArchiveFolder(Path(sink), "a/b"), zone="UTC",
                      before_ms=int(before_ms), observe=die, part_entries_max=3)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_process_leaves_what_the_next_one_goes_on_with(
    redis_world: RedisWorld, redis_url: str, folder: ArchiveFolder
) -> None:
    """One process after the other is killed, each a stage further; the last one is left alone."""
    before = await months_of_entries(redis_world)
    ledger = redis_world.ledger
    arguments = [redis_url, redis_world.prefix[9:-2], str(ledger.clock_offset_ms)]
    arguments += [str(folder.path.parent), str(await now_cutoff_ms(ledger))]
    for stage in (Stage.FLUSHED, Stage.SEALED, Stage.TRIMMED):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, *arguments, stage, stdout=subprocess.PIPE
        )
        await process.communicate()
        assert process.returncode == 9
        assert await ledger.verify() == ()
    await move(redis_world, folder, part_entries_max=3)
    for leftover in folder.path.glob(".farebox-archive-*"):
        leftover.unlink()
    await assert_whole(redis_world, folder, before)


async def test_only_old_leftovers_of_a_killed_writer_are_removed(
    world: World, folder: ArchiveFolder
) -> None:
    await months_of_entries(world, months=2)
    folder.prepare()
    old, fresh = folder.path / ".farebox-archive-old", folder.path / ".farebox-archive-new"
    for path in (old, fresh):
        path.write_text("half a file")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    await move(world, folder)
    assert not old.exists() and fresh.exists()


async def test_several_at_once_move_each_entry_once(world: World, folder: ArchiveFolder) -> None:
    before = await months_of_entries(world, each=9)
    moved = await asyncio.gather(
        *(move(world, folder, part_entries_max=size) for size in (2, 2, 3, 1000))
    )
    assert sum(moved) == 18
    assert [line async for line in everything(world.ledger, folder)] == before
    check = await check_files(world.ledger, folder)
    assert check.problems == ()
    assert await world.ledger.verify(check.sums) == ()


async def test_what_redis_trimmed_while_it_was_read_is_no_failure(
    world: World, folder: ArchiveFolder
) -> None:
    """Another archivist is done with everything between our writing and our reading back."""
    before = await months_of_entries(world)
    begun = asyncio.Event()
    other: list[asyncio.Task[int]] = []

    def let_the_other_win(step: Step) -> None:
        if step.stage is Stage.SEALED and not begun.is_set():
            begun.set()
            other.append(asyncio.ensure_future(move(world, folder, part_entries_max=3)))

    moved = await move(world, folder, let_the_other_win, part_entries_max=2)
    assert moved + await other[0] == 8
    assert [line async for line in everything(world.ledger, folder)] == before
    assert await world.ledger.verify() == ()


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", ["byte", "cut", "manifest", "gone"])
async def test_a_file_that_cannot_be_read_back_trims_nothing(
    world: World, folder: ArchiveFolder, damage: str
) -> None:
    before = await months_of_entries(world)

    def spoil(step: Step) -> None:
        if step.stage is Stage.SEALED:
            (path,) = folder.path.glob("*.manifest.json" if damage == "manifest" else "*.gz")
            damaged(path, damage)

    with pytest.raises(ArchiveFailed):
        await move(world, folder, spoil)
    assert [line async for line in world.ledger.lines()] == before
    assert (await world.ledger.archive_state()).parts == ()
    # The next run writes the same part anew, over what was damaged.
    await move(world, folder)
    await assert_whole(world, folder, before)


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-9])
    elif how == "manifest":
        path.write_bytes(content.replace(b'"entries": 4', b'"entries": 5'))
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


async def test_an_entry_that_is_gone_since_it_was_written_out_trims_nothing(
    redis_world: RedisWorld, redis_url: str, folder: ArchiveFolder
) -> None:
    await months_of_entries(redis_world)
    key = f"{redis_world.prefix}entries"

    def remove_one(step: Step) -> None:
        if step.stage is Stage.SEALED:
            with connect(redis_url, sync=True) as client:
                client.xdel(key, client.xrange(key, count=2)[1][0])

    with pytest.raises(ArchiveFailed, match="is not what Redis holds"):
        await move(redis_world, folder, remove_one)
    assert (await redis_world.ledger.archive_state()).parts == ()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let every write of this process beyond so many bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_trims_nothing_and_leaves_nothing(
    world: World, folder: ArchiveFolder
) -> None:
    before = await months_of_entries(world)
    with files_no_larger_than(50), pytest.raises(OSError, match="large"):
        await move(world, folder)
    assert list(folder.path.iterdir()) == []
    await move(world, folder)
    await assert_whole(world, folder, before)


async def test_a_folder_that_is_a_file_is_an_error_of_the_disk(
    world: World, tmp_path: Path
) -> None:
    await months_of_entries(world, months=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        await move(world, ArchiveFolder(tmp_path / "file", "x"))
    assert await world.ledger.verify() == ()


async def test_a_part_that_does_not_fit_is_not_recorded(
    world: World, folder: ArchiveFolder
) -> None:
    before = await months_of_entries(world, months=1)
    first, last = before[0].id, before[1].id
    part = ArchivedPart(1, "f", "0" * 64, "", first, last, 2)
    sums = Sums({("team", "P1"): 6, ("total", "P1"): 1})
    assert not await world.ledger.trim(replace(part, after=first), sums)
    assert not await world.ledger.trim(replace(part, last="99-0"), sums)
    assert await world.ledger.trim(part, sums)
    assert not await world.ledger.trim(part, sums)
    assert await world.ledger.verify() == ()
    assert [line async for line in world.ledger.lines()] == before[2:]


# ── the proof and the repair, with an archive ────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", ["byte", "cut", "gone"])
async def test_a_damaged_file_is_named(world: World, folder: ArchiveFolder, damage: str) -> None:
    await months_of_entries(world)
    await move(world, folder)
    _, second = (await world.ledger.archive_state()).parts
    damaged(folder.path / second.file, damage)
    check = await check_files(world.ledger, folder)
    assert [problem.file for problem in check.problems] == [second.file]
    assert check.sums.damaged == second.file
    # Only the file is in doubt: the recorded sums still prove the counters.
    found = await world.ledger.verify(check.sums)
    assert {it.counter for it in found} <= {"archived"}
    assert {it.where for it in found} <= {second.file}
    assert await world.ledger.verify() == ()


async def test_a_forged_file_says_which_counter_parts_from_it(
    world: World, folder: ArchiveFolder
) -> None:
    await months_of_entries(world)
    await move(world, folder)
    (part, _) = (await world.ledger.archive_state()).parts
    path = folder.path / part.file
    text = gzip.decompress(path.read_bytes()).decode()
    assert text.count('[\\"team\\",\\"P1\\",\\"3\\"]') == 4
    forged = text.replace('[\\"team\\",\\"P1\\",\\"3\\"]', '[\\"team\\",\\"P1\\",\\"2\\"]', 1)
    path.write_bytes(gzip.compress(forged.encode()))
    check = await check_files(world.ledger, folder)
    assert "SHA-256" in check.problems[0].problem
    assert await world.ledger.verify(check.sums) == (
        Difference("archived", "team", "P1", 24, 23, part.file),
    )


async def test_a_file_that_is_no_part_of_the_archive_is_told_and_not_counted(
    world: World, folder: ArchiveFolder
) -> None:
    await months_of_entries(world)
    await move(world, folder)
    stranger = folder.path / "2020-01-000009-0000000000000000.jsonl.gz"
    stranger.write_bytes(gzip.compress(b"{}\n"))
    check = await check_files(world.ledger, folder)
    assert check.problems == () and check.unrecorded == (stranger.name,)
    assert await world.ledger.verify(check.sums) == ()


async def test_a_lost_counter_of_archived_entries_is_rebuilt_from_the_recorded_sums(
    redis_world: RedisWorld, redis_client: Redis, folder: ArchiveFolder
) -> None:
    await months_of_entries(redis_world)
    await move(redis_world, folder)
    ledger = redis_world.ledger
    spent = (await state(ledger)).spent_nano_usd
    await redis_client.delete(f"{redis_world.prefix}budget:P1:team")
    changed = await ledger.rebuild("os:ann", lease_ms=LEASE_MS, pause_ms=1000)
    assert changed == (Difference("spent", "team", "P1", 0, spent, "the live stream"),)
    assert await ledger.verify(await file_sums(redis_world, folder)) == ()


async def test_recorded_sums_that_are_wrong_are_rebuilt_from_the_files(
    redis_world: RedisWorld, redis_client: Redis, folder: ArchiveFolder
) -> None:
    await months_of_entries(redis_world)
    await move(redis_world, folder)
    ledger = redis_world.ledger
    await redis_client.hincrby(f"{redis_world.prefix}archived", "P1:team", 5)
    sums = await file_sums(redis_world, folder)
    wrong = (Difference("archived", "team", "P1", 29, 24, "the sums recorded in Redis"),)
    assert await ledger.verify(sums) == wrong
    assert await ledger.rebuild("os:ann", archived=sums, lease_ms=1, pause_ms=1000) == wrong
    assert await ledger.verify(sums) == ()
    assert await ledger.verify() == ()


async def test_sums_of_an_older_archive_prove_nothing(world: World, folder: ArchiveFolder) -> None:
    await months_of_entries(world)
    sums = (await check_files(world.ledger, folder)).sums
    await move(world, folder)
    with pytest.raises(ArchiveMoved):
        await world.ledger.verify(sums)
    with pytest.raises(ArchiveMoved):
        await world.ledger.rebuild("os:ann", archived=sums, lease_ms=1, pause_ms=1)


async def test_what_is_archived_while_a_proof_runs_is_no_difference(
    redis_world: RedisWorld, folder: ArchiveFolder
) -> None:
    await months_of_entries(redis_world, each=30)
    moving: list[asyncio.Task[int]] = []

    def begin(time_ms: int) -> None:
        if not moving:
            moving.append(asyncio.ensure_future(move(redis_world, folder, part_entries_max=40)))

    while not moving or not moving[0].done():
        assert await redis_world.ledger.verify(watch=begin) == ()
    assert moving[0].result() == 60


# ── in the background ────────────────────────────────────────────────────────────────────────────


def archivists(world: World, sink: Path | None) -> tuple[Archivist, Archivist]:
    """Return those of two workers, whose policy names this folder."""
    settings = None if sink is None else Settings(sink, "UTC", live_months=1)
    first, second = (
        Archivist(world.ledger, "a/b", lambda: settings, worker) for worker in ("one", "two")
    )
    return first, second


async def test_the_worker_that_leads_archives(world: World, folder: ArchiveFolder) -> None:
    before = await months_of_entries(world, months=2)
    first, second = archivists(world, folder.path.parent)
    done = await first.look()
    assert done is not None and done.entries == 4
    assert await second.look() is None
    again = await first.look()
    assert again is not None and again.entries == 0
    world.advance(4 * 3_600_000)
    assert await second.look() is not None
    await assert_whole(world, folder, before)


async def test_what_could_not_be_archived_is_tried_again(world: World, tmp_path: Path) -> None:
    before = await months_of_entries(world, months=2)
    (tmp_path / "sink").write_text("")
    first, _ = archivists(world, tmp_path / "sink")
    with pytest.raises(OSError):
        await first.look()
    assert [line async for line in world.ledger.lines()] == before
    (tmp_path / "sink").unlink()
    done = await first.look()
    assert done is not None and done.entries == 4


async def test_without_a_folder_nobody_leads(world: World) -> None:
    first, _ = archivists(world, None)
    assert await first.look() is None
    assert await world.ledger.leaders() == ()
