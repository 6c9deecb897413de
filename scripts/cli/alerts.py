"""`farebox alerts`: what was raised and what became of it, a test message, what was given up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from budgets.alerts.channels import ChannelError, Letter, send
from budgets.alerts.kinds import SHOWN, TEMPLATES
from budgets.alerts.outbox import Dead, Progress
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.alerts.render import Message, render, samples
from budgets.alerts.settings import AlertSettings, template_texts
from budgets.config import BudgetsFile
from budgets.drift.signals import SIGNALS
from budgets.home import Home
from budgets.published import Level
from budgets.records import LedgerEvent
from budgets.verify import line_order
from budgets.yamlfile import did_you_mean
from scripts.cli.context import OpenLedger, budgets_of, environment, home_of, open_ledger, zone_of
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.money_view import LEVEL_STYLES
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    console,
    dollars,
    lines,
    table,
    text,
    time_iso,
    time_text,
    write_json,
    write_json_line,
)

FOLLOW_INTERVAL_S = 0.5
EVENTS_READ_MAX = 50_000
"""How far back alerts are sought among the ledger's events."""
ROUTED_WITHIN_MS = 600_000
"""An alert older than this that no worker routed is of a time before there were channels."""
_LEVELS = {level.value: style for level, style in LEVEL_STYLES.items()}
_STATES = {"delivered": "green", "waiting": "yellow", "dead": "red"}

app = typer.Typer(help="Show alerts, test the channels, retry.", no_args_is_help=True)


@app.callback()
def alerts() -> None:
    """Show alerts, test the channels, retry. Example: farebox alerts test --dry-run"""


# ── tail ─────────────────────────────────────────────────────────────────────────────────────────


