"""What the commands for choosing share: options, reading the ledger's traffic, printing tables."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from budgets.config import BudgetsFile
from budgets.home import Home
from scripts.choosing.tables import Table
from scripts.choosing.traffic import Traffic, read_traffic
from scripts.cli.context import archive_of, budgets_of, open_ledger
from scripts.cli.errors import Problem, wrong_usage
from scripts.cli.options import duration_s
from scripts.cli.output import table as new_table
from scripts.cli.output import text
from scripts.cli.time_bar import time_bar
from scripts.yaml_edit import Edit, EditConflict

Since = Annotated[
    str,
    typer.Option("--last", metavar="TIME", help="How far back the ledger is read, such as 30d."),
]
Simulated = Annotated[
    bool,
    typer.Option(
        "--include-simulated",
        help="Count what a simulator answered too. Its times and lengths are not a model's.",
    ),
]


WIDE = 110
"""The width of a terminal from which tables show all their columns."""


def traffic_of(home: Home, last: str, include_simulated: bool) -> Traffic:
    """Return the traffic of the time before now.

    Raises:
        Problem: the length of time cannot be read.
        LedgerUnavailable, RedisServerError, EmbeddedRedisError: there is no ledger to read.
    """
    length_ms = duration_s(last, "--last") * 1000
    return asyncio.run(_read(home, length_ms, include_simulated))


async def _read(home: Home, length_ms: int, include_simulated: bool) -> Traffic:
    budgets = budgets_of(home)
    archive = archive_of(home, budgets) if isinstance(budgets, BudgetsFile) else None
    async with open_ledger(home) as opened:
        end_ms = opened.now_ms + 1
        with time_bar("Reading", end_ms) as watch:
            return await read_traffic(
                opened.ledger,
                archive,
                end_ms - length_ms,
                end_ms,
                include_simulated=include_simulated,
                watch=watch,
            )


def nothing_measured(traffic: Traffic) -> Problem:
    """Return the problem of a ledger without anything to measure."""
    hint = "Send requests through the proxy first."
    if traffic.simulated:
        hint = "All of them were simulated: --include-simulated counts those too, for a rehearsal."
    return Problem(f"The ledger has nothing to measure: {traffic.as_told()}.", hint)


def print_table(out: Console, shown: Table, *, rows_max: int | None = None) -> None:
    """Print a table with its title and what there is to know about it."""
    if out.width < WIDE:
        shown = shown.narrow()
    right = [column.heading for column in shown.columns if column.right]
    made = new_table(*(column.heading for column in shown.columns), right=right, title=shown.title)
    for cells in shown.cells()[:rows_max]:
        made.add_row(*(text(cell) for cell in cells))
    out.print(made)
    out.print(text(f"  {shown.about}", "dim"))
    out.print()


def shown_path(home: Home, path: Path) -> str:
    """Return a file's path as seen from litellm_config.yaml, so that `git apply` finds it."""
    return Path(os.path.relpath(path, home.config.parent)).as_posix()


def print_diff(out: Console, diff: str) -> None:
    """Print a unified diff in its colours."""
    for line in diff.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        out.print(text(line, colour), soft_wrap=True)


def write_edit(edit: Edit) -> None:
    """Write an edit; raises `Problem` where that cannot be done."""
    try:
        edit.write()
    except EditConflict:
        raise Problem(f"{edit.path} has changed meanwhile.", "Run the command again.") from None
    except OSError as error:
        raise Problem(f"{edit.path} cannot be written: {error.strerror}.") from None


def write_file(path: Path, content: bytes, option: str = "--out") -> None:
    """Write a file whole or not at all; raises `Problem`."""
    if not path.parent.is_dir():
        raise wrong_usage(
            f"{option}: there is no folder {path.parent}.", "Name a folder that exists."
        )
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        # A temporary file is its owner's alone; this one is as any other that a command writes.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise wrong_usage(
            f"{option}: {path} cannot be written: {error.strerror or error}.",
            "Name a file in a folder that you can write to.",
        ) from None
