"""Writing the ledger's entries out: which of them, in which form, with a progress bar.

A file appears whole or not at all: it is written beside its place and renamed, so that a stopped
export never leaves half a month behind that looks like all of it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.progress import BarColumn, Progress, TextColumn

from budgets.archive import everything
from budgets.archived import ArchiveMoved
from budgets.config import BudgetsFile
from budgets.home import Home
from budgets.period import Period, PeriodKind, kind_of, period_of_id
from budgets.records import LedgerEntry
from budgets.redis_codec import stream_entry
from scripts.cli import entry_view
from scripts.cli.context import OpenLedger, archive_of, budgets_of, open_ledger
from scripts.cli.entry_view import EntryView
from scripts.cli.errors import Problem, wrong_usage
from scripts.cli.export_writers import ExportFormat, writer_of
from scripts.cli.options import moment_ms
from scripts.cli.output import amount, notes

PROGRESS_EVERY = 200


@dataclass(frozen=True, slots=True)
class Export:
    """What to write: the form, and which entries. `kind` is the period's."""

    form: ExportFormat
    since_ms: int | None
    period: Period | None
    kind: PeriodKind | None
    zone: str = "UTC"

    @classmethod
    def parse(
        cls, form: ExportFormat, *, since: str | None, period: str | None, zone: str, now_ms: int
    ) -> Export:
        """Read the options; raises `Problem` for what cannot be understood."""
        kind = None if period is None else _kind_of(period)
        return cls(
            form,
            None if since is None else moment_ms(since, "--since", zone, now_ms, past=True),
            None if period is None or kind is None else _period_of(period, kind, zone),
            kind,
            zone,
        )

    def wants(self, entry: LedgerEntry) -> bool:
        """Whether an entry belongs to it.

        An entry that charged a budget of the period's kind belongs where that charge is: a settle
        after midnight counts in the period of its hold. Any other is placed by its time.
        """
        if self.since_ms is not None and entry.time_ms < self.since_ms:
            return False
        if self.period is None or self.kind is None:
            return True
        of_kind = {period_id for _, period_id in entry.charges if kind_of(period_id) == self.kind}
        if of_kind:
            return self.period.id in of_kind
        return self.period.contains(entry.time_ms)


@dataclass(slots=True)
class Summary:
    """What was written. `not_read` entries are archived where this command did not get at them,
    `left_out` ones have no place in the form."""

    entries: int = 0
    left_out: int = 0
    charged_nano_usd: int = 0
    not_read: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows of it."""
        return {
            "entries": self.entries,
            **amount("charged", self.charged_nano_usd),
            "archived_entries_not_read": self.not_read,
            "entries_left_out": self.left_out,
        }


def _kind_of(period: str) -> PeriodKind:
    kind = kind_of(period)
    if kind is not None:
        return kind
    raise wrong_usage(
        f"--period: {period!r} is not a period.",
        "Write a month like 2026-11, a week like 2026-W47, or a day like 2026-11-21.",
    )


def _period_of(period: str, kind: PeriodKind, zone: str) -> Period:
    found = period_of_id(period, zone)
    if found is not None:
        return found
    raise wrong_usage(f"--period: there is no {kind} {period!r} in the calendar.")


async def export_to(home: Home, export: Export, output: Path | None) -> Summary:
    """Write the entries to a file, or to standard output; return what was written."""
    summary = Summary()
    async with open_ledger(home) as opened:
        with _target(output) as stream, _progress(output) as progress:
            writer = writer_of(export.form, stream, home.ledger, export.zone)
            entries, summary.not_read = await _entries(opened)
            async for line in _selected(opened, entries, export, progress):
                if not writer.add(line):
                    summary.left_out += 1
                    continue
                summary.entries += 1
                summary.charged_nano_usd += line.charged_nano_usd
            writer.close()
    return summary


async def _entries(opened: OpenLedger) -> tuple[AsyncIterator[LedgerEntry], int]:
    """Return all entries, those of the archive first, and how many archived ones are not there."""
    state = await opened.ledger.archive_state()
    if not state.parts:
        return opened.ledger.entries(), 0
    budgets = budgets_of(opened.home)
    folder = archive_of(opened.home, budgets) if isinstance(budgets, BudgetsFile) else None
    if folder is None or not folder.path.is_dir():
        return opened.ledger.entries(), state.entries

    async def read() -> AsyncIterator[LedgerEntry]:
        try:
            async for line in everything(opened.ledger, folder):
                yield stream_entry(line.id, line.fields)
        except ArchiveMoved:
            raise Problem("Entries were archived meanwhile.", "Run the export again.") from None

    return read(), 0


async def _selected(
    opened: OpenLedger,
    entries: AsyncIterator[LedgerEntry],
    export: Export,
    progress: Progress,
) -> AsyncIterator[EntryView]:
    """Yield the wanted entries. Progress is measured in time: nobody knows how many there are."""
    start_ms: int | None = None
    task = progress.add_task("Exporting", total=None)
    read = 0
    async for entry in entries:
        if start_ms is None:
            start_ms = entry.time_ms
            progress.update(task, total=max(1, opened.now_ms - start_ms))
        read += 1
        if read % PROGRESS_EVERY == 0:
            progress.update(task, completed=entry.time_ms - start_ms)
        if export.wants(entry):
            yield entry_view.view(entry)


def _progress(output: Path | None) -> Progress:
    out = notes()
    # On a terminal the lines themselves would run through the bar.
    shown = out.is_terminal and (output is not None or not sys.stdout.isatty())
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        console=out, disable=not shown, transient=True,
    )  # fmt: skip


@contextlib.contextmanager
def _target(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            yield stream
        os.replace(temporary, output)
        temporary = None
    except OSError as error:
        raise wrong_usage(
            f"--output: {output} cannot be written: {error.strerror or error}.",
            "Name a file in a folder that exists and that you can write to.",
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
