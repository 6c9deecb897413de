"""The parts of a month's report: sentences, tables, and notes that say how a figure came about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from budgets.months import figures as judged
from budgets.months.lines import Comparison, Figures, FindingLine
from budgets.months.tally import LACK_CODES, QUEUE_EVENTS, TRAIL_ACTIONS
from scripts.cli.output import clean, cost, dollars, duration_short, percent
from scripts.report.shape import DASH, Section, Table

REALLOCATION_NOTE = (
    "Over-used: something did not fit into the budget, or "
    f"{percent(judged.OVER_USED_FROM, 0)} of the limit or more was used or is expected to be. "
    f"Under-used: less than {percent(judged.UNDER_USED_BELOW, 0)}. A proposed limit is what is "
    "needed, what was refused for lack of budget included, and a tenth more; the total stays "
    "the same."
)
DAYS_NOTE = (
    "A day is in budget if the month's spend had not passed the limit by its end and "
    "nothing of the category was refused (`budget_exceeded`), queued or held for approval on it "
    "for lack of budget. At an even pace, a day spends no more than the limit's part of one day."
)
ESTIMATE_NOTE = (
    "Of all answers that can be judged (complete, sent, not from a cache) the sum of what they "
    "cost against the sum of what was expected. Above zero: they cost more."
)
MIX_NOTE = (
    "Primary is the category's base group. The change is the part of the requests that would "
    "have to go elsewhere to make both mixes the same."
)
FINDINGS_NOTE = (
    "Under-routing is the graver of the two, because its output looks right. A group in the "
    "chain above the category's quality floor passed the benchmark that the policy asks for; "
    "whether its answers were good only a profile can say. What another model would have cost "
    "is computed with the same tokens."
)


def sections(found: Figures) -> tuple[Section, ...]:
    """Return all parts, in the order of the report."""
    return (
        _budgets(found),
        _reallocation(found),
        _burn(found),
        _savings(found),
        _days(found),
        _estimates(found),
        _mix(found),
        _refusals(found),
        _findings(found),
        _tops(found),
        _quality(found),
        _others(found),
    )


def _budgets(found: Figures) -> Section:
    carried = any(it.carry or it.carried for it in found.budgets)
    granted = any(it.granted for it in found.budgets)
    head = ["Budget", "Limit", "Spent", "Held", "Used", "Left"]
    if granted:
        head.append("Granted")
    if carried:
        head += ["Carried in", "Handed on"]
    rows = []
    for it in found.budgets:
        row = [
            it.budget,
            dollars(it.limit),
            dollars(it.spent),
            dollars(it.held),
            percent(it.used),
            dollars(it.bearable - it.spent - it.held),
        ]
        if granted:
            row.append(dollars(it.granted))
        if carried:
            row += [dollars(it.carry), dollars(it.carried)]
        rows.append(row)
    notes = ["Rules with `each` (a counter for every user, team, …) are in `farebox status`."]
    if found.closed_ms is not None:
        notes.insert(0, "These are the figures of the closing; addenda do not change them.")
    return Section(
        "Actual against budget", (), "budgets", (_table(head, rows, left=1),), tuple(notes)
    )


def _reallocation(found: Figures) -> Section:
    rows = [
        (
            it.budget,
            {"over": "over-used", "under": "under-used"}[it.state],
            percent(it.used),
            dollars(it.limit),
            dollars(it.proposed_limit if it.proposed_limit is not None else it.limit),
        )
        for it in found.budgets
        if it.state
    ]
    notes = (REALLOCATION_NOTE,)
    if not rows:
        return Section(
            "Under- and over-used", ("No category is under- or over-used.",), notes=notes
        )
    moved = any(it.proposed_limit is not None for it in found.budgets)
    sentences = (
        () if moved else ("No reallocation is proposed: there is no budget on the other side.",)
    )
    head = ("Budget", "State", "Used", "Limit", "Proposed limit")
    return Section("Under- and over-used", sentences, "", (_table(head, rows, left=2),), notes)


def _burn(found: Figures) -> Section:
    rows = [
        (it.day, dollars(it.spent), dollars(it.forecast), percent(it.error))
        for it in found.forecasts
    ]
    if found.forecast is None:
        sentences: tuple[str, ...] = ("There is nothing to extrapolate from.",)
    elif found.ended:
        sentences = (f"The month ended with {dollars(found.forecast)}.",)
    else:
        rate = found.total.charged / found.days_seen if found.days_seen else 0
        sentences = (
            f"At {dollars(round(rate))} a day the month ends with {dollars(found.forecast)}.",
        )
    head = ("End of", "Spent by then", "Forecast then", "Off by")
    tables = (_table(head, rows, left=1),) if rows else ()
    notes = ("A forecast is what was spent, and the average day so far for each day that is left.",)
    return Section("Burn curve and forecast", sentences, "burn", tables, notes)


def _savings(found: Figures) -> Section:
    rows = [
        _comparison("the baseline", found.against_baseline),
        _comparison(f"all-frontier ({found.frontier_group or 'unknown'})", found.against_frontier),
        _comparison(f"last month ({found.last_month_id})", found.against_last_month),
    ]
    notes = []
    if found.baseline_month is not None and found.against_baseline.other is not None:
        notes.append(
            f"The baseline is {dollars(found.baseline_month)} a month (`baseline_usd_per_month`)"
            + (
                "."
                if found.against_baseline.other == found.baseline_month
                else "; here it counts for the part of the month that the ledger saw."
            )
        )
    notes.append(
        "All-frontier is what the same tokens cost at that group's price, for the "
        f"{found.frontier_requests:,} of {found.total.requests:,} requests whose tokens are known; "
        "another model would have used other numbers of them."
    )
    if found.against_last_month.other is None:
        notes.append("Of last month nothing is known.")
    elif not found.ended:
        notes.append("This month is not over, and last month is counted whole.")
    head = ("Against", "That is", "Actual", "Savings", "Share")
    return Section("Savings", (), "", (_table(head, rows, left=1),), tuple(notes))


def _comparison(name: str, it: Comparison) -> tuple[str, ...]:
    return (name, dollars(it.other), dollars(it.actual), dollars(it.savings), percent(it.share))


def _days(found: Figures) -> Section:
    rows = [
        (
            it.category,
            dollars(it.limit),
            dollars(it.cell.charged),
            f"{it.cell.requests:,}",
            f"{it.refused:,}",
            _of(it.days_in_budget, it.days),
            percent(it.days_in_budget / it.days)
            if it.days and it.days_in_budget is not None
            else DASH,
            _of(it.days_on_pace, it.days),
        )
        for it in found.categories
    ]
    head = (
        "Category", "Limit", "Spent", "Requests", "Refused", "Days in budget", "Share",
        "Days at an even pace",
    )  # fmt: skip
    notes = (DAYS_NOTE,)
    return Section(
        "Categories and days within budget", (), "", (_table(head, rows, left=1),), notes
    )


def _estimates(found: Figures) -> Section:
    named = [("all", found.total), *((it.category, it.cell) for it in found.categories)]
    rows = [
        (
            name,
            f"{cell.judged:,}",
            dollars(cell.judged_estimate),
            dollars(cell.judged_actual),
            percent(cell.estimate_error, 2),
        )
        for name, cell in named
        if cell.judged
    ]
    if not rows:
        return Section("Estimate error", ("No answer could be judged.",))
    notes = (ESTIMATE_NOTE,)
    head = ("Category", "Judged", "Estimated", "Actual", "Error")
    return Section("Estimate error", (), "", (_table(head, rows, left=1),), notes)


def _mix(found: Figures) -> Section:
    rows = [
        (
            it.group,
            f"{it.cell.requests:,}",
            percent(it.share_of_requests),
            percent(it.share_last_month),
            dollars(it.cell.charged),
            percent(it.share_of_spend),
        )
        for it in found.mix
    ]
    models = _table(
        ("Model", "Requests", "Share", "Last month", "Spent", "Share of spend"), rows, left=1
    )
    order = ("primary", "fallback", "named", "unknown")
    roles = [
        (name, *(percent(by.get(role, 0) / sum(by.values())) for role in order[:3]))
        for name, by in found.roles.items()
    ]
    by_role = _table(("Category", "Primary", "Fallback", "Named by the caller"), roles, left=1)
    weeks = _table(
        ("Week from", "Change from the month"),
        [(it, percent(drift)) for it, drift in found.weeks_drift],
        left=1,
    )
    sentences = []
    if found.mix_drift is not None:
        stable = "stable" if found.mix_drift <= judged.MIX_DRIFT_MAX else "not stable"
        sentences.append(
            f"The mix was {stable}: no week differs by more than {percent(found.mix_drift)}."
        )
    if found.mix_drift_from_last is not None:
        sentences.append(f"It differs from last month's by {percent(found.mix_drift_from_last)}.")
    notes = (MIX_NOTE,)
    tables = tuple(it for it in (models, by_role, weeks) if it.rows)
    return Section("Model mix", tuple(sentences), "mix", tables, notes)


def _refusals(found: Figures) -> Section:
    tables = []
    if found.refusals:
        rows = [(code, f"{sum(by.values()):,}", _list(by)) for code, by in found.refusals.items()]
        tables.append(_table(("Refused", "Requests", "Categories"), rows, left=1, words=(2,)))
    if found.escalations:
        rows2 = [(name, f"{count:,}") for name, count in found.escalations]
        tables.append(_table(("Escalation step", "Requests"), rows2, left=1))
    if found.fallback_reasons:
        rows2 = [(name, f"{count:,}") for name, count in found.fallback_reasons]
        tables.append(_table(("Why a fallback served", "Requests"), rows2, left=1))
    rates = [
        (name, f"{cell.requests:,}", percent(cell.fallbacks / cell.requests))
        for name, cell in found.task_types
        if cell.requests
    ]
    if rates and found.fallback_reasons:
        tables.append(_table(("Task type", "Requests", "Served by a fallback"), rates, left=1))
    sentences = [] if found.refusals else ["Nothing was refused."]
    if not found.escalations:
        sentences.append("No escalation was recorded.")
    if not found.fallback_reasons:
        sentences.append("No fallback served.")
    budget = sum(sum(found.refusals.get(code, {}).values()) for code in LACK_CODES)
    notes = (f"{budget:,} of the refusals were for lack of budget.",) if budget else ()
    return Section("Escalations and refusals", tuple(sentences), "", tuple(tables), notes)


def _findings(found: Figures) -> Section:
    head = ("Task type", "Needs", "Served by", "Why", "Requests", "Spent", "At the needed tier")
    tables = []
    sentences = []
    for title, lines, word in (
        ("Under-routed", found.under, "had a model of a lower tier than their task type needs"),
        ("Over-routed", found.over, "had a model of a higher tier than their task type needs"),
    ):
        count = sum(it.finding.requests for it in lines)
        if not count:
            sentences.append(f"{title}: none was found.")
            continue
        grave = sum(it.finding.high_consequence for it in lines)
        more = f", {grave:,} of them of high consequence" if grave else ""
        sentences.append(f"{title}: {count:,} requests {word}{more}.")
        rows = [_finding(it) for it in lines[: judged.TOP_COUNT]]
        tables.append(_table((f"{title}: task type", *head[1:]), rows, left=4))
    notes = (FINDINGS_NOTE,)
    return Section("Under-routing and over-routing", tuple(sentences), "", tuple(tables), notes)


def _finding(it: FindingLine) -> tuple[str, ...]:
    own = it.finding
    instead = dollars(own.instead) if own.instead_requests else DASH
    served = f"{it.group} ({it.group_tier})"
    return (
        it.task_type, it.needs, served, it.why, f"{own.requests:,}", dollars(own.charged), instead
    )  # fmt: skip


def _tops(found: Figures) -> Section:
    tables = []
    for title, cells in (
        ("Task type", found.task_types),
        ("Team", found.teams),
        ("Session", found.sessions),
    ):
        rows = [
            (
                name,
                f"{cell.requests:,}",
                dollars(cell.charged),
                percent(cell.charged / found.total.charged if found.total.charged else None),
                cost(cell.charged // cell.requests) if cell.requests else DASH,
            )
            for name, cell in cells
        ]
        if rows:
            tables.append(_table((title, "Requests", "Spent", "Share", "A request"), rows, left=1))
    notes: tuple[str, ...] = ()
    if found.sessions_left_out:
        notes = (f"{found.sessions_left_out:,} sessions that cost little were not kept apart.",)
    if not tables:
        return Section("Top task types, teams and sessions", ("There was no request.",))
    sentences = () if found.sessions else ("No request named a session.",)
    return Section("Top task types, teams and sessions", sentences, "", tuple(tables), notes)


def _quality(found: Figures) -> Section:
    return Section(
        "Quality", (found.quality or "No profile: nobody has measured the quality of answers yet.",)
    )


def _others(found: Figures) -> Section:
    rows = [(f"queued ({category})", f"{count:,}") for category, count in found.queued.items()]
    rows += [(it, f"{n:,}") for it, n in found.events.items() if it.startswith(QUEUE_EVENTS)]
    rows += [(it, f"{n:,}") for it, n in found.trail.items() if it.startswith(TRAIL_ACTIONS)]
    if found.by_approval.requests:
        spent = dollars(found.by_approval.charged)
        rows.append(("requests sent by an approval", f"{found.by_approval.requests:,} ({spent})"))
    sentences = [] if rows else ["None were recorded in this month."]
    queue = found.queue
    if queue is not None and (queue.waiting or queue.dead):
        sentences.append(
            f"In the queue now: {queue.waiting:,} waiting, the oldest for "
            f"{duration_short(queue.age_ms())}, {queue.dead:,} given up."
        )
    tables = (_table(("What", "Number"), rows, left=1),) if rows else ()
    return Section("Queue and approvals", tuple(sentences), "", tables)


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int,
    words: tuple[int, ...] = (),
) -> Table:
    """Return a table whose first `left` columns, and those in `words`, hold words."""
    right = frozenset(range(left, len(head))) - set(words)
    return Table(tuple(head), tuple(tuple(clean(it, 120) for it in row) for row in rows), right)


def _of(part: int | None, whole: int | None) -> str:
    return DASH if part is None or whole is None else f"{part} of {whole}"


def _list(by: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(by.items()))
