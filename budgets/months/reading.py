"""Reads a month's entries out of the archive and Redis, a page at a time, into tallies.

A settle that comes late belongs to the month of its hold, so entries of up to `LATE_MS` after the
month's end are looked at. Files of the archive that end before the month are not opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from budgets.archive import pages
from budgets.archive_files import ArchiveDamaged, ArchiveFolder
from budgets.ledger import Ledger, unwatched
from budgets.months.tally import Tally
from budgets.records import LedgerEntry
from budgets.redis_codec import stream_entry

LATE_MS = 70 * 86_400_000
"""Longer than an ended lease can still be corrected: see `lua/lib.lua`."""
EARLY_MS = 2 * 86_400_000
"""How far a line's id may be behind its time, which never goes back while Redis's clock may."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Entries that could not be read: archived ones whose folder or file is not there."""

    entries: int
    files: tuple[str, ...]


async def entries_between(
    ledger: Ledger, folder: ArchiveFolder | None, start_ms: int, end_ms: int
) -> AsyncIterator[LedgerEntry | Missing]:
    """Iterate over the entries written between two instants (Unix ms), the archived ones first.

    What an archived file should hold and cannot be read is told as `Missing` in its place.
    """
    state = await ledger.archive_state()
    for part in state.parts:
        if _ms(part.last) < start_ms - EARLY_MS or _ms(part.first) > end_ms:
            continue
        if folder is None or not folder.path.is_dir():
            yield Missing(part.entries, (part.file,))
            continue
        read = 0
        try:
            await asyncio.to_thread(folder.check_digest, part)
            async for page in pages(folder, part):
                for line in page:
                    read += 1
                    yield stream_entry(line.id, line.fields)
        except ArchiveDamaged:
            yield Missing(part.entries - read, (part.file,))
    beginning = f"{max(0, start_ms - EARLY_MS)}-0"
    after = max(beginning, state.to, key=_order) if state.to else beginning
    async for entry in ledger.entries(after):
        if entry.time_ms > end_ms:
            return
        yield entry


async def read_months(
    ledger: Ledger,
    folder: ArchiveFolder | None,
    tallies: Sequence[Tally],
    watch: Callable[[int], None] = unwatched,
) -> Missing:
    """Add everything that belongs to some months to their tallies; return what is missing.

    `watch` is told the time (Unix ms) of entries as they are read.
    """
    start_ms = min(it.setting.month.start_ms for it in tallies)
    end_ms = max(it.setting.month.end_ms for it in tallies)
    missing = Missing(0, ())
    async for found in entries_between(ledger, folder, start_ms, end_ms + LATE_MS):
        if isinstance(found, Missing):
            missing = Missing(missing.entries + found.entries, missing.files + found.files)
            continue
        watch(found.time_ms)
        for tally in tallies:
            if tally.wants(found):
                tally.add(found)
    beginning = f"{max(0, start_ms - EARLY_MS)}-0"
    async for refusal in ledger.refusals(beginning):
        if refusal.time_ms >= end_ms:
            break
        for tally in tallies:
            tally.refuse(refusal)
    async for event in ledger.events(beginning):
        if event.time_ms >= end_ms:
            break
        for tally in tallies:
            tally.happen(event)
    async for line in ledger.trail.lines():
        for tally in tallies:
            tally.note(line)
    return missing


def _ms(line_id: str) -> int:
    return _order(line_id)[0]


def _order(line_id: str) -> tuple[int, int]:
    milliseconds, _, number = line_id.partition("-")
    return int(milliseconds), int(number or 0)
