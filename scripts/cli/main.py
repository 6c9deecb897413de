"""The `farebox` command: puts the commands together. Each one is a module of its own."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from scripts.cli.lazy import lazy_group

HELP = """Route by need, hold to budgets, account for every nanodollar, and say why.

Exit codes: 0 good, 1 falls short, 2 wrong usage. Every command has --json.

Example: farebox explain "Fix this typo: teh"
"""

COMMANDS = {
    "check": "scripts.cli.check:check",
    "explain": "scripts.cli.explain:explain",
    "status": "scripts.cli.status:status",
    "budget": "scripts.cli.budget:app",
    "ledger": "scripts.cli.ledger:app",
    "keys": "scripts.cli.keys:app",
    "alerts": "scripts.cli.alerts:app",
    "drift": "scripts.cli.drift:app",
    "approvals": "scripts.cli.approvals:app",
    "month": "scripts.cli.month:app",
    "queue": "scripts.cli.queue:app",
    "profile": "scripts.cli.profile:app",
    "router": "scripts.cli.router:app",
    "pareto": "scripts.cli.pareto:pareto",
    "pick": "scripts.cli.pick:pick",
    "forecast": "scripts.cli.forecast:show",
    "audit": "scripts.cli.audit:app",
    "checklist": "scripts.cli.checklist:show",
    "agents": "scripts.cli.agents:app",
    "packs": "scripts.cli.packs:app",
    "orchestrate": "scripts.cli.orchestrate:orchestrate",
    "demo": "scripts.cli.demo:demo",
    "doctor": "scripts.cli.doctor:doctor",
}
"""Where each command is; `--help` shows them in this order."""

app = typer.Typer(
    name="farebox",
    cls=lazy_group(COMMANDS),
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


if __name__ == "__main__":
    app()
