"""`farebox status`: the proxy's workers, the budgets, the requests of this month, shadow mode."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from budgets import totals, workers
from budgets.alerts.outbox import Depths
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.config import BudgetsFile
from budgets.connection import RedisServerError
from budgets.errors import LedgerUnavailable
from budgets.home import Home
from budgets.journal import waiting_in
from budgets.learned import Learned
from budgets.ledger import Leader
from budgets.queue.items import Totals
from budgets.queue.redis_queue import RedisQueue
from budgets.queue.view import totals_dict
from budgets.workers import WorkerStatus
from budgets.yamlfile import ConfigErrors
from scripts.cli import gates_view
from scripts.cli.context import budgets_of, home_of, open_ledger, stats_period
from scripts.cli.errors import ExitCode, Problem, command
from scripts.cli.money_view import BudgetView, budget_views, claimed_text
from scripts.cli.options import AsJson, Config
from scripts.cli.output import (
    amount,
    clean,
    console,
    cost,
    dollars,
    duration_short,
    duration_text,
    facts,
    percent,
    share,
    table,
    text,
    time_iso,
    time_text,
    used,
    used_bar,
    write_json,
)
from scripts.cli.queue import summary as queue_summary
from scripts.cli.shadow import ShadowTotals, show_shadow

INSTANCES_SHOWN = 3
BARS_WIDTH_MIN = 96
START = "No proxy runs on this ledger. Start one with ./scripts/serve."


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that the command shows, read at one moment."""

    home: Home
    zone: str
    now_ms: int
    period: str
    workers: tuple[WorkerStatus, ...]
    budgets: Sequence[BudgetView]
    budget_errors: ConfigErrors | None
    counters: Mapping[str, int]
    learned: Learned
    leaders: tuple[Leader, ...] = ()
    alerts: Depths = field(default_factory=Depths)
    approvals_open: int = 0
    queue: Totals | None = None

    @property
    def refused_edits(self) -> tuple[str, ...]:
        """What keeps the newest edit of the configuration from being in force."""
        return tuple(dict.fromkeys(one for w in self.workers for one in w.policy_errors))

    @property
    def needs_restart(self) -> tuple[str, ...]:
        """The sections whose edit waits for a restart."""
        return tuple(dict.fromkeys(one for w in self.workers for one in w.needs_restart))

    @property
    def digests(self) -> tuple[str, ...]:
        """The policies in force; more than one while workers differ."""
        return tuple(dict.fromkeys(w.policy_digest for w in self.workers))


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
    try:
        found = asyncio.run(_read(home))
    except (RedisServerError, LedgerUnavailable) as error:
        raise _away(home, error) from error
    if as_json:
        write_json(_as_dict(found))
    elif shadow:
        show_shadow(console(), ShadowTotals.read(found.counters), found.period)
    elif learned:
        _show_learned(console(), found.learned)
    else:
        _show(found)
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


async def _read(home: Home) -> Status:
    budgets = budgets_of(home)
    zone = budgets.time_zone if isinstance(budgets, BudgetsFile) else "UTC"
    async with open_ledger(home) as opened:
        period = stats_period(zone, opened.now_ms)
        return Status(
            home=home,
            zone=zone,
            now_ms=opened.now_ms,
            period=period,
            workers=await workers.read(opened.client, home.ledger, opened.now_ms),
            budgets=await budget_views(opened, budgets) if isinstance(budgets, BudgetsFile) else [],
            budget_errors=None if isinstance(budgets, BudgetsFile) else budgets,
            counters=await opened.ledger.counters(period),
            learned=await opened.ledger.learned(),
            leaders=await opened.ledger.leaders(),
            alerts=await RedisOutbox(opened.client, home.ledger).depths(),
            approvals_open=await opened.ledger.open_tickets(),
            queue=await RedisQueue(opened.client, home.ledger).totals(),
        )


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────


