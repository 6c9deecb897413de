"""`farebox doctor`: what is wrong around Farebox, and how to mend it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer

from budgets.home import Home
from scripts.cli import doctor_checks as checks
from scripts.cli.context import environment, home_of
from scripts.cli.doctor_checks import Result, State
from scripts.cli.errors import ExitCode, Problem, command
from scripts.cli.http import KeyFileOption, ProxyOption, check_url, default_url, find_key
from scripts.cli.options import AsJson, Config
from scripts.cli.output import clean, console, table, text, write_json

STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}


@command
def doctor(
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="A warning falls short, too.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong around Farebox.

    Checks the versions, Redis, the files, the keys, the clock and the proxy. Nothing is changed and
    nothing is sent to a provider. Exit code 1 if anything fails.

    Example: farebox doctor --json
    """
    home = home_of(config)
    url = check_url(proxy or default_url(home))
    try:
        key: str | None = find_key(url, key_file, home)
    except Problem:
        if key_file is not None:
            raise
        key = None
    results = asyncio.run(_all(home, url, key))
    failed = any(one.state is State.FAIL for one in results)
    warned = any(one.state is State.WARN for one in results)
    if as_json:
        write_json(
            {
                "healthy": not failed,
                "checks": [
                    {"name": r.name, "state": r.state.value, "detail": r.detail, "mend": r.mend}
                    for r in results
                ],
            }
        )
    else:
        _show(results)
    if failed or (strict and warned):
        raise typer.Exit(ExitCode.FALLS_SHORT)


async def _all(home: Home, url: str, key: str | None) -> list[Result]:
    environ = environment(home)
    results = [
        *checks.python(),
        *checks.litellm(),
        *checks.lock(),
        *checks.files(home),
        *checks.state_folder(home),
        *checks.master_key(home, environ),
        *checks.providers(home, environ),
        *checks.langfuse(environ),
        *checks.alert_channels(home, environ),
    ]
    of_redis, running = await checks.redis(home)
    return [*results, *of_redis, *checks.proxy(url, key, running)]


def _show(results: Sequence[Result]) -> None:
    made = table("", "Check", "Found")
    for one in results:
        found = text(one.detail)
        if one.mend:
            found.append(f"\n→ {clean(one.mend)}", style="cyan")
        made.add_row(text(one.state.value, STYLES[one.state]), text(one.name), found)
    out = console()
    out.print(made)
    count = Counter(one.state for one in results)
    out.print(
        text(
            f"{count[State.OK]} ok, {count[State.WARN]} warnings, {count[State.FAIL]} failures.",
            STYLES[
                State.FAIL if count[State.FAIL] else State.WARN if count[State.WARN] else State.OK
            ],
        )
    )
