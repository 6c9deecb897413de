"""`farebox status`: the proxy's workers, the budgets, the requests of this month, shadow mode."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from budgets.connection import RedisServerError
from budgets.errors import LedgerUnavailable
from budgets.home import Home
from budgets.journal import waiting_in
from scripts.cli.context import home_of
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    console,
    write_json,
)
from scripts.cli.shadow import ShadowTotals, show_shadow
from scripts.cli.status_facts import (
    as_dict,
    read,
)
from scripts.cli.status_view import show, show_learned


@command
def status(
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow", help="Show what enforcement would have routed, refused and saved."
        ),
    ] = False,
    learned: Annotated[
        bool,
        typer.Option("--learned", help="Show the learned output lengths and input margins."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Go on every two seconds until Ctrl-C; with --json, a line of JSON each time.",
        ),
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the proxy, budgets and requests.

    Requests are those of this calendar month. The error of an estimate is (actual - estimate) /
    actual, over all answers of a category that can be judged: complete, and not from a cache.
    Overage is the share of requests that cost more than was held for them. Exit code 1 if a worker
    rejects the newest edit of the configuration.

    Example: farebox status --shadow
    """
    home = home_of(config)
    if watch:
        if shadow or learned:
            raise wrong_usage("--watch goes neither with --shadow nor with --learned.")
        # The dashboard's reading takes a while to import: no other command waits for it.
        from scripts.cli.status_watch import watch as watch_status

        watch_status(home, as_json)
        return
    try:
        found = asyncio.run(read(home))
    except (RedisServerError, LedgerUnavailable) as error:
        raise _away(home, error) from error
    if as_json:
        write_json(as_dict(found))
    elif shadow:
        show_shadow(console(), ShadowTotals.read(found.counters), found.period)
    elif learned:
        show_learned(console(), found.learned)
    else:
        show(found)
    if found.refused_edits or found.budget_errors is not None:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _away(home: Home, error: Exception) -> Problem:
    """Return what can be said without the ledger: how much waits for it on this machine."""
    lines, _ = waiting_in(home.journals)
    return Problem(
        str(error).rstrip(".") + f". {lines:,} lines wait for it in this machine's journals.",
        "They are told to it as soon as a proxy on this machine reaches it; keep the folder "
        f"{home.journals}.",
    )