def _as_dict(found: Status) -> dict[str, Any]:
    return {
        "time": time_iso(found.now_ms),
        "time_zone": found.zone,
        "ledger": found.home.ledger,
        "proxy": {
            "running": bool(found.workers),
            "modes": list(dict.fromkeys(w.mode for w in found.workers)),
            "policy_digests": list(found.digests),
            "policy_errors": list(found.refused_edits),
            "needs_restart": list(found.needs_restart),
            "simulated_groups": _simulated(found.workers),
            "workers": [asdict(worker) for worker in found.workers],
            "leaders": [
                {"role": it.role, "owner": it.owner, "until": time_iso(it.until_ms)}
                for it in found.leaders
            ],
        },
        "configuration_errors": [
            str(finding)
            for finding in (found.budget_errors.findings if found.budget_errors else ())
        ],
        "budgets": [view.as_dict() for view in found.budgets],
        "alerts": asdict(found.alerts),
        "approvals_open": found.approvals_open,
        "period": found.period,
        "requests": {
            "total": _measures(_all(found.counters)),
            "by_category": _by(found.counters, "category"),
            "by_task_type": _by(found.counters, "task_type"),
            "by_model": _by(found.counters, "model"),
            "refused_by_code": _refusals(found.counters),
        },
        "gates": gates_view.as_dict(gates_view.read(found.counters)),
        "queue": totals_dict(found.queue) if found.queue else None,
        "shadow": ShadowTotals.read(found.counters).as_dict(),
        "learned_output_tokens": [
            {
                "task_type": key.partition("|")[0],
                "group": key.partition("|")[2],
                "mean": round(known.mean_tokens, 2),
                "quantile95": round(known.quantile95_tokens, 2),
                "count": known.count,
            }
            for key, known in sorted(found.learned.outputs.items())
        ],
        "learned_input_factors": [
            {
                "of": key.partition(":")[0],
                "name": key.partition(":")[2],
                "factor": round(margin.factor, 4),
                "bound": round(margin.bound, 4),
                "count": margin.count,
            }
            for key, margin in sorted(found.learned.inputs.items())
        ],
    }


def _all(counters: Mapping[str, int]) -> dict[str, int]:
    return totals.grouped(counters, "all").get("", {})


def _by(counters: Mapping[str, int], subject: str) -> dict[str, dict[str, Any]]:
    groups = totals.grouped(counters, subject)
    return {name: _measures(measures) for name, measures in sorted(groups.items())}


def _measures(measures: Mapping[str, int]) -> dict[str, Any]:
    return {
        "requests": measures.get("requests", 0),
        "refused": measures.get("refused", 0),
        **amount("actual", measures.get("actual_nano", 0)),
        "judged": measures.get("judged", 0),
        "estimate_error": estimate_error(measures),
        "overage": measures.get("overage", 0),
        "overage_share": share(measures.get("overage", 0), measures.get("requests", 0)),
        **amount("overage", measures.get("overage_nano", 0)),
    }


def estimate_error(measures: Mapping[str, int]) -> float | None:
    """Return (actual - estimate) / actual over what can be judged; None where nothing can."""
    actual = measures.get("judged_actual_nano", 0)
    return share(actual - measures.get("judged_estimate_nano", 0), actual)


def _refusals(counters: Mapping[str, int]) -> dict[str, int]:
    codes = totals.grouped(counters, "code")
    return {code: measures.get("refused", 0) for code, measures in sorted(codes.items())}


def _simulated(running: Sequence[WorkerStatus]) -> list[str]:
    return sorted({group for worker in running for group in worker.simulated_groups})


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def _show(found: Status) -> None:
    out = console()
    _show_proxy(out, found)
    out.print()
    if found.budget_errors is not None:
        out.print(text("budgets.yaml is not valid: run `farebox check`.", "red"))
    else:
        out.print(_budget_table(found, with_bars=out.width >= BARS_WIDTH_MIN))
    out.print(_request_table(found))
    if gates := gates_view.read(found.counters):
        out.print(gates_view.gate_table(gates))
    refused = _refusals(found.counters)
    if refused:
        codes = table("Refused", "Requests", right=["Requests"])
        for code, count in refused.items():
            codes.add_row(text(code, "red"), f"{count:,}")
        out.print(codes)
    if ShadowTotals.read(found.counters).requests:
        out.print(text("Requests were recorded in shadow mode: see farebox status --shadow."))


def _alerts_text(depths: Depths) -> Text | None:
    """Return what became of alerts; None where none has gone to a channel yet."""
    delivered, waiting = sum(depths.delivered.values()), depths.raised + depths.waiting
    if not (delivered or waiting or depths.dead):
        return None
    made = text(f"{delivered:,} delivered, {waiting:,} waiting", "yellow" if waiting else "")
    if depths.dead:
        made.append(f", {depths.dead:,} given up: see farebox alerts dead", style="red")
    return made