@app.command()
@command
def tail(
    count: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many to begin with.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest alerts and what became of each in its channels, the oldest of them first.

    Alerts are shown whether a channel is configured or not. With --json each of them is one line
    of JSON.

    Example: farebox alerts tail -n 50 --follow
    """
    asyncio.run(_tail(home_of(config), count, follow, as_json))


async def _tail(home: Home, count: int, follow: bool, as_json: bool) -> None:
    zone = zone_of(home)
    async with open_ledger(home) as opened:
        outbox = RedisOutbox(opened.client, home.ledger)
        newest: list[LedgerEvent] = []
        last = ""
        read = 0
        async for event in opened.ledger.events(newest_first=True):
            last = last or event.id
            read += 1
            if len(newest) == count or read > EVENTS_READ_MAX:
                break
            if event.kind in SHOWN:
                newest.append(event)
        await _show_events(opened, outbox, newest[::-1], zone, as_json)
        if not newest and not follow and not as_json:
            console().print(text("No alert yet. Try a channel: farebox alerts test"))
        while follow:
            await asyncio.sleep(FOLLOW_INTERVAL_S)
            found = [it async for it in opened.ledger.events(after=last)]
            last = max([last, *(it.id for it in found)], key=line_order) if found else last
            shown = [it for it in found if it.kind in SHOWN]
            await _show_events(opened, outbox, shown, zone, as_json)


async def _show_events(
    opened: OpenLedger, outbox: RedisOutbox, events: Sequence[LedgerEvent], zone: str, as_json: bool
) -> None:
    made = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    for event in events:
        known = await outbox.progress(event.id)
        body: dict[str, Any] = json.loads(event.body)
        level = known[0] if known else str(body.get("level", ""))
        channels = known[1] if known else None
        if as_json:
            write_json_line(_event_as_dict(event, body, level, channels))
        else:
            made.add_row(
                Text(time_text(event.time_ms, zone, "%m-%d %H:%M:%S"), no_wrap=True),
                text(level or "–", _LEVELS.get(level, "")),
                text(_what(event.kind, body, zone)),
                _delivered(channels, opened.now_ms - event.time_ms),
            )
    if events and not as_json:
        console().print(made)


def _event_as_dict(
    event: LedgerEvent,
    body: Mapping[str, Any],
    level: str,
    channels: Sequence[Progress] | None,
) -> dict[str, Any]:
    return {
        "id": event.id,
        "time": time_iso(event.time_ms),
        "kind": body.get("of") or event.kind,
        "level": level or None,
        "routed": channels is not None,
        "facts": dict(body),
        "deliveries": [asdict(it) | {"ended": time_iso(it.ended_ms)} for it in channels or ()],
    }


def _what(kind: str, body: Mapping[str, Any], zone: str) -> str:
    """Return an alert in one line."""
    if kind == "gathered":
        amount = f", {dollars(body['sum_nano_usd'])}" if body["sum_nano_usd"] else ""
        return f"{str(body['of']).replace('_', ' ')}: {body['count']:,}{amount}"
    if kind == "test":
        return "a test message"
    if kind in SIGNALS:
        return str(body.get("text", ""))
    if kind == "approval_asked":
        budgets = ", ".join(budget for budget, _ in body["budgets"])
        return f"{body['approval_id']}: {dollars(body['requested_nano_usd'])} for {budgets}"
    budget, limit = body["budget"], dollars(body["limit_nano_usd"])
    spent = f"{dollars(body['spent_nano_usd'])} of {limit} spent in {body['period_id']}"
    if kind == "forecast":
        passes = body.get("passes_at_ms")
        on = f", passes 100 % on {time_text(passes, zone, '%Y-%m-%d')}" if passes else ""
        forecast = dollars(body.get("forecast_nano_usd"))
        return f"{budget}: forecast {forecast}{on}; {spent}"
    if kind == "rate":
        hour, usual = (dollars(body.get(f"{it}_nano_usd")) for it in ("hour", "usual_hour"))
        return f"{budget}: {hour} in an hour, {body.get('times')} times the usual {usual}; {spent}"
    refused = body["level"] == "emergency" and body["spent_nano_usd"] < body["limit_nano_usd"]
    what = "a request did not fit" if refused else f"{body['percent']} % reached"
    return f"{budget}: {what}; {spent}"


def _delivered(channels: Sequence[Progress] | None, age_ms: int) -> Text:
    if channels is None:
        return text("–") if age_ms > ROUTED_WITHIN_MS else text("not routed yet", "yellow")
    if not channels:
        return text("no channel", "dim")
    made = Text()
    for it in channels:
        if made:
            made.append(", ")
        made.append_text(text(f"{it.channel} {it.state}", _STATES[it.state]))
        if it.error:
            made.append_text(text(f" ({it.error})", "dim"))
    return made


# ── test ─────────────────────────────────────────────────────────────────────────────────────────


@app.command()
@command
def test(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="Default: every channel.")
    ] = None,
    message: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Which message: test, informational, warning, critical, emergency, forecast, "
            "rate, …; its figures are made up.",
        ),
    ] = "test",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the message; send nothing.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send a message to the channels now, and say of each whether it arrived.

    It goes out from this command, with the environment of this shell and `.env`: the proxy needs
    the same variables. Levels, kinds and quiet hours do not hold it back. Exit code 1 where a
    channel did not take it.

    Example: farebox alerts test pager --message emergency
    """
    home = home_of(config)
    budgets = budgets_of(home)
    if not isinstance(budgets, BudgetsFile):
        raise budgets
    settings = budgets.alerts
    if message not in TEMPLATES:
        raise wrong_usage(
            f"There is no message {message!r}.", "Hint: " + did_you_mean(message, list(TEMPLATES))
        )
    chosen = _chosen(settings, names or [], home)
    if not chosen and not dry_run:
        raise wrong_usage(
            f"There is no channel in {home.budgets}.",
            "Add one under `alerts`, or look at the message alone: --dry-run.",
        )
    letter, made = _letter(settings, message, budgets.time_zone, home)
    results = {} if dry_run else asyncio.run(_send(settings, chosen, letter, home))
    failed = {name: error for name, error in results.items() if error}
    if as_json:
        write_json(
            {
                "message": {"name": message, "title": made.title, "text": made.text},
                "channels": [
                    {"name": it, "delivered": not error, "error": error or None}
                    for it, error in results.items()
                ],
            }
        )
    else:
        out = console()
        if dry_run:
            out.print(text(made.title, "bold"))
            out.print()
            out.print(lines(made.text), soft_wrap=True)
        for name, error in results.items():
            out.print(text(f"{name}: {error or 'delivered'}", "red" if error else "green"),
                      soft_wrap=True)  # fmt: skip
    if failed:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _chosen(settings: AlertSettings, names: Sequence[str], home: Home) -> list[str]:
    for name in names:
        if name not in settings.channels:
            raise wrong_usage(
                f"There is no channel {name!r} in {home.budgets}.",
                "Hint: " + did_you_mean(name, list(settings.channels)),
            )
    return list(names) or list(settings.channels)


def _letter(settings: AlertSettings, name: str, zone: str, home: Home) -> tuple[Letter, Message]:
    facts = samples(name)[0] | {"zone": zone, "ledger": home.ledger, "test": True}
    if name in {level.value for level in Level}:
        kind, level = "threshold", name
    else:
        kind, level = name, settings.level_of(name).value
    made = render(kind, level, facts, template_texts(settings))
    now_ms = time.time_ns() // 1_000_000
    key = f"test-{now_ms}"
    return Letter(key, key, kind, level, now_ms, made, facts), made


async def _send(
    settings: AlertSettings, names: Sequence[str], letter: Letter, home: Home
) -> dict[str, str]:
    """Return what went wrong in each channel; empty where nothing did."""

    async def one(name: str) -> str:
        try:
            await send(settings.channels[name], letter, lambda: environment(home), letter.time_ms)
        except ChannelError as error:
            return str(error)
        return ""

    errors = await asyncio.gather(*(one(name) for name in names))
    return dict(zip(names, errors, strict=True))


# ── what was given up ────────────────────────────────────────────────────────────────────────────


@app.command()
@command
def dead(config: Config = None, as_json: AsJson = False) -> None:
    """List the deliveries that were given up after many attempts, the newest first.

    Example: farebox alerts dead --json
    """
    home = home_of(config)
    found = asyncio.run(_dead(home))
    if as_json:
        write_json({"dead": [_dead_as_dict(it) for it in found]})
        return
    out, zone = console(), zone_of(home)
    if not found:
        out.print(text("Nothing was given up.", "green"))
        return
    made = table("Given up", "Key", "Level", "Alert", "Attempts", "Reason", right=["Attempts"])
    for it in found:
        facts = json.loads(it.alert.facts)
        level = it.alert.level
        made.add_row(
            Text(time_text(it.time_ms, zone, "%m-%d %H:%M"), no_wrap=True),
            text(f"{it.alert.id}|{it.progress.channel}"),
            text(level, _LEVELS.get(level, "")),
            text(" ".join(filter(None, (it.alert.kind, facts.get("budget"))))),
            str(it.progress.attempts),
            text(it.progress.error),
        )
    out.print(made)
    out.print(text("Try them again: farebox alerts retry --all"))


async def _dead(home: Home) -> tuple[Dead, ...]:
    async with open_ledger(home) as opened:
        return await RedisOutbox(opened.client, home.ledger).dead()


def _dead_as_dict(it: Dead) -> dict[str, Any]:
    return {
        "key": f"{it.alert.id}|{it.progress.channel}",
        "channel": it.progress.channel,
        "kind": it.alert.kind,
        "level": it.alert.level,
        "raised": time_iso(it.alert.time_ms),
        "given_up": time_iso(it.time_ms),
        "attempts": it.progress.attempts,
        "error": it.progress.error,
    }


@app.command()
@command
def retry(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="From: farebox alerts dead")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were given up.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Begin anew with deliveries that were given up; a running proxy sends them.

    Example: farebox alerts retry --all
    """
    if bool(keys) == everything:
        raise wrong_usage("Name keys, or --all.", "See: farebox alerts dead")
    begun = asyncio.run(_retry(home_of(config), keys or []))
    if keys and begun < len(keys):
        raise Problem(
            f"{len(keys) - begun} of these keys was not given up, or is forgotten; "
            f"{begun} begin anew.",
            "See: farebox alerts dead",
        )
    if as_json:
        write_json({"begun": begun})
    else:
        console().print(text(f"{begun:,} deliveries begin anew."))


async def _retry(home: Home, keys: Sequence[str]) -> int:
    async with open_ledger(home) as opened:
        return await retry_keys(opened, keys)


async def retry_keys(opened: OpenLedger, keys: Sequence[str]) -> int:
    """Begin anew with the given deliveries, or with all of them; return how many."""
    outbox = RedisOutbox(opened.client, opened.home.ledger)
    if not keys:
        keys = [f"{it.alert.id}|{it.progress.channel}" for it in await outbox.dead()]
    return await outbox.retry(keys)
