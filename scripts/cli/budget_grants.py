"""`farebox budget grant`, `transfer` and `grants`: more for a budget, for a while.

Through the running proxy, so that the books know who did it and the rule of two persons holds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from budgets.home import Home
from scripts.cli.context import home_of, zone_of
from scripts.cli.errors import command
from scripts.cli.http import KeyFileOption, ProxyOption, call, proxy_of
from scripts.cli.options import AsJson, Config, moment_ms
from scripts.cli.output import console, dollars, table, text, time_iso, time_text, write_json

ROUTE = "/farebox/budget"
TIME = "%Y-%m-%d %H:%M"

Amount = Annotated[str, typer.Argument(metavar="USD", help="How much, in US dollars: 12.50")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the audit trail.")]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN", help="When it ends: 2h, 3d, or a date. Default: the period's end."
    ),
]


@command
def grant(
    budget: Annotated[
        str, typer.Argument(help="The budget; with `each`, its name and a value: users:ann")
    ],
    amount: Amount,
    reason: Reason,
    until: Until = None,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let a budget bear more in its current period. It re-arms the budget's thresholds.

    A grant ends by itself and is never changed or taken back. Above the amount that needs two
    persons it opens a ticket that another admin approves.

    Example: farebox budget grant FAST 25 --until 3d --reason "release week"
    """
    home = home_of(config)
    body = {"budget": budget, "amount_usd": amount, "reason": reason}
    if until is not None:
        body["until"] = _moment(until, home)
    answer = call(proxy_of(proxy, key_file, home), "POST", f"{ROUTE}/grants", body)
    _show_made(answer, zone_of(home), as_json)


@command
def transfer(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The budget that gives.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The budget that gets it.")],
    amount: Amount,
    reason: Reason,
    until: Until = None,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Move money from one budget to another in the current period; their total stays the same.

    Refused where the source has not so much left that is neither spent nor held. With --until it
    goes back at that time.

    Example: farebox budget transfer COMPLEX FAST 10 --reason "many lookups this month"
    """
    home = home_of(config)
    body = {"from": source, "to": target, "amount_usd": amount, "reason": reason}
    if until is not None:
        body["until"] = _moment(until, home)
    answer = call(proxy_of(proxy, key_file, home), "POST", f"{ROUTE}/transfers", body)
    _show_made(answer, zone_of(home), as_json)


@command
def grants(
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List the grants and transfers of the current periods: amount, end, who and why.

    Example: farebox budget grants --json
    """
    home = home_of(config)
    answer = call(proxy_of(proxy, key_file, home), "GET", f"{ROUTE}/grants")
    found = answer["grants"]
    if as_json:
        write_json({"grants": [_as_dict(it) for it in found]})
        return
    if not found:
        console().print(text("No grant or transfer in the current periods."))
        return
    zone, now_ms = zone_of(home), int(answer["time_ms"])
    made = table("Budgets", "Amount", "Until", "By", "Reason", right=["Amount"])
    for it in found:
        over = it["until_ms"] <= now_ms
        made.add_row(
            text(_budgets(it), "dim" if over else ""),
            dollars(it["parts"][-1]["amount_nano_usd"]),
            text(time_text(it["until_ms"], zone, TIME) + (" (over)" if over else "")),
            text(" and ".join(name for name in (it["actor"], it["approver"]) if name)),
            text(it["reason"]),
        )
    console().print(made)


def _moment(until: str, home: Home) -> str:
    now_ms = time.time_ns() // 1_000_000
    return time_iso(moment_ms(until, "--until", zone_of(home), now_ms, past=False)) or ""


def _show_made(answer: Mapping[str, Any], zone: str, as_json: bool) -> None:
    if as_json:
        shown = dict(answer)
        if "grant" in answer:
            shown["grant"] = _as_dict(answer["grant"])
        write_json(shown)
        return
    out = console()
    if "approval_id" in answer:
        out.print(text("It waits for a second person.", "yellow"))
        out.print(text(answer["message"]), soft_wrap=True)
        return
    made = answer["grant"]
    until = time_text(made["until_ms"], zone, TIME)
    amount = dollars(made["parts"][-1]["amount_nano_usd"])
    out.print(text(f"{_budgets(made)}: {amount} until {until} {zone}.", "bold green"))
    for one in answer["budgets"]:
        left = dollars(one["remaining_nano_usd"])
        out.print(text(f"{one['budget']} has {left} left in {one['period_id']}."))


def _budgets(made: Mapping[str, Any]) -> str:
    return " to ".join(part["budget"] for part in made["parts"])


def _as_dict(made: Mapping[str, Any]) -> dict[str, Any]:
    return {**made, "until": time_iso(made["until_ms"]), "time": time_iso(made["time_ms"])}