def _show_proxy(out: Console, found: Status) -> None:
    if not found.workers:
        out.print(text(START, "yellow"))
        if (alerts := _alerts_text(found.alerts)) is not None:
            out.print(facts({"Alerts": alerts}))
        return
    first = found.workers[0]
    hosts = ", ".join(dict.fromkeys(worker.host for worker in found.workers))
    modes = " and ".join(dict.fromkeys(worker.mode for worker in found.workers))
    since = duration_text(found.now_ms - min(w.started_ms for w in found.workers))
    count = len(found.workers)
    rows: dict[str, Text | str] = {
        "Proxy": f"{count} worker{'' if count == 1 else 's'} on {hosts}, up {since}, "
        f"LiteLLM {first.litellm_version or '?'}, Farebox {first.farebox_version or '?'}",
        "Mode": text(modes, "bold yellow" if modes != "enforce" else "bold"),
        "Policy": f"{', '.join(digest[:16] for digest in found.digests)}, loaded "
        + time_text(max(w.policy_loaded_ms for w in found.workers), found.zone),
    }
    if len(found.digests) > 1:
        rows["Policy"] = text(f"{rows['Policy']} (the workers differ: a reload is under way)")
    under_way = sum(w.open_requests for w in found.workers)
    rows["Under way"] = f"{under_way:,} requests"
    waiting = sum(w.journal_depth for w in found.workers)
    unwritten = sum(w.journal_unwritten for w in found.workers)
    refusals_lost = sum(w.refusals_lost for w in found.workers)
    if waiting or refusals_lost:
        rows["Journal"] = text(
            f"{waiting:,} lines wait for the ledger"
            + (f", {unwritten:,} of them only in memory: the disk takes none" if unwritten else "")
            + (f"; {refusals_lost:,} refusals lost" if refusals_lost else ""),
            "red" if unwritten or refusals_lost else "yellow",
        )
    sent, lost = (
        sum(w.traces_sent for w in found.workers),
        sum(w.traces_lost for w in found.workers),
    )
    if sent or lost:
        rows["Traces"] = text(f"{sent:,} sent, {lost:,} lost", "yellow" if lost else "")
    if (alerts := _alerts_text(found.alerts)) is not None:
        rows["Alerts"] = alerts
    if found.approvals_open:
        count = found.approvals_open
        rows["Approvals"] = text(
            f"{count:,} ticket{'' if count == 1 else 's'} open: farebox approvals list", "yellow"
        )
    if found.queue is not None and (found.queue.waiting or found.queue.running or found.queue.dead):
        rows["Queue"] = text(queue_summary(found.queue), "yellow" if found.queue.dead else "")
    for router in dict.fromkeys(w.router for w in found.workers if w.router):
        rows["Router"] = text(router, "yellow" if "takes no part" in router else "")
    if found.leaders:
        rows["Leads"] = text(", ".join(f"{it.role}: {it.owner}" for it in found.leaders))
    if simulated := _simulated(found.workers):
        rows["SIMULATED"] = text(", ".join(simulated), "black on yellow")
    if found.needs_restart:
        rows["Needs restart"] = text(
            f"{'; '.join(found.needs_restart)}. Restart the proxy to bring the edit in.",
            "yellow",
        )
    for position, problem in enumerate(found.refused_edits):
        rows["Edit rejected" if position == 0 else " " * position] = text(problem, "red")
    out.print(facts(rows))


def _budget_table(found: Status, *, with_bars: bool) -> Table:
    views = found.budgets
    numbers = ["Spent", "Held", "Left", "Limit", "Resets"]
    if not with_bars:
        numbers.append("Used")
    made = table(
        "Budget", "Spent", "Held", "Left", "Limit", "Used", "Level", "Resets", right=numbers
    )
    if not views:
        made.caption = "budgets.yaml has no budget: nothing is limited."
    shown: dict[str, int] = {}
    hidden: dict[str, int] = {}
    for view in views:
        if view.value is None and view.config.each is not None:
            made.add_row(*_rule_row(view))
            continue
        if view.value is not None:
            shown[view.rule] = shown.get(view.rule, 0) + 1
            if shown[view.rule] > INSTANCES_SHOWN:
                hidden[view.rule] = hidden.get(view.rule, 0) + 1
                continue
        made.add_row(*_counter_row(view, found.now_ms, with_bars))
    notes = [f"{rule}: {count:,} more counters" for rule, count in hidden.items()]
    if any(not view.published for view in views):
        notes.append("not in force: no proxy has read that budget yet.")
    if any(view.state.carry_nano_usd for view in views):
        notes.append("+ with what closed periods carried over.")
    if any(view.state.granted_nano_usd for view in views):
        notes.append("g with grants and transfers that are in force: farebox budget grants")
    if any(_differs(view) for view in views):
        notes.append("* budgets.yaml says another limit, which no proxy has read yet.")
    if notes:
        made.caption = "\n".join(clean(note) for note in notes)
        made.caption_justify = "left"
    return made


