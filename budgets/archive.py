"""Moves entries that are old enough from Redis to files, and proves the files before it trims.

    read a part ─► write, flush, rename ─► read the file back ─► compare with Redis
                ─► record its sums and trim Redis, in one step ─► the next part

A crash at any point loses nothing and doubles nothing: until the last step Redis has every entry
and the file counts for nothing; after it the entries are in a file that was read back from its
place. Several at once are safe: of two that write the same part the second finds that the archive
has moved on, and changes nothing.

Only entries go. What is remembered of a hold stays in Redis for its own time: a late settle of an
`unreconciled` hold needs nothing of the old entry, it writes one of its own with the difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum

from budgets.archive_files import ArchiveDamaged, ArchiveFolder, Manifest, PartWriter
from budgets.archived import (
    ArchivedPart,
    ArchivedSums,
    ArchiveMoved,
    ArchiveState,
    CounterName,
    EntryLine,
    Sums,
)
from budgets.ledger import Ledger, unwatched
from budgets.period import period_at

PART_ENTRIES_MAX = 20_000
"""It bounds how long the trimming keeps Redis busy: some ten milliseconds."""

PAGE_LINES = 500


class ArchiveFailed(Exception):
    """A file that was just written does not hold what Redis holds; nothing was trimmed."""


class Stage(StrEnum):
    """How far a part is, in order; a crash may come after any of them."""

    READING = "reading"
    FLUSHED = "flushed"
    NAMED = "named"
    SEALED = "sealed"
    VERIFIED = "verified"
    TRIMMED = "trimmed"


@dataclass(frozen=True, slots=True)
class Step:
    """What a watcher is told: `time_ms` is the time of the last entry that was reached."""

    stage: Stage
    entries: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Archived:
    """What was archived, or would be; `entries` in all, `parts` in how many files."""

    entries: int
    parts: tuple[ArchivedPart, ...]
    months: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilesCheck:
    """What the files of the archive say: their sums, and which of them are missing or damaged."""

    state: ArchiveState
    sums: ArchivedSums
    problems: tuple[ArchiveDamaged, ...]
    unrecorded: tuple[str, ...]


def cutoff_ms(zone: str, live_months: int, now_ms: int) -> int:
    """Return the beginning of the live months: this one and those before it, in the time zone."""
    start_ms = period_at("month", zone, now_ms).start_ms
    for _ in range(live_months - 1):
        start_ms = period_at("month", zone, start_ms - 1).start_ms
    return start_ms


async def preview(
    ledger: Ledger, zone: str, before_ms: int, watch: Callable[[int], None] = unwatched
) -> Archived:
    """Return what `archive` would take, without writing anything; its `parts` are empty."""
    state = await ledger.archive_state()
    entries, months = 0, set[str]()
    async for line in _old_lines(ledger, state.to, before_ms):
        entries += 1
        months.add(_month(zone, line))
        watch(line.time_ms)
    return Archived(entries, (), tuple(sorted(months)))


async def archive(
    ledger: Ledger,
    folder: ArchiveFolder,
    *,
    zone: str,
    before_ms: int,
    observe: Callable[[Step], None] = lambda _: None,
    part_entries_max: int = PART_ENTRIES_MAX,
) -> Archived:
    """Archive every entry before `before_ms` (Unix ms), the oldest first; return what was moved.

    Raises:
        ArchiveFailed: a file could not be read back as it was written.
        LedgerUnavailable, OSError: Redis or the disk failed. What was trimmed until then is safe in
            its files, and a later call goes on from there.
    """
    await asyncio.to_thread(folder.prepare)
    done: list[Manifest] = []
    while True:
        state = await ledger.archive_state()
        manifest = await _write_part(
            ledger, folder, state, zone, before_ms, part_entries_max, observe
        )
        if manifest is None:
            break
        try:
            time_ms = await _verify_part(ledger, folder, manifest)
        except ArchiveFailed:
            if (await ledger.archive_state()).to != state.to:
                continue  # Somebody else archived these entries while they were being read.
            raise
        observe(Step(Stage.VERIFIED, manifest.entries, time_ms))
        if await ledger.trim(manifest.part, manifest.totals):
            observe(Step(Stage.TRIMMED, manifest.entries, time_ms))
            done.append(manifest)
        elif (await ledger.archive_state()).to == state.to:
            raise ArchiveFailed("the ledger lost entries while they were archived")
    months = sorted({manifest.month for manifest in done})
    parts = tuple(manifest.part for manifest in done)
    return Archived(sum(part.entries for part in parts), parts, tuple(months))


async def _write_part(
    ledger: Ledger,
    folder: ArchiveFolder,
    state: ArchiveState,
    zone: str,
    before_ms: int,
    entries_max: int,
    observe: Callable[[Step], None],
) -> Manifest | None:
    """Write the next part and give it its name; None where there is nothing to archive."""
    writer: PartWriter | None = None
    page: list[EntryLine] = []
    month, time_ms = "", 0
    try:
        async for line in _old_lines(ledger, state.to, before_ms):
            if writer is None:
                month = _month(zone, line)
                # Where a clock went back, the order of names still is that of the entries.
                month = max(month, state.parts[-1].file[: len(month)] if state.parts else "")
                number = len(state.parts) + 1
                writer = await asyncio.to_thread(PartWriter, folder, month, number, state.to)
            elif writer.entries + len(page) == entries_max or _month(zone, line) > month:
                break
            page.append(line)
            time_ms = line.time_ms
            if len(page) == PAGE_LINES:
                await asyncio.to_thread(writer.add, page)
                observe(Step(Stage.READING, writer.entries, time_ms))
                page = []
        if writer is None:
            return None
        await asyncio.to_thread(writer.add, page)
        observe(Step(Stage.READING, writer.entries, time_ms))
        await asyncio.to_thread(writer.finish)
        observe(Step(Stage.FLUSHED, writer.entries, time_ms))
        manifest = await asyncio.to_thread(writer.publish)
        observe(Step(Stage.NAMED, writer.entries, time_ms))
        await asyncio.to_thread(writer.seal, manifest)
        observe(Step(Stage.SEALED, writer.entries, time_ms))
        return manifest
    finally:
        if writer is not None:
            await asyncio.to_thread(writer.close)


async def _verify_part(ledger: Ledger, folder: ArchiveFolder, manifest: Manifest) -> int:
    """Prove that the file holds what Redis holds, line by line; return its last entry's time."""
    part = manifest.part
    live = ledger.lines(part.after)
    sums = Sums()
    time_ms = 0
    try:
        if await asyncio.to_thread(folder.manifest, part) != manifest:
            raise ArchiveFailed(f"{part.file}: its manifest is not what was written")
        await asyncio.to_thread(folder.check_digest, part)
        async for page in pages(folder, part):
            for line in page:
                if await anext(live, None) != line:
                    raise ArchiveFailed(f"{part.file}: the entry {line.id} is not what Redis holds")
                time_ms = line.time_ms
                sums.add(line)
    except ArchiveDamaged as error:
        raise ArchiveFailed(f"a file that was just written cannot be read back: {error}") from error
    if sums != manifest.totals:
        raise ArchiveFailed(f"{part.file}: its sums are not those of its entries")
    return time_ms


