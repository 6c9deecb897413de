"""The `farebox` command: puts the commands together. Each one is a module of its own."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from scripts.cli import (
    alerts,
    approvals,
    budget,
    check,
    demo,
    doctor,
    explain,
    keys,
    ledger,
    month,
    profile,
    queue,
    status,
)

HELP = """Route by need, hold to budgets, account for every nanodollar, and say why.

Exit codes: 0 good, 1 falls short, 2 wrong usage. Every command has --json.

Example: farebox explain "Fix this typo: teh"
"""

app = typer.Typer(
    name="farebox",
    help=HELP,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"farebox {installed_version()}")
        raise typer.Exit()


def installed_version() -> str:
    """Return Farebox's version, as installed."""
    try:
        return version("farebox")
    except PackageNotFoundError:
        return "unknown (not installed)"


@app.callback()
def farebox(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


farebox.__doc__ = HELP

app.command("check")(check.check)
app.command("explain")(explain.explain)
app.command("status")(status.status)
app.add_typer(budget.app, name="budget")
app.add_typer(ledger.app, name="ledger")
app.add_typer(keys.app, name="keys")
app.add_typer(alerts.app, name="alerts")
app.add_typer(approvals.app, name="approvals")
app.add_typer(month.app, name="month")
app.add_typer(queue.app, name="queue")
app.add_typer(profile.app, name="profile")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


if __name__ == "__main__":
    app()
