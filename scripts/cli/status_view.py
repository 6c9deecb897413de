"""`farebox status` on a screen: the proxy, the budgets, the requests and what was learned."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from budgets import totals
from budgets.alerts.outbox import Depths
from budgets.learned import Learned
from scripts.cli import gates_view
from scripts.cli.money_view import BudgetView, claimed_text
from scripts.cli.output import (
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
    time_text,
    used,
    used_bar,
)
from scripts.cli.queue import summary as queue_summary
from scripts.cli.shadow import ShadowTotals
from scripts.cli.status_facts import (
    Status,
    estimate_error,
    overall,
    refusals,
    simulated,
)

INSTANCES_SHOWN = 3
BARS_WIDTH_MIN = 96
START = "No proxy runs on this ledger. Start one with ./scripts/serve."


def show(found: Status) -> None:
    out = console()
    out.print(proxy_facts(found))
    out.print()
    if found.budget_errors is not None:
        out.print(text("budgets.yaml is not valid: run `farebox check`.", "red"))
    else:
        out.print(_budget_table(found, with_bars=out.width >= BARS_WIDTH_MIN))
    out.print(_request_table(found))
    if gates := gates_view.read(found.counters):
        out.print(gates_view.gate_table(gates))
    refused = refusals(found.counters)
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


def proxy_facts(found: Status) -> RenderableType:
    """Return what the workers say about themselves."""
    if not found.workers:
        said = text(START, "yellow")
        alerts = _alerts_text(found.alerts)
        return said if alerts is None else Group(said, facts({"Alerts": alerts}))
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
    rows["Under way"] = text(f"{under_way:,} requests")
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
    unscored = sum(w.scores_lost for w in found.workers)
    if sent or lost or unscored:
        of_traces = f"{sent:,} sent, {lost:,} lost" + (
            f"; {unscored:,} scores lost" * bool(unscored)
        )
        rows["Traces"] = text(of_traces, "yellow" if lost or unscored else "")
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
    if played := simulated(found.workers):
        rows["SIMULATED"] = text(", ".join(played), "black on yellow")
    if found.needs_restart:
        rows["Needs restart"] = text(
            f"{'; '.join(found.needs_restart)}. Restart the proxy to bring the edit in.",
            "yellow",
        )
    for position, problem in enumerate(found.refused_edits):
        rows["Edit rejected" if position == 0 else " " * position] = text(problem, "red")
    return facts(rows)


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
    made.add_row(text("all", "bold"), *_request_cells(overall(found.counters)))
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


def show_learned(out: Console, learned: Learned) -> None:
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