async def pages(folder: ArchiveFolder, part: ArchivedPart) -> AsyncIterator[list[EntryLine]]:
    """Yield the entries of a file, some at a time, without keeping others from their work."""
    reading = folder.pages(part)
    while (page := await asyncio.to_thread(next, reading, None)) is not None:
        yield page


async def check_files(
    ledger: Ledger, folder: ArchiveFolder, watch: Callable[[int], None] = unwatched
) -> FilesCheck:
    """Read every file of the archive, and compare it with its manifest and with Redis's record."""
    state = await ledger.archive_state()
    sums = Sums()
    problems: list[ArchiveDamaged] = []
    parted: dict[CounterName, str] = {}
    after = ""
    for part in state.parts:
        own, said = Sums(), Sums()
        found: list[ArchiveDamaged] = []
        try:
            said = (await asyncio.to_thread(folder.manifest, part)).totals
        except ArchiveDamaged as error:
            found.append(error)
        try:
            await asyncio.to_thread(folder.check_digest, part)
        except ArchiveDamaged as error:
            found.append(error)
        try:
            # A damaged file is added up as well, as far as it goes: to say where the sums part.
            async for page in pages(folder, part):
                for line in page:
                    own.add(line)
                watch(page[-1].time_ms)
        except ArchiveDamaged as error:
            found.append(error)
        wrong = own.parts_from(said)
        if part.after != after or (wrong and not found):
            found.append(ArchiveDamaged(part.file, "it does not fit the part before, or its sums"))
        after = part.last
        if found:
            problems.append(found[0])
            parted |= dict.fromkeys(wrong, part.file)
        sums.add_up(own)
    unrecorded = await asyncio.to_thread(folder.unrecorded, state.parts)
    damaged = problems[0].file if problems else ""
    return FilesCheck(
        state,
        ArchivedSums(state.to, sums, damaged, parted),
        tuple(problems),
        tuple(unrecorded),
    )


async def everything(ledger: Ledger, folder: ArchiveFolder) -> AsyncIterator[EntryLine]:
    """Iterate over all entries, those of the archive first.

    Raises:
        ArchiveDamaged: a file is missing or damaged.
        ArchiveMoved: entries were archived meanwhile, and may have been missed.
    """
    state = await ledger.archive_state()
    for part in state.parts:
        await asyncio.to_thread(folder.check_digest, part)
        async for page in pages(folder, part):
            for line in page:
                yield line
    async for line in ledger.lines(state.to):
        yield line
    if (await ledger.archive_state()).to != state.to:
        raise ArchiveMoved


async def _old_lines(ledger: Ledger, after: str, before_ms: int) -> AsyncIterator[EntryLine]:
    """Yield the entries from the beginning on, up to the first that is not old enough."""
    async for line in ledger.lines(after):
        if line.time_ms >= before_ms:
            return
        yield line


def _month(zone: str, line: EntryLine) -> str:
    return period_at("month", zone, line.time_ms).id
