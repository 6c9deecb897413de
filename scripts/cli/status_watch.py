"""`farebox status --watch`: what the dashboard shows, in a terminal, until Ctrl-C.

It reads as the dashboard does: a bounded part of the ledger at each look, and one connection for
all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from budgets.connection import RedisServerError
from budgets.errors import LedgerUnavailable
from budgets.home import Home
from budgets.published import Level
from budgets.yamlfile import ConfigErrors
from hooks.board.alert_panel import AlertReader, AlertsFacts
from hooks.board.budget_panel import BudgetHealth, BudgetReader, BudgetsFacts
from hooks.board.decision_panel import DecisionReader, DecisionsFacts
from hooks.board.sources import Sources
from hooks.watch import Watch
from scripts.cli.context import OpenLedger, open_ledger, paths_of, policy_of
from scripts.cli.money_view import LEVEL_STYLES
from scripts.cli.output import (
    clean,
    console,
    cost,
    dollars,
    percent,
    table,
    text,
    time_text,
    used_bar,
    write_json_line,
)
from scripts.cli.status_facts import Status, as_dict, read_at
from scripts.cli.status_view import proxy_facts

EVERY_S = 2.0
ALERTS_SHOWN = 5
REQUESTS_SHOWN = 12
WIDE = 110


def watch(home: Home, as_json: bool, count: int | None = None, every_s: float = EVERY_S) -> None:
    """Show the state of things every `every_s` seconds, `count` times or until Ctrl-C."""
    show = _watch_json if as_json else _watch
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(show(home, count, every_s))


async def _watch_json(home: Home, count: int | None, every_s: float) -> None:
    """Print what `farebox status --json` prints, one line at each look."""
    async with open_ledger(home) as opened:
        for look in _looks(count):
            if look:
                await asyncio.sleep(every_s)
            try:
                write_json_line(as_dict(await read_at(home, opened)))
            except (LedgerUnavailable, RedisServerError) as error:
                write_json_line({"error": {"kind": "ledger_unavailable", "message": str(error)}})


async def _watch(home: Home, count: int | None, every_s: float) -> None:
    out = console()
    async with open_ledger(home) as opened:
        looker = _Looker(home, opened)
        # A screen of its own, so that what was there before comes back at the end.
        with (
            Live(console=out, screen=True, auto_refresh=False)
            if out.is_terminal
            else (contextlib.nullcontext()) as live
        ):
            for look in _looks(count):
                if look:
                    await asyncio.sleep(every_s)
                try:
                    shown = await looker.look(out)
                except (LedgerUnavailable, RedisServerError) as error:
                    shown = text(f"The ledger does not answer: {error}.", "red")
                if live is None:
                    out.print(shown)
                else:
                    live.update(shown, refresh=True)


def _looks(count: int | None) -> Iterator[int]:
    look = 0
    while count is None or look < count:
        yield look
        look += 1


class _Looker:
    """Reads and shows; keeps the last good policy, as a worker does."""

    def __init__(self, home: Home, opened: OpenLedger) -> None:
        self._home = home
        self._opened = opened
        self._policy = policy_of(home)
        paths = paths_of(home)
        self._files = Watch((paths.litellm, paths.routing, paths.budgets))

        async def nothing() -> None:
            return None

        sources = Sources(
            home, opened.client, opened.ledger, lambda: self._policy, nothing, nothing
        )
        self._budgets = BudgetReader(sources)
        self._alerts = AlertReader(sources)
        self._requests = DecisionReader(sources)

    async def look(self, out: Console) -> RenderableType:
        """Return what there is to see now."""
        if self._files.changed():
            with contextlib.suppress(ConfigErrors):
                self._policy = policy_of(self._home)
        zone = self._policy.budgets.time_zone
        found = await read_at(self._home, self._opened)
        budgets = await self._budgets.read()
        alerts = await self._alerts.read()
        requests = await self._requests.read()
        return Group(
            _head(found, zone),
            proxy_facts(found),
            _budget_table(budgets, zone, out.width),
            *_alert_rows(alerts, zone),
            _request_table(requests, zone, out.width),
        )


def _head(found: Status, zone: str) -> Text:
    return Text.assemble(
        ("Farebox", "bold"), f"  {time_text(found.now_ms, zone)} {zone}  ", ("Ctrl-C ends", "dim")
    )


def _budget_table(facts: BudgetsFacts, zone: str, width: int) -> Table:
    names = ["Budget", "Spent", "Held", "Left", "Used", "Burn a day", "Forecast", "Used up"]
    numbers = ["Spent", "Held", "Left", "Burn a day", "Forecast"]
    if width < WIDE:
        for name in ("Held", "Burn a day"):
            names.remove(name)
    made = table(*names, right=numbers)
    for it in facts.budgets:
        cells = dict(zip(_BUDGET_CELLS, _budget_cells(it, zone), strict=True))
        made.add_row(*(cells[name] for name in names))
    more = [f"{rule}: {count:,} more counters" for rule, count in facts.more.items() if count]
    if more:
        made.caption, made.caption_justify = clean("; ".join(more)), "left"
    return made


_BUDGET_CELLS = ("Budget", "Spent", "Held", "Left", "Used", "Burn a day", "Forecast", "Used up")


def _budget_cells(it: BudgetHealth, zone: str) -> list[Text | str]:
    state, found = it.state, it.outlook
    style = LEVEL_STYLES[Level(it.level)] if it.level else "green"
    name = text(it.rule if it.value is None else f"{it.rule} {it.value}")
    if not it.in_force:
        name.append(" not in force", "yellow")
    forecast = found.forecast_nano_usd if found else None
    is_above = it.forecast_used is not None and it.forecast_used >= 1
    passes = found.passes_at_ms if found else None
    form = "%H:%M" if it.config.period == "day" else "%m-%d"
    return [
        name,
        dollars(state.spent_nano_usd),
        dollars(state.held_nano_usd) if state.held_nano_usd else "–",
        text(dollars(state.remaining_nano_usd), "red" if state.remaining_nano_usd < 0 else ""),
        used_bar(state.spent_nano_usd, state.held_nano_usd, state.bearable_nano_usd, style),
        dollars(found.burn_nano_usd_per_day if found else None),
        text(dollars(forecast), "red" if is_above else ""),
        text(time_text(passes, zone, form), "red") if passes else "",
    ]


def _alert_rows(facts: AlertsFacts, zone: str) -> Iterator[RenderableType]:
    for it in facts.rows[:ALERTS_SHOWN]:
        style = LEVEL_STYLES.get(Level(it.level), "") if it.level in _LEVELS else ""
        yield Text.assemble(
            (time_text(it.time_ms, zone, "%m-%d %H:%M  "), "dim"),
            (clean(it.level or "alert"), style),
            f"  {clean(it.title)}",
        )


_LEVELS = frozenset(level.value for level in Level)


def _request_table(facts: DecisionsFacts, zone: str, width: int) -> Table:
    is_wide = width >= WIDE
    names = ["Time", "Outcome", "Category", *(["Why"] if is_wide else []), "Model", "Key", "Cost",
             *(["Error"] if is_wide else [])]  # fmt: skip
    made = table(*names, right=["Cost", "Error"])
    for it in facts.rows[:REQUESTS_SHOWN]:
        outcome = f"{it.outcome} {it.code}".strip()
        cells: dict[str, Text | str] = {
            "Time": time_text(it.time_ms, zone, "%H:%M:%S"),
            "Outcome": text(outcome, "green" if it.is_good else "red"),
            "Category": text(it.field("category") or "–"),
            "Why": text(it.why or it.field("task_type") or "–"),
            "Model": text(it.served or "–"),
            "Key": text(it.field("key_name") or "–"),
            "Cost": cost(it.cost_nano_usd),
            "Error": percent(it.error),
        }
        made.add_row(*(cells[name] for name in names))
    if not facts.rows:
        made.caption = "No request yet."
    return made
