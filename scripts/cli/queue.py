"""`farebox queue`: what waits for budget, and the hand on it.

Looking reads Redis, and shows no prompt and no answer: those are encrypted, and for the key that
asked alone. What changes something goes through the running proxy, so that it knows who did it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from budgets.home import Home
from budgets.queue.items import Item, State, Totals
from budgets.queue.redis_queue import RedisQueue
from budgets.queue.view import item_dict, totals_dict
from scripts.cli.context import home_of, open_ledger, zone_of
from scripts.cli.errors import ExitCode, command, wrong_usage
from scripts.cli.http import KeyFileOption, Proxy, ProxyOption, call, proxy_of
from scripts.cli.options import AsJson, Config, duration_s
from scripts.cli.output import (
    console,
    cost,
    duration_short,
    facts,
    notes,
    table,
    text,
    time_text,
    write_json,
)

ROUTE = "/farebox/queue"
POLL_S = 0.5
STILL_S = 6.0
"""How long nothing may change before `drain` finds that nothing more fits."""
STYLES = {State.WAITING: "yellow", State.RUNNING: "cyan", State.DONE: "green", State.DEAD: "red"}

app = typer.Typer(help="Look after requests that wait for budget.", no_args_is_help=True)

QueueId = Annotated[str, typer.Argument(metavar="ID", help="The queue_id of a request.")]


@app.callback()
def queue() -> None:
    """Look after requests that wait for budget. Example: farebox queue list --state dead"""


@app.command("list")
@command
def list_items(
    state: Annotated[
        State, typer.Option(help="Which ones; those that wait come in the order in which they run.")
    ] = State.WAITING,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List queued requests: what they are, what they need, never what they say.

    Those with the state dead are the dead-letter list, with the reason of each.

    Example: farebox queue list --state dead --json
    """
    home = home_of(config)
    items, totals = asyncio.run(_read(home, state, count))
    if as_json:
        write_json({"queue": totals_dict(totals), "requests": [item_dict(it) for it in items]})
        return
    out = console()
    out.print(text(summary(totals)))
    if not items:
        out.print(text(f"No request has the state {state.value}."))
        return
    zone = zone_of(home)
    made = table(
        "Id", "Priority", "Category", "Key", "Needs", "Queued", "Expires", "Attempts", "Reason",
        right=["Priority", "Attempts"],
    )  # fmt: skip
    for item in items:
        made.add_row(
            Text(item.id, no_wrap=True),
            str(item.priority),
            text(item.category),
            text(item.key_name),
            text(_needs(item)),
            time_text(item.queued_ms, zone, "%m-%d %H:%M"),
            time_text(item.expires_ms, zone, "%m-%d %H:%M"),
            f"{item.attempts} of {item.attempts_max}",
            text(item.reason),
        )
    out.print(made)


@app.command()
@command
def show(queue_id: QueueId, config: Config = None, as_json: AsJson = False) -> None:
    """Show one queued request.

    Example: farebox queue show q3f0c9d41b6a24e873a11c2d5bf0480d34
    """
    home = home_of(config)
    item = asyncio.run(_read_one(home, queue_id))
    if item is None:
        raise wrong_usage(
            "The queue has no request with this id; it may have been forgotten.",
            "See: farebox queue list --state dead",
        )
    if as_json:
        write_json({"request": item_dict(item)})
        return
    zone = zone_of(home)
    rows: dict[str, Text | str] = {
        "Id": item.id,
        "State": text(item.state.value, STYLES.get(item.state, "")),
        "Reason": item.reason or "–",
        "Category": f"{item.category}, {item.task_type}",
        "Key": item.key_name,
        "Priority": str(item.priority),
        "Needs": _needs(item) or "–",
        "Expected": cost(item.estimate_nano_usd),
        "Queued": time_text(item.queued_ms, zone),
        "Expires": time_text(item.expires_ms, zone),
        "Attempts": f"{item.attempts} of {item.attempts_max}",
        "Decision": item.decision_id,
    }
    if item.not_before_ms:
        rows["Not before"] = time_text(item.not_before_ms, zone)
    if item.status:
        rows["Answered"] = f"status {item.status}, at {time_text(item.changed_ms, zone)}"
    console().print(facts({name: value if isinstance(value, Text) else text(value)
                           for name, value in rows.items()}))  # fmt: skip


