"""`farebox demo`: a varied set of requests through a running proxy, and what became of each.

Costs are read from the ledger, by the decision ids in the answers' headers, once they are settled:
never guessed from a list of prices.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from budgets import money
from budgets.errors import LedgerUnavailable
from budgets.home import Home
from budgets.prices import UnknownPrice
from budgets.yamlfile import ConfigErrors
from hooks.explained import why
from scripts.cli import entry_view
from scripts.cli.context import OpenLedger, home_of, open_ledger, policy_of
from scripts.cli.demo_requests import FALLBACK_REFUSAL, REQUESTS, DemoRequest, Dialect, Outcome
from scripts.cli.entry_view import EntryView
from scripts.cli.errors import ExitCode, Problem, command
from scripts.cli.http import KeyFileOption, ProxyOption, proxy_of
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    amount,
    clean,
    console,
    cost,
    dollars,
    notes,
    percent,
    share,
    table,
    text,
    write_json,
)

if TYPE_CHECKING:
    from scripts.cli.demo_client import DemoClient

AT_ONCE = 4
WIDE_MIN = 110
SETTLE_TIMEOUT_S = 15.0
SETTLE_POLL_S = 0.2
CLOCK_SLACK_MS = 60_000


@dataclass(frozen=True, slots=True)
class Settled:
    """What the ledger says about the demo's requests, by decision id."""

    entries: Mapping[str, EntryView]
    decisions: Mapping[str, Mapping[str, Any]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Frontier:
    """What the same tokens would have cost on the strongest category's base group."""

    group: str
    nano_usd: int


@command
def demo(
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send varied requests through a running proxy.

    Shows where each of 20 went, why, and what it cost. All four categories, many task types,
    streams, three dialects, and one request that a tiny budget refuses. Groups with a provider key
    call the real provider and cost real money: a few cents. Exit code 1 if something did not come
    out as it should.

    Example: farebox demo --proxy http://127.0.0.1:4000
    """
    # Here and not above: the SDKs take a second to import, and no other command needs them.
    from scripts.cli.demo_client import DemoClient

    home = home_of(config)
    target = proxy_of(proxy, key_file, home)
    client = DemoClient(target)
    requests = [
        one for one in REQUESTS if one.dialect is not Dialect.MESSAGES or client.has_anthropic
    ]
    outcomes = _send_all(client, requests)
    settled = asyncio.run(_settled(home, outcomes, target.is_local))
    frontier = _frontier(home, settled)
    if as_json:
        write_json(_as_dict(outcomes, settled, frontier))
    else:
        _show(outcomes, settled, frontier)
    if not all(one.is_as_expected for one in outcomes):
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _send_all(client: DemoClient, requests: Sequence[DemoRequest]) -> list[Outcome]:
    """Send the first alone, so that a wrong address or key ends it at once; then some at a time."""
    out = notes()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("Sending requests", total=len(requests))
        found = [client.send(requests[0])]
        progress.advance(task)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = {pool.submit(client.send, one): one for one in requests[1:]}
            for done in as_completed(running):
                progress.advance(task)
                if done.exception() is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
            found += [one.result() for one in running]
        for position, outcome in enumerate(found):
            if outcome.request.expects_refusal and not outcome.is_as_expected:
                # These budgets lack the pack's tiny one, so the request was rightly served.
                found[position] = client.send(FALLBACK_REFUSAL)
    return found


# ── what the ledger says ─────────────────────────────────────────────────────────────────────────


async def _settled(home: Home, outcomes: Sequence[Outcome], is_local: bool) -> Settled:
    """Wait, within a bound, until every answered request has its entry."""
    ids = {one for outcome in outcomes if (one := outcome.header("decision"))}
    waiting = {
        one for outcome in outcomes if outcome.status == 200 and (one := outcome.header("decision"))
    }
    if not ids:
        return Settled({}, {}, "The answers have no x-farebox-decision: is this proxy governed?")
    if not is_local and home.redis_url is None:
        return Settled({}, {}, "Set REDIS_URL to the proxy's ledger to see the costs.")
    try:
        async with open_ledger(home) as opened:
            decisions = await _decisions(opened, ids)
            if not decisions:
                return Settled({}, {}, "This proxy writes to another ledger, so costs are unknown.")
            return await _entries(opened, waiting, decisions)
    except (Problem, LedgerUnavailable) as error:
        return Settled({}, {}, f"The ledger cannot be read, so costs are unknown: {error}")


async def _decisions(opened: OpenLedger, ids: set[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for one in ids:
        stored = await opened.ledger.decision(one)
        if stored is not None and isinstance(parsed := json.loads(stored), dict):
            found[one] = parsed
    return found


async def _entries(
    opened: OpenLedger, waiting: set[str], decisions: Mapping[str, Mapping[str, Any]]
) -> Settled:
    oldest_ms = opened.now_ms - int((SETTLE_TIMEOUT_S + 600) * 1000) - CLOCK_SLACK_MS
    deadline = asyncio.get_running_loop().time() + SETTLE_TIMEOUT_S
    found: dict[str, EntryView] = {}
    while True:
        async for entry in opened.ledger.entries(newest_first=True):
            if entry.time_ms < oldest_ms:
                break
            line = entry_view.view(entry)
            if line.decision_id in waiting and line.decision_id not in found:
                found[line.decision_id] = line
        missing = waiting - found.keys()
        if not missing:
            return Settled(found, decisions)
        if asyncio.get_running_loop().time() > deadline:
            return Settled(found, decisions, f"{len(missing)} requests are not settled yet.")
        await asyncio.sleep(SETTLE_POLL_S)


def _frontier(home: Home, settled: Settled) -> Frontier | None:
    """Price the settled tokens at the base group of the largest category, where that is known."""
    try:
        policy = policy_of(home)
    except (ConfigErrors, Problem):
        return None
    category = list(policy.routing.categories)[-1]
    found = policy.groups.groups.get(category)
    name = found.primary if found is not None else None
    group = policy.groups.groups.get(name) if name else None
    if name is None or group is None or isinstance(group.prices, UnknownPrice):
        return None
    total, price = 0, group.prices[0]
    for line in settled.entries.values():
        if line.usage is None:
            return None
        total += price.cost(line.usage)
    return Frontier(name, total) if settled.entries else None


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def _as_dict(
    outcomes: Sequence[Outcome], settled: Settled, frontier: Frontier | None
) -> dict[str, Any]:
    rows = []
    for one in outcomes:
        line = settled.entries.get(one.header("decision") or "")
        rows.append(
            {
                "request": one.request.title,
                "as_expected": one.is_as_expected,
                "status": one.status,
                "code": one.code,
                "error": one.error,
                "category": one.header("category"),
                "task_type": one.header("task-type"),
                "why": _why(one, settled),
                "model": one.header("model"),
                "decision_id": one.header("decision"),
                "mode": one.header("mode"),
                "simulated": one.header("simulated") == "true",
                "warning": one.header("warning"),
                **amount("cost", line.entry.cost_nano_usd if line else None),
                "budget_remaining_usd": one.header("budget-remaining"),
            }
        )
    return {
        "requests": rows,
        "as_expected": all(one.is_as_expected for one in outcomes),
        **amount("total", _total(settled)),
        "frontier_group": frontier.group if frontier else None,
        **amount("frontier", frontier.nano_usd if frontier else None),
        "note": settled.note,
    }


def _why(outcome: Outcome, settled: Settled) -> str:
    decision = settled.decisions.get(outcome.header("decision") or "", {})
    return why(decision) or outcome.header("task-type") or ""


def _total(settled: Settled) -> int:
    return sum(line.entry.cost_nano_usd for line in settled.entries.values())


def _show(outcomes: Sequence[Outcome], settled: Settled, frontier: Frontier | None) -> None:
    out = console()
    # Where there is little room the reason stands below the request.
    is_wide = out.width >= WIDE_MIN
    columns = ["Request", "Category", "Why", "Model", "Cost", "Budget left"]
    if not is_wide:
        columns = ["Request, why", "Category", "Model", "Cost", "Left"]
    made = table(*columns, right=["Cost", "Budget left", "Left"])
    simulated = 0
    for one in outcomes:
        line = settled.entries.get(one.header("decision") or "")
        simulated += one.header("simulated") == "true"
        failed = one.code is not None or one.error is not None
        reason = one.error or _why(one, settled)
        model = text(one.header("model") or "–")
        charged = cost(line.entry.cost_nano_usd) if line else "–"
        if failed:
            model = text(one.code or f"status {one.status}", "bold red")
            charged = "refused" if one.code else "failed"
        title, category = text(one.request.title), text(one.header("category") or "–")
        money_cells: list[Text | str] = [text(charged, "red" if failed else ""), _left(one)]
        if is_wide:
            made.add_row(title, category, text(reason), model, *money_cells)
        else:
            title.append("\n" + clean(reason).replace(", ", "\n"), style="dim")
            made.add_row(title, category, model, *money_cells)
    out.print(made)
    if settled.note:
        out.print(text(settled.note, "yellow"))
    if settled.entries:
        _show_total(settled, frontier)
    if simulated:
        out.print(
            text(
                f"{simulated} answers were simulated: priced like the real models, and free.",
                "black on yellow",
            )
        )
    unexpected = [one for one in outcomes if not one.is_as_expected]
    for one in unexpected:
        out.print(text(f"Not as expected: {one.request.title} (status {one.status}).", "red"))
    if outcomes and all(one.header("mode") == "shadow" for one in outcomes if one.status == 200):
        out.print(text("The proxy is in shadow mode: nothing is rerouted or refused.", "yellow"))


def _show_total(settled: Settled, frontier: Frontier | None) -> None:
    total = _total(settled)
    line = f"Total {cost(total)} for {len(settled.entries)} answers."
    if frontier is not None:
        saved = share(frontier.nano_usd - total, frontier.nano_usd)
        line += f" The same tokens on {clean(frontier.group)}: {cost(frontier.nano_usd)}"
        line += f" ({percent(saved, 0)} saved)."
    console().print(text(line, "bold"))


def _left(outcome: Outcome) -> str:
    remaining = outcome.header("budget-remaining")
    try:
        return dollars(money.from_usd(remaining)) if remaining else "–"
    except money.AmountError:
        return "–"
