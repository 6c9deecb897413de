"""`farebox ledger verify` and `rebuild`: prove the counters, and set them right."""

from __future__ import annotations

import asyncio
import getpass
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from budgets.archive import check_files
from budgets.archive_files import ArchiveDamaged
from budgets.archived import ArchivedSums, ArchiveMoved
from budgets.config import BudgetsFile
from budgets.home import Home
from budgets.records import Difference
from budgets.verify import mendable
from scripts.cli.context import OpenLedger, archive_of, budgets_of, home_of, open_ledger
from scripts.cli.errors import ExitCode, Problem, command
from scripts.cli.ledger_audit import AuditProof, prove_trail, show_proof
from scripts.cli.options import AsJson, Config
from scripts.cli.output import amount, console, cost, notes, table, text, write_json
from scripts.cli.time_bar import time_bar

DIFFERENCES_SHOWN = 20
PAUSE_MS = 30_000
"""The most that a repair pauses admissions; it ends the pause itself, and sooner."""

ATTEMPTS_MAX = 5
"""How often the archive may grow while it is read: it does once a day."""

Recorded = Annotated[
    bool,
    typer.Option(
        "--recorded",
        help="Count archived entries by the sums that Redis recorded, and read no files.",
    ),
]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof found. `archived` is None where it rests on the recorded sums, `why` says so."""

    differences: tuple[Difference, ...]
    archived: ArchivedSums | None
    entries: int
    files: int
    why: str
    problems: tuple[ArchiveDamaged, ...] = ()
    unrecorded: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the books are proved."""
        return not self.differences and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows of it."""
        return {
            "agrees": self.agrees,
            "differences": [_difference(one) for one in self.differences],
            "archive": {
                "entries": self.entries,
                "files": self.files,
                "read": self.archived is not None,
                "not_read_because": self.why or None,
                "problems": [{"file": it.file, "problem": it.problem} for it in self.problems],
                "unrecorded": list(self.unrecorded),
            },
        }


# ── verify ───────────────────────────────────────────────────────────────────────────────────────


@command
def verify(recorded: Recorded = False, config: Config = None, as_json: AsJson = False) -> None:
    """Prove that every counter is the sum of its entries and open holds.

    Archived entries are read from their files, and the files are proved too. The audit trail is
    proved as a chain, against its anchors outside Redis. Works while requests are under way. Exit
    code 1 at any difference.

    Example: farebox ledger verify
    """
    home = home_of(config)
    started = time.monotonic()
    proof, trail = asyncio.run(_verify(home, recorded))
    seconds = time.monotonic() - started
    if as_json:
        agrees = {"agrees": proof.agrees and trail.agrees}
        write_json(
            proof.as_dict() | agrees | {"audit": trail.as_dict(), "seconds": round(seconds, 3)}
        )
    else:
        _show(proof, seconds)
        show_proof(trail)
    if not (proof.agrees and trail.agrees):
        raise typer.Exit(ExitCode.FALLS_SHORT)


async def _verify(home: Home, recorded: bool) -> tuple[Proof, AuditProof]:
    async with open_ledger(home) as opened:
        proof = await _prove(opened, home, recorded, every_hold=False)
        return proof, await prove_trail(opened)


async def _prove(opened: OpenLedger, home: Home, recorded: bool, *, every_hold: bool) -> Proof:
    with time_bar("Proving", opened.now_ms) as watch:
        for _ in range(ATTEMPTS_MAX):
            try:
                return await _prove_once(opened, home, recorded, every_hold, watch)
            except ArchiveMoved:
                continue
    raise Problem("Entries were archived all the time that the ledger was read.", "Try it again.")


async def _prove_once(
    opened: OpenLedger, home: Home, recorded: bool, every_hold: bool, watch: Callable[[int], None]
) -> Proof:
    ledger = opened.ledger
    state = await ledger.archive_state()
    budgets = budgets_of(home)
    folder = archive_of(home, budgets) if isinstance(budgets, BudgetsFile) else None
    why = ""
    if state.parts and recorded:
        why = "asked for with --recorded"
    elif state.parts and folder is None:
        why = "budgets.yaml names no folder under `archive`"
    elif state.parts and folder is not None and not folder.path.is_dir():
        why = f"the folder {folder.path} is missing"
    if folder is None or why or recorded:
        found = await ledger.verify(every_hold=every_hold, watch=watch)
        return Proof(found, None, state.entries, len(state.parts), why)
    check = await check_files(ledger, folder, watch)
    found = await ledger.verify(check.sums, every_hold=every_hold, watch=watch)
    return Proof(
        differences=found,
        archived=check.sums,
        entries=check.state.entries,
        files=len(check.state.parts),
        why="",
        problems=check.problems,
        unrecorded=check.unrecorded,
    )


# ── rebuild ──────────────────────────────────────────────────────────────────────────────────────


@command
def rebuild(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be set; change nothing.")
    ] = False,
    recorded: Recorded = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Set the counters to what the entries, the archive and the open holds add up to.

    Shows every difference and asks first. New requests are refused with `retry-after` for the
    moment that it takes; requests under way go on. Leaves an event with what was changed and by
    whom. It needs Redis and no proxy: whoever may write to that Redis may do it. Exit code 1
    where something differs and was not set.

    Example: farebox ledger rebuild --dry-run
    """
    home = home_of(config)
    budgets = budgets_of(home)
    if not isinstance(budgets, BudgetsFile):
        raise budgets
    proof, changed = asyncio.run(
        _rebuild(home, budgets, recorded, lambda it: _is_wanted(it, yes, dry_run, as_json))
    )
    if as_json:
        done = [_difference(one) for one in changed]
        write_json(proof.as_dict() | {"changed": done, "dry_run": dry_run})
    elif not proof.differences:
        console().print(text("The ledger agrees with itself: nothing was changed.", "bold green"))
    elif changed:
        console().print(
            text(
                f"Set {_counters(len(changed))} right. The ledger agrees with itself.", "bold green"
            )
        )
    else:
        console().print(text("Nothing was changed."))
    if proof.differences and not changed:
        raise typer.Exit(ExitCode.FALLS_SHORT)


