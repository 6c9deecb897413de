"""`farebox ledger archive`: move old entries from Redis to files, and prove the files first."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from budgets.archive import Archived, Stage, Step, archive, cutoff_ms, preview
from budgets.archive_files import ArchiveFolder
from budgets.config import BudgetsFile
from budgets.home import Home
from scripts.cli.context import archive_of, budgets_of, home_of, open_ledger
from scripts.cli.errors import Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, text, time_iso, time_text, write_json
from scripts.cli.time_bar import time_bar


@command
def move(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be archived; change nothing.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Move entries older than the live months from Redis to files.

    A running proxy does it by itself every hour, if budgets.yaml has a folder under `archive`.
    Each file is written, flushed to the disk, read back and compared with Redis; only then its
    entries are trimmed. It may be stopped and run again at any time.

    Example: farebox ledger archive --dry-run
    """
    home = home_of(config)
    budgets = budgets_of(home)
    if not isinstance(budgets, BudgetsFile):
        raise budgets
    folder = archive_of(home, budgets)
    if folder is None:
        raise wrong_usage(
            "There is no folder for the archive.",
            f"Name one in {home.budgets}: `archive: {{folder: /path/to/a/folder}}`.",
        )
    try:
        found, before_ms = asyncio.run(_move(home, budgets, folder, dry_run))
    except OSError as error:
        raise Problem(
            f"The archive's folder {folder.path} cannot be written to: {error.strerror or error}.",
            "Redis still has every entry that is not in a file. Make room, or mend the folder.",
            kind="archive_failed",
        ) from error
    if as_json:
        write_json(_as_dict(found, folder, before_ms, dry_run))
    else:
        _show(found, folder, time_text(before_ms, budgets.time_zone, "%Y-%m-%d"), dry_run)


async def _move(
    home: Home, budgets: BudgetsFile, folder: ArchiveFolder, dry_run: bool
) -> tuple[Archived, int]:
    zone = budgets.time_zone
    async with open_ledger(home) as opened:
        before_ms = cutoff_ms(zone, budgets.archive.live_months, opened.now_ms)
        with time_bar("Archiving", before_ms) as bar:
            if dry_run:
                return await preview(opened.ledger, zone, before_ms, bar), before_ms

            def observe(step: Step) -> None:
                if step.stage is Stage.READING:
                    bar(step.time_ms)

            done = await archive(
                opened.ledger, folder, zone=zone, before_ms=before_ms, observe=observe
            )
            return done, before_ms


def _as_dict(
    found: Archived, folder: ArchiveFolder, before_ms: int, dry_run: bool
) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "before": time_iso(before_ms),
        "entries": found.entries,
        "months": list(found.months),
        "folder": str(folder.path),
        "files": [part.file for part in found.parts],
    }


def _show(found: Archived, folder: ArchiveFolder, before: str, dry_run: bool) -> None:
    out = console()
    if not found.entries:
        out.print(text(f"No entry in Redis is from before {before}: there is nothing to archive."))
        return
    months = ", ".join(found.months)
    if dry_run:
        out.print(text(f"Would archive {found.entries:,} entries from before {before} ({months})."))
        return
    count = len(found.parts)
    out.print(
        text(f"Archived {found.entries:,} entries from before {before} ({months}) in "
             f"{count} file{'' if count == 1 else 's'} of {folder.path}"),
        soft_wrap=True,
    )  # fmt: skip