@app.command()
@command
def cancel(
    queue_id: QueueId,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """End a request that waits or is dead, and forget its body.

    Example: farebox queue cancel q3f0c9d41b6a24e873a11c2d5bf0480d34
    """
    _change(proxy_of(proxy, key_file, home_of(config)), queue_id, "cancel", as_json)


@app.command()
@command
def retry(
    queue_id: QueueId,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let a dead request wait again, its attempts uncounted.

    One whose reason is answer_lost was answered and charged: to retry it costs a second time.

    Example: farebox queue retry q3f0c9d41b6a24e873a11c2d5bf0480d34
    """
    _change(proxy_of(proxy, key_file, home_of(config)), queue_id, "retry", as_json)


@app.command()
@command
def drain(
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long to wait at most: 90s, 10m.")
    ] = "10m",
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run what there is budget for, without pauses between attempts, and wait for it.

    It grants no budget: what does not fit stays where it is, and the exit code is 1. Give budget
    first, by a raised limit or a grant.

    Example: farebox queue drain --timeout 5m
    """
    seconds = duration_s(timeout, "--timeout")
    target = proxy_of(proxy, key_file, home_of(config))
    started = call(target, "POST", f"{ROUTE}/drain", {})["queue"]
    last = _watch(lambda: call(target, "GET", f"{ROUTE}?count=1")["queue"], started, seconds)
    left = last["waiting"] + last["running"]
    if as_json:
        write_json({"before": started, "after": last, "drained": left == 0})
    else:
        gone = max(0, started["waiting"] + started["running"] - left)
        out = console()
        out.print(text(f"{gone:,} ended, {left:,} left, {last['dead']:,} dead."))
        if left:
            out.print(text("What is left waits for budget: farebox queue list shows which."))
    if left:
        raise typer.Exit(ExitCode.FALLS_SHORT)


def _watch(
    read: Callable[[], dict[str, Any]],
    started: dict[str, Any],
    seconds: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return the totals once nothing is left, nothing has changed for a while, or time is up."""
    out = notes()
    whole = max(1, started["waiting"] + started["running"])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    last, since, until = started, clock(), clock() + seconds
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as progress:
        task = progress.add_task("queue", total=whole)
        while last["waiting"] + last["running"]:
            idle = last["running"] == 0 and clock() - since > STILL_S
            if idle or clock() > until:
                break
            sleep(POLL_S)
            now = read()
            if (now["waiting"], now["running"]) != (last["waiting"], last["running"]):
                since = clock()
            last = now
            left = last["waiting"] + last["running"]
            progress.update(task, completed=max(0, whole - left), total=max(whole, left))
    return last


def _change(target: Proxy, queue_id: str, action: str, as_json: bool) -> None:
    if not queue_id.isalnum():
        raise wrong_usage("This is no queue_id.", "See: farebox queue list")
    changed = call(target, "POST", f"{ROUTE}/{quote(queue_id, safe='')}/{action}", {})["request"]
    if as_json:
        write_json({"request": changed})
        return
    console().print(text(f"{changed['queue_id']} has the state {changed['state']} now."))


async def _read(home: Home, state: State, count: int) -> tuple[tuple[Item, ...], Totals]:
    async with open_ledger(home) as opened:
        queued = RedisQueue(opened.client, home.ledger)
        return await queued.listed(state, count), await queued.totals()


async def _read_one(home: Home, queue_id: str) -> Item | None:
    async with open_ledger(home) as opened:
        return await RedisQueue(opened.client, home.ledger).get(queue_id)


def _needs(item: Item) -> str:
    return ", ".join(f"{need.budget} {cost(need.amount_nano_usd)}" for need in item.needs)


def summary(totals: Totals) -> str:
    """Return how much is queued, in a line."""
    parts = [f"{totals.waiting:,} wait, {totals.running:,} run"]
    if totals.waiting or totals.running:
        parts.append(f"the oldest for {duration_short(totals.age_ms())}")
        parts.append(f"expected cost {cost(totals.estimate_nano_usd)}")
    if totals.dead:
        parts.append(f"{totals.dead:,} dead")
    return ", ".join(parts) + "."
