"""`farebox approvals`: look at tickets and answer them, through the running proxy.

Through the proxy, so that the answer bears the name of the person's key, and nobody answers their
own request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from budgets import money
from budgets.approvals.types import MatchBy
from scripts.cli.context import home_of, zone_of
from scripts.cli.errors import command, wrong_usage
from scripts.cli.http import KeyFileOption, ProxyOption, call, proxy_of
from scripts.cli.options import AsJson, Config, moment_ms
from scripts.cli.output import (
    console,
    cost,
    dollars,
    duration_short,
    facts,
    table,
    text,
    time_iso,
    time_text,
    write_json,
)

ROUTE = "/farebox/approvals"
TIME = "%Y-%m-%d %H:%M"
STYLES = {"open": "yellow", "approved": "green", "denied": "red", "expired": "dim"}

app = typer.Typer(help="Look at tickets and answer them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The ticket: its approval_id.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the audit trail.")]
Until = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="When it ends: 2h, 3d, or a date. At most the period's end."),
]


@app.callback()
def approvals() -> None:
    """Look at tickets and answer them. Example: farebox approvals list"""


@app.command("list")
@command
def list_tickets(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are answered or expired.")
    ] = False,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List the open tickets: who asks, for what, how much, and until when it can be answered.

    Example: farebox approvals list --all --json
    """
    home = home_of(config)
    answer = call(proxy_of(proxy, key_file, home), "GET", ROUTE)
    now_ms = int(answer.get("time_ms", 0))
    found = [it for it in answer.get("approvals", []) if everything or it["state"] == "open"]
    if as_json:
        write_json({"approvals": [_as_dict(it) for it in found]})
        return
    out = console()
    if not found:
        out.print(text("No ticket is open." if not everything else "There is no ticket."))
        return
    made = table(
        "Id", "State", "Asks", "For", "Budgets", "Wants", "Requests", "Ends in",
        right=["Wants", "Requests"],
    )  # fmt: skip
    for it in found:
        wait = duration_short(it["expires_ms"] - now_ms) if it["state"] == "open" else "–"
        made.add_row(
            text(it["approval_id"]),
            text(it["state"], STYLES.get(it["state"], "")),
            text(_who(it)),
            text(it["task_type"] or it["kind"]),
            text(", ".join(one["budget"] for one in it["budgets"])),
            _wants(it),
            f"{it['requests']:,}",
            wait,
        )
    out.print(made)