def _differs(view: BudgetView) -> bool:
    return view.published and view.state.limit_nano_usd != view.config.limit_nano_usd


def _rule_row(view: BudgetView) -> list[Text | str]:
    limit = dollars(view.state.limit_nano_usd) + ("*" if _differs(view) else "")
    name = Text.assemble(clean(view.rule), (f"\neach {view.config.each}", "dim"))
    state = text("" if view.published else "not in force", "yellow")
    return [name, "", "", "", limit, text(f"a {view.config.period}", "dim"), state, ""]


def _counter_row(view: BudgetView, now_ms: int, with_bars: bool) -> list[Text | str]:
    state = view.state
    name = text(f"  {view.value}") if view.value is not None else text(view.rule)
    if view.config.mode == "shadow" and view.value is None:
        name.append("\nshadow", style="yellow")
    level = claimed_text(view) if view.published else text("not in force", "yellow")
    left = text(dollars(state.remaining_nano_usd), "red" if state.remaining_nano_usd < 0 else "")
    return [
        name,
        dollars(state.spent_nano_usd),
        dollars(state.held_nano_usd) if state.held_nano_usd else "–",
        left,
        dollars(state.bearable_nano_usd)
        + ("+" if state.carry_nano_usd else "")
        + ("g" if state.granted_nano_usd else "")
        + ("*" if _differs(view) else ""),
        used_bar(state.spent_nano_usd, state.held_nano_usd, state.bearable_nano_usd, view.style)
        if with_bars
        else used(state.spent_nano_usd, state.bearable_nano_usd, view.style),
        level,
        f"in {duration_short(view.period.end_ms - now_ms)}",
    ]


def _request_table(found: Status) -> Table:
    made = table(
        f"Category, {found.period}", "Requests", "Cost", "Refused", "Estimate error", "Judged",
        "Overage",
        right=["Requests", "Cost", "Refused", "Estimate error", "Judged", "Overage"],
    )  # fmt: skip
    by_category = totals.grouped(found.counters, "category")
    for name, measures in sorted(by_category.items()):
        made.add_row(text(name), *_request_cells(measures))
    if by_category:
        made.add_section()
    made.add_row(text("all", "bold"), *_request_cells(_all(found.counters)))
    return made


def _request_cells(measures: Mapping[str, int]) -> list[str]:
    return [
        f"{measures.get('requests', 0):,}",
        cost(measures.get("actual_nano", 0)),
        f"{measures.get('refused', 0):,}",
        percent(estimate_error(measures), 2),
        f"{measures.get('judged', 0):,}",
        percent(share(measures.get("overage", 0), measures.get("requests", 0)), 2),
    ]


def _show_learned(out: Console, learned: Learned) -> None:
    if not learned.outputs:
        out.print(text("No output length is learned yet: estimates use the seeds of routing.yaml."))
    else:
        out.print(_output_table(learned))
    if not learned.inputs:
        out.print(text("No input margin is learned yet: holds use the figures of routing.yaml."))
    else:
        out.print(_input_table(learned))


def _output_table(learned: Learned) -> Table:
    made = table(
        "Task type", "Group", "Mean tokens", "95 % below", "Requests",
        right=["Mean tokens", "95 % below", "Requests"],
    )  # fmt: skip
    for key, known in sorted(learned.outputs.items()):
        task_type, _, group = key.partition("|")
        made.add_row(
            text(task_type),
            text(group),
            f"{known.mean_tokens:,.1f}",
            f"{known.quantile95_tokens:,.1f}",
            f"{known.count:,}",
        )
    return made


def _input_table(learned: Learned) -> Table:
    made = table(
        "Input of", "", "Likely factor", "Bound", "Requests",
        right=["Likely factor", "Bound", "Requests"],
    )  # fmt: skip
    for key, known in sorted(learned.inputs.items()):
        what, _, name = key.partition(":")
        made.add_row(
            text(what), text(name), f"{known.factor:.3f}", f"{known.bound:.3f}", f"{known.count:,}"
        )
    return made
