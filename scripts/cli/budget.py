"""`farebox budget show`: each budget in detail. Grants and transfers are in `budget_grants`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from budgets.config import Budget, BudgetsFile
from budgets.home import Home
from budgets.yamlfile import did_you_mean
from scripts.cli import budget_grants
from scripts.cli.context import budgets_of, home_of, open_ledger
from scripts.cli.errors import command, wrong_usage
from scripts.cli.money_view import LEVEL_STYLES, BudgetView, budget_views
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    console,
    dollars,
    duration_text,
    facts,
    table,
    text,
    time_iso,
    time_text,
    used_bar,
    write_json,
)

app = typer.Typer(help="Show budgets, grant them more, transfer.", no_args_is_help=True)


@app.callback()
def budget() -> None:
    """Show budgets, grant them more, transfer. Example: farebox budget show FAST"""


@app.command()
@command
def show(
    name: Annotated[
        str | None, typer.Argument(help="One budget of budgets.yaml. Default: all of them.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what each budget matches, its limit, what is spent and held, and its thresholds.

    A budget with `each` shows the counter of every value that was seen in this period.

    Example: farebox budget show team-a --json
    """
    home = home_of(config)
    budgets = budgets_of(home)
    if not isinstance(budgets, BudgetsFile):
        raise budgets
    if name is not None and name not in budgets.budgets:
        raise wrong_usage(
            f"There is no budget {name!r} in {home.budgets}.",
            "Hint: " + did_you_mean(name, list(budgets.budgets)),
        )
    views, now_ms = asyncio.run(_read(home, budgets))
    views = [view for view in views if name is None or view.rule == name]
    if as_json:
        write_json(
            {
                "time": time_iso(now_ms),
                "time_zone": budgets.time_zone,
                "budgets": [view.as_dict() for view in views],
            }
        )
        return
    out = console()
    rules = [view for view in views if view.value is None]
    if not rules:
        out.print(text(f"{home.budgets} has no budget: nothing is limited."))
    for view in rules:
        instances = [one for one in views if one.value is not None and one.rule == view.rule]
        _show(out, view, instances, budgets, now_ms)


async def _read(home: Home, budgets: BudgetsFile) -> tuple[list[BudgetView], int]:
    async with open_ledger(home) as opened:
        return await budget_views(opened, budgets), opened.now_ms


def _show(
    out: Console,
    view: BudgetView,
    instances: Sequence[BudgetView],
    budgets: BudgetsFile,
    now_ms: int,
) -> None:
    config, state, zone = view.config, view.state, budgets.time_zone
    match = config.match.model_dump(exclude_none=True)
    matches = "; ".join(f"{what}: {', '.join(values)}" for what, values in match.items())
    limit = dollars(state.limit_nano_usd) + f" a {config.period}"
    if config.each:
        limit += f", for each {config.each}"
    rows: dict[str, Text | str] = {}
    if config.description:
        rows["For"] = config.description
    rows["Matches"] = matches or "every request"
    rows["Limit"] = limit
    if not view.published:
        rows["In force"] = text("no: no proxy has read this budget yet", "yellow")
    elif state.limit_nano_usd != config.limit_nano_usd:
        rows["In file"] = text(
            f"{dollars(config.limit_nano_usd)}: no proxy has read this edit yet", "yellow"
        )
    if state.carry_nano_usd:
        rows["Carried over"] = f"{dollars(state.carry_nano_usd)} from closed periods"
    if state.granted_nano_usd:
        rows["Granted"] = f"{dollars(state.granted_nano_usd)} by grants and transfers in force"
    if config.each is None:
        rows["Spent"] = Text.assemble(
            f"{dollars(state.spent_nano_usd)}  ",
            used_bar(
                state.spent_nano_usd, state.held_nano_usd, state.bearable_nano_usd, view.style
            ),
        )
        rows["Held"] = f"{dollars(state.held_nano_usd)} by {state.holds:,} requests under way"
        rows["Left"] = text(
            dollars(state.remaining_nano_usd), "red" if state.remaining_nano_usd < 0 else ""
        )
    rows["Thresholds"] = _thresholds(view, budgets)
    rows["Period"] = (
        f"{view.period.id}, until {time_text(view.period.end_ms, zone, '%Y-%m-%d %H:%M')} {zone} "
        f"(in {duration_text(view.period.end_ms - now_ms)})"
    )
    rows["Limit epoch"] = str(state.limit_epoch)
    own, general = config.per_request_cap_nano_usd, budgets.per_request_cap_nano_usd
    if own is not None or general is not None:
        rows["Cap a request"] = dollars(own if own is not None else general) + (
            "" if own is not None else " (the file's)"
        )
    steps = budgets.escalation.steps(view.rule, _category(config))
    rows["When used up"] = ", ".join([*(step.value for step in steps), "refuse"])
    rows["Mode"] = text(config.mode, "yellow" if config.mode == "shadow" else "")
    out.print(text(view.rule, "bold underline"))
    out.print(facts(rows))
    if config.each is not None:
        out.print(_instances(config.each, instances))
    out.print()


def _thresholds(view: BudgetView, budgets: BudgetsFile) -> Text:
    """Return the levels with their percent; those that were claimed stand out."""
    claimed = set(view.thresholds_claimed)
    made = Text()
    for threshold in budgets.thresholds_of(view.rule).as_ledger():
        if made:
            made.append(", ")
        reached = threshold.level in claimed
        made.append(
            f"{threshold.level.value} {threshold.percent} %" + (" (claimed)" if reached else ""),
            style=LEVEL_STYLES[threshold.level] if reached else "dim",
        )
    return made or text("none")


def _instances(each: str, instances: Sequence[BudgetView]) -> object:
    if not instances:
        return text("  No counter yet in this period.")
    made = table(
        each.replace("_", " ").capitalize(), "Spent", "Held", "Left", "Used", "Level",
        right=["Spent", "Held", "Left"],
    )  # fmt: skip
    for one in instances:
        claimed = one.thresholds_claimed
        made.add_row(
            text(one.value or ""),
            dollars(one.state.spent_nano_usd),
            dollars(one.state.held_nano_usd) if one.state.held_nano_usd else "–",
            dollars(one.state.remaining_nano_usd),
            used_bar(
                one.state.spent_nano_usd,
                one.state.held_nano_usd,
                one.state.bearable_nano_usd,
                one.style,
            ),
            text(claimed[-1].value, one.style) if claimed else "",
        )
    return made


app.command("grant")(budget_grants.grant)
app.command("transfer")(budget_grants.transfer)
app.command("grants")(budget_grants.grants)


def _category(config: Budget) -> str | None:
    """Return the category whose steps count for a budget without its own, where there is one."""
    given = config.match.category
    return given[0] if given is not None and len(given) == 1 else None
