"""The panel of months: which are closed, what they cost, and their reports to read or take away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from budgets.months.closer import proved_snapshot
from budgets.months.keeping import RedisSnapshots, SnapshotFolder
from budgets.months.snapshot import Snapshot, SnapshotDamaged
from budgets.period import Period, period_at, period_of_id
from hooks.board.sources import Sources

MONTHS_SHOWN = 13

FILES: Mapping[str, tuple[str, str]] = {
    "report.html": ("Report", "text/html; charset=utf-8"),
    "report.md": ("Report as Markdown", "text/markdown; charset=utf-8"),
    "report.json": ("Figures as JSON", "application/json"),
    "json": ("Snapshot", "application/json"),
}
"""The files of a month by what follows its name: what they are, and their media types."""


@dataclass(frozen=True, slots=True)
class MonthRow:
    """One month. `snapshot` is None where it is not closed; `damage` says why it cannot be read."""

    period: Period
    snapshot: Snapshot | None
    damage: str
    requests: int
    cost_nano_usd: int
    files: tuple[str, ...]

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, whatever became of its snapshot."""
        return self.snapshot is not None or bool(self.damage)


@dataclass(frozen=True, slots=True)
class MonthsFacts:
    """This month and the last ones in which there was anything, the newest first."""

    rows: tuple[MonthRow, ...]
    now_ms: int
    file_names: Mapping[str, tuple[str, str]]


async def read(sources: Sources) -> MonthsFacts:
    """Return the months of the last year."""
    now_ms = await sources.ledger.now_ms()
    period = period_at("month", sources.zone, now_ms)
    periods = [period]
    while len(periods) < MONTHS_SHOWN:
        period = period_at("month", sources.zone, period.start_ms - 1)
        periods.append(period)
    found = await asyncio.gather(*(_row(sources, it) for it in periods))
    rows = [it for place, it in enumerate(found) if place == 0 or it.requests or it.is_closed]
    return MonthsFacts(tuple(rows), now_ms, FILES)


async def _row(sources: Sources, period: Period) -> MonthRow:
    snapshots = RedisSnapshots(sources.client, sources.home.ledger)
    snapshot, damage = None, ""
    try:
        snapshot = await proved_snapshot(sources.ledger, snapshots, period.id)
    except SnapshotDamaged as error:
        damage = str(error)
    totals = snapshot.totals if snapshot else await sources.ledger.counters(period.id)
    files = await asyncio.to_thread(_files, sources, period.id)
    return MonthRow(
        period,
        snapshot,
        damage,
        totals.get("all:requests", 0),
        totals.get("all:actual_nano", 0),
        files,
    )


def _files(sources: Sources, period_id: str) -> tuple[str, ...]:
    return tuple(it for it in FILES if _place(sources, period_id, it).is_file())


def _place(sources: Sources, period_id: str, ending: str) -> Path:
    folder = SnapshotFolder(sources.home.folder, sources.home.ledger).path
    return folder / f"{period_id}.{ending}"


async def file(sources: Sources, period_id: str, ending: str) -> tuple[bytes, str] | None:
    """Return a file of a month with its media type; None where there is none.

    Both names are looked up, so that no other file can be asked for.
    """
    period = period_of_id(period_id, sources.zone)
    if period is None or period.id != period_id or ending not in FILES:
        return None
    try:
        content = await asyncio.to_thread(_place(sources, period_id, ending).read_bytes)
    except OSError:
        return None
    return content, FILES[ending][1]