@app.command()
@command
def show(
    approval_id: Id,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show one ticket: who asks, what for, the budgets as they stood, and what became of it.

    Example: farebox approvals show a-3f9d27c6a1
    """
    home = home_of(config)
    route = f"{ROUTE}/{quote(approval_id, safe='')}"
    answer = call(proxy_of(proxy, key_file, home), "GET", route)
    if as_json:
        write_json({"approval": _as_dict(answer["approval"])})
    else:
        _show(answer["approval"], zone_of(home))


@app.command()
@command
def approve(
    approval_id: Id,
    reason: Reason,
    uses: Annotated[int | None, typer.Option(min=1, help="For how many calls. Default: 1.")] = None,
    any_number: Annotated[
        bool, typer.Option("--any-number", help="For any number of calls, up to --amount.")
    ] = False,
    amount: Annotated[
        str | None,
        typer.Option(
            metavar="USD",
            help="The most that they cost together. Default: what was asked for, times --uses.",
        ),
    ] = None,
    until: Until = None,
    by: Annotated[
        MatchBy | None,
        typer.Option(
            help="Which requests may use it: the asking key's that name it in the header "
            "x-farebox-approval (default), all of the key, of its user, or of the task type."
        ),
    ] = None,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Approve a ticket. Above the amount that needs two persons it then waits for the second.

    The second person confirms the terms of the first by giving none.

    Example: farebox approvals approve a-3f9d27c6a1 --uses 5 --until 2h --reason "release day"
    """
    home = home_of(config)
    body: dict[str, Any] = {"reason": reason}
    if any_number and uses is not None:
        raise wrong_usage("--any-number and --uses: give one of them.")
    if any_number or uses is not None:
        body["uses"] = uses
    if amount is not None:
        body["amount_usd"] = amount
    if until is not None:
        now_ms = time.time_ns() // 1_000_000
        body["until"] = time_iso(moment_ms(until, "--until", zone_of(home), now_ms, past=False))
    if by is not None:
        body["by"] = by.value
    route = f"{ROUTE}/{quote(approval_id, safe='')}/approve"
    answer = call(proxy_of(proxy, key_file, home), "POST", route, body)
    if as_json:
        write_json({**answer, "approval": _as_dict(answer["approval"])})
        return
    out = console()
    if answer["status"] == "first":
        out.print(text("Approved by you; a second person must approve it too:", "yellow"))
        out.print(text(f"farebox approvals approve {approval_id} --reason …"), soft_wrap=True)
    else:
        out.print(text("Approved.", "bold green"))
    _show(answer["approval"], zone_of(home))


@app.command()
@command
def deny(
    approval_id: Id,
    reason: Reason,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Deny a ticket: the same breach is then refused without asking again.

    Example: farebox approvals deny a-3f9d27c6a1 --reason "use a smaller model"
    """
    home = home_of(config)
    route = f"{ROUTE}/{quote(approval_id, safe='')}/deny"
    answer = call(proxy_of(proxy, key_file, home), "POST", route, {"reason": reason})
    if as_json:
        write_json({**answer, "approval": _as_dict(answer["approval"])})
    else:
        console().print(text(f"{approval_id} is denied.", "red"))


def _who(it: Mapping[str, Any]) -> str:
    asker = it["asker"]
    return " / ".join(str(name) for name in (asker["key"], asker["user"]) if name) or "unnamed"


def _wants(it: Mapping[str, Any]) -> str:
    wanted = int(it["requested_nano_usd"])
    return cost(wanted) if it["kind"] == "call" else dollars(wanted)


def _show(it: Mapping[str, Any], zone: str) -> None:
    context, state = it["context"], str(it["state"])
    rows: dict[str, Any] = {
        "State": text(state, STYLES.get(state, "")),
        "Asks": _who(it),
        "For": it["task_type"] or it["kind"],
    }
    if it["kind"] == "call":
        rows["Wants"] = f"{_wants(it)} a call at the most"
    else:
        names = " to ".join(str(one["budget"]) for one in it["budgets"])
        until = time_text(it["valid_to_ms"], zone, TIME)
        rows["Wants"] = f"{names}: {_wants(it)} until {until} {zone}"
        rows["Because"] = str(context.get("reason", ""))
    if context.get("estimate_nano_usd") is not None:
        rows["Likely cost"] = f"{cost(context['estimate_nano_usd'])} on {context.get('group')}"
    for one in context.get("budgets", ()):
        bears = one["limit_nano_usd"] + one["carry_nano_usd"] + one["granted_nano_usd"]
        rows[f"Budget {one['budget']}"] = (
            f"spent {dollars(one['spent_nano_usd'])} and held {dollars(one['held_nano_usd'])} of "
            f"{dollars(bears)} in {one['period_id']}, when it was asked"
        )
    if it.get("largest_nano_usd", 0) > it["requested_nano_usd"]:
        rows["The largest"] = f"{cost(it['largest_nano_usd'])}: say --amount to allow that too"
    rows["Requests"] = f"{it['requests']:,} since {time_text(it['opened_ms'], zone, TIME)}"
    if state == "open":
        rows["Answer by"] = f"{time_text(it['expires_ms'], zone, TIME)} {zone}"
    if it["first_approved_by"] and state == "open":
        rows["First approval"] = f"{it['first_approved_by']}: {_terms(it['first_terms'], zone)}"
    if it["decided_by"]:
        when = time_text(it["decided_ms"], zone, TIME)
        rows["Answered"] = f"{state} by {it['decided_by']} on {when}: {it['reason']}"
    if it["terms"] and it["kind"] == "call":
        rows["Allows"] = _terms(it["terms"], zone)
        rows["Used"] = f"{it['uses']:,} calls, {cost(it['used_nano_usd'])}"
    console().print(text(it["approval_id"], "bold underline"))
    console().print(facts(rows))


def _terms(terms: Mapping[str, Any], zone: str) -> str:
    uses = "any number of calls" if terms["uses"] is None else f"{terms['uses']:,} calls"
    ways = {
        "header": "that name it",
        "key": "of its key",
        "user": "of its user",
        "task_type": "of its task type",
    }
    until = time_text(terms["until_ms"], zone, TIME)
    way = ways.get(terms["by"], "")
    return f"{uses} {way}, {cost(terms['amount_nano_usd'])} together, until {until} {zone}"


def _as_dict(it: Mapping[str, Any]) -> dict[str, Any]:
    times = ("opened", "expires", "decided")
    return {
        **it,
        "requested_usd": money.plain(it["requested_nano_usd"]),
        **{name: time_iso(it.get(f"{name}_ms")) for name in times},
    }