async def _rebuild(
    home: Home, budgets: BudgetsFile, recorded: bool, is_wanted: Callable[[Proof], bool]
) -> tuple[Proof, tuple[Difference, ...]]:
    async with open_ledger(home) as opened:
        proof = await _prove(opened, home, recorded, every_hold=True)
        if proof.problems:
            raise Problem(
                f"The archive is damaged: {proof.problems[0]}.",
                "Put the file back from a copy, or count by the sums that Redis recorded: "
                "--recorded.",
                kind="archive_damaged",
            )
        if proof.unrecorded and proof.differences:
            raise Problem(
                f"Redis does not record the file {proof.unrecorded[0]} of the archive, so it may "
                "have lost its record of more, and the sums would be too small.",
                "Move files of no use out of the folder. If the file belongs to this ledger, "
                "restore Redis from its last backup instead.",
                kind="archive_unrecorded",
            )
        if not mendable(proof.differences) or not await asyncio.to_thread(is_wanted, proof):
            return proof, ()
        try:
            changed = await opened.ledger.rebuild(
                actor(), archived=proof.archived, lease_ms=budgets.lease_ms, pause_ms=PAUSE_MS
            )
            again = mendable(await opened.ledger.verify(proof.archived))
        except ArchiveMoved:
            raise Problem(
                "Entries were archived meanwhile; nothing, or not everything, was set.",
                "Run it again.",
            ) from None
    if again:
        raise Problem(
            f"{_counters(len(again))} did not add up afterwards: something else writes to Redis.",
            "Find out what does, and run it again.",
        )
    return proof, changed


def _is_wanted(proof: Proof, yes: bool, dry_run: bool, as_json: bool) -> bool:
    if not as_json:
        _show_differences(proof.differences)
        _show_archive(proof)
    if dry_run or yes:
        return yes and not dry_run
    if as_json or not sys.stdin.isatty():
        raise Problem(
            f"{_counters(len(proof.differences))} would be set; nothing was changed.",
            "Say --yes to set them, or --dry-run to only see them.",
            kind="not_confirmed",
        )
    return typer.confirm("Set these counters to what was recomputed?")


def actor() -> str:
    """Return who repairs, for the event: the user of the operating system, and the machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"os:{user}@{socket.gethostname()}"


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def _show(proof: Proof, seconds: float) -> None:
    out = console()
    for problem in proof.problems:
        out.print(text(f"The archive is damaged: {problem}.", "bold red"), soft_wrap=True)
    if proof.differences:
        _show_differences(proof.differences)
        out.print(text("The entries are the truth: nothing was changed. Keep this output and a"))
        out.print(text("copy of Redis, and see whether its memory policy evicts keys: farebox"))
        out.print(text("doctor. Then set the counters right: farebox ledger rebuild"))
    elif not proof.problems:
        out.print(text("The ledger agrees with itself.", "bold green"))
        out.print(
            text(f"Every counter is the sum of its entries and open holds ({seconds:.1f} s).")
        )
    _show_archive(proof)


def _show_archive(proof: Proof) -> None:
    if proof.why:
        note = f"The {proof.entries:,} archived entries count by the sums that Redis recorded"
        notes().print(text(f"{note}: {proof.why}.", "yellow"), soft_wrap=True)
    elif proof.files and not proof.problems:
        console().print(
            text(f"{proof.entries:,} of them are archived, in {proof.files} files that are sound.")
        )
    if proof.unrecorded:
        note = f"{len(proof.unrecorded)} files in its folder are no part of the archive, such as"
        notes().print(text(f"{note} {proof.unrecorded[0]}.", "yellow"), soft_wrap=True)


def _is_money(one: Difference) -> bool:
    return one.counter not in ("holds", "leases", "expected_ends")


def _difference(one: Difference) -> dict[str, Any]:
    stored, recomputed = one.stored_nano_usd, one.recomputed_nano_usd
    found: dict[str, Any] = {
        "counter": one.counter,
        "budget": one.budget,
        "period_id": one.period_id,
        "where": one.where or None,
    }
    if _is_money(one):
        return found | amount("stored", stored) | amount("recomputed", recomputed)
    return found | {"stored": stored, "recomputed": recomputed}


def _counters(count: int) -> str:
    return f"{count} counter{'' if count == 1 else 's'}"


def _show_differences(differences: Sequence[Difference]) -> None:
    out = console()
    count = len(differences)
    verb = "does" if count == 1 else "do"
    out.print(text(f"{_counters(count)} {verb} not add up.", "bold red"))
    with_place = any(one.where for one in differences)
    columns = ["Budget", "Period", "Counter", "Stored", "Recomputed", "Off by"]
    made = table(
        *columns,
        *(["Sums part in"] if with_place else []),
        right=["Stored", "Recomputed", "Off by"],
    )
    for one in differences[:DIFFERENCES_SHOWN]:
        figures = [one.stored_nano_usd, one.recomputed_nano_usd]
        figures.append(figures[0] - figures[1])
        made.add_row(
            text(one.budget or "–"),
            text(one.period_id or "–"),
            text(one.counter),
            *(cost(figure) if _is_money(one) else f"{figure:,}" for figure in figures),
            *([text(one.where or "–")] if with_place else []),
        )
    out.print(made)
    if count > DIFFERENCES_SHOWN:
        out.print(text(f"… and {count - DIFFERENCES_SHOWN} more: see --json."))
