"""The figures of a month's report, out of tallies, budgets and settings. Pure.

Unknown is None and never zero: a figure that needs something that is not there (an old month, a
price, tokens) is None, and the report says so. Amounts are whole nanodollars, shares are fractions.

Definitions, each also said in the report:

    estimate error   |sum of actual - sum of estimate| / sum of actual, over answers that can be
                     judged (complete, sent, not from a cache)
    day in budget    the month's spend of the category had not passed its limit at the day's end,
                     and nothing of it was refused, queued or held for approval for lack of budget
                     on that day
    forecast         spend so far + the average a day so far x the days that are left
    mix's drift      the half of the sum of the differences of shares (total variation): of each
                     week from the month, and of the month from the one before
    savings          baseline x the part of the month that the ledger saw, less actual
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from budgets.months.lines import (
    Books,
    BudgetLine,
    CategoryLine,
    Comparison,
    Figures,
    FindingLine,
    ForecastLine,
    MixLine,
)
from budgets.months.tally import Cell, Finding, Tally
from budgets.period import period_at

DAYS_IN_BUDGET_TARGET = 0.95
MIX_DRIFT_MAX = 0.2
ESTIMATE_ERROR_TARGETS = (0.02, 0.01)
"""In the ledger's first month, and from its second on."""
SAVINGS_TARGETS = ((0.15, 0.20), (0.18, None))
UNDER_USED_BELOW = 0.5
OVER_USED_FROM = 0.95
HEADROOM = 1.1
"""A proposed limit is what is expected to be needed, and a tenth more."""
TOP_COUNT = 10


def figures(this: Tally, last: Tally | None, books: Books) -> Figures:
    """Return the figures of a month. `last` is the month before; None where it is not known."""
    setting, month = this.setting, this.setting.month
    days = days_of(this)
    until_ms = min(books.now_ms, month.end_ms)
    seen = _days_seen(this, books.first_ms, until_ms)
    part = _part_seen(month.start_ms, month.end_ms, books.first_ms, until_ms)
    burn = _burn(this, days, until_ms)
    forecasts, forecast = _forecasts(burn, days, seen)
    number = _month_number(setting.zone, books.first_ms, month.start_ms)
    limits = {
        books.category_of[it.budget]: it.bearable
        for it in books.budgets
        if it.budget in books.category_of
    }
    ended = books.now_ms >= month.end_ms
    baseline = None if books.baseline is None or part is None else round(books.baseline * part)
    last_known = last is not None and last.total.requests > 0
    targets = None if number is None else SAVINGS_TARGETS[min(number, 2) - 1]
    last_month = period_at("month", setting.zone, month.start_ms - 1)
    return Figures(
        period_id=month.id,
        zone=setting.zone,
        start_ms=month.start_ms,
        end_ms=month.end_ms,
        now_ms=books.now_ms,
        closed_ms=books.closed_ms,
        ended=ended,
        month_number=number,
        days=days,
        days_seen=len(seen),
        total=this.total,
        voided=this.voided,
        corrected=this.corrected,
        addenda=this.addenda,
        unreadable=this.unreadable,
        missing_entries=books.missing_entries,
        budgets=_budget_lines(this, books, seen, days, ended),
        categories=_category_lines(this, books, limits, burn, seen),
        burn=burn,
        forecasts=forecasts,
        forecast=this.total.charged if ended else forecast,
        mix=_mix_lines(this, last if last_known else None),
        mix_by_day={day: dict(groups) for day, groups in sorted(this.mix.items())},
        roles={name: dict(roles) for name, roles in sorted(this.roles.items())},
        weeks_drift=(weeks := _weeks_drift(this)),
        mix_drift=max((drift for _, drift in weeks), default=None),
        mix_drift_from_last=_drift(_mix_of(this), _mix_of(last)) if last and last_known else None,
        fallback_reasons=tuple(this.fallback_reasons.most_common()),
        escalations=tuple(this.escalations.most_common()),
        refusals={code: dict(by) for code, by in sorted(this.refusals.items())},
        marks=dict(sorted(this.marks.items())),
        estimate_error_target=None
        if number is None
        else ESTIMATE_ERROR_TARGETS[min(number, 2) - 1],
        savings_target=targets,
        against_baseline=_compare(baseline, this.total.charged),
        baseline_month=books.baseline,
        against_frontier=_compare(
            this.frontier_instead if this.frontier_requests else None, this.frontier_charged
        ),
        frontier_group=setting.frontier,
        frontier_requests=this.frontier_requests,
        against_last_month=_compare(
            last.total.charged if last is not None and last_known else None, this.total.charged
        ),
        last_month_id=last_month.id,
        task_types=_top(this.task_types),
        teams=tuple(this.teams.top(TOP_COUNT)),
        sessions=tuple(this.sessions.top(TOP_COUNT)),
        sessions_left_out=this.sessions.left_out,
        over=_finding_lines(this.over, True),
        under=_finding_lines(this.under, False),
        queued=dict(sorted(this.queued.items())),
        events=dict(sorted(this.events.items())),
        trail=dict(sorted(this.trail.items())),
        by_approval=this.by_approval,
        queue=books.queue,
        quality=None,
    )


def days_of(tally: Tally) -> tuple[str, ...]:
    """Return the days of the month, such as 2026-10-01."""
    month = tally.setting.month
    first, last = tally.day(month.start_ms), tally.day(month.end_ms - 1)
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return tuple(
        (start + timedelta(days=number)).isoformat() for number in range((end - start).days + 1)
    )


def _days_seen(tally: Tally, first_ms: int | None, until_ms: int) -> tuple[str, ...]:
    """Return the days, up to now, on which the ledger was there."""
    month = tally.setting.month
    if first_ms is None or first_ms >= month.end_ms or until_ms <= month.start_ms:
        return ()
    begin = tally.day(max(first_ms, month.start_ms))
    return tuple(it for it in days_of(tally) if begin <= it <= tally.day(until_ms - 1))


def _part_seen(start_ms: int, end_ms: int, first_ms: int | None, until_ms: int) -> float | None:
    if first_ms is None or until_ms <= start_ms or first_ms >= end_ms:
        return None
    return (until_ms - max(start_ms, min(first_ms, until_ms))) / (end_ms - start_ms)


def _month_number(zone: str, first_ms: int | None, start_ms: int) -> int | None:
    """Return 1 for the ledger's first month, 2 for the one after it, and so on."""
    if first_ms is None:
        return None
    first = period_at("month", zone, first_ms).id
    this = period_at("month", zone, start_ms).id
    months = (int(this[:4]) - int(first[:4])) * 12 + int(this[5:]) - int(first[5:])
    return months + 1 if months >= 0 else None


def _burn(
    tally: Tally, days: Sequence[str], until_ms: int
) -> tuple[tuple[str, int, Mapping[str, int]], ...]:
    """Return for each day up to now what was spent by its end: in all, and by category."""
    sums: Counter[str] = Counter()
    lines = []
    today = tally.day(until_ms - 1) if until_ms > tally.setting.month.start_ms else ""
    for day in days:
        if day > today:
            break
        sums.update(tally.days.get(day, {}))
        lines.append((day, sums[""], {name: sums[name] for name in sums if name}))
    return tuple(lines)


def _forecasts(
    burn: Sequence[tuple[str, int, Mapping[str, int]]], days: Sequence[str], seen: Sequence[str]
) -> tuple[tuple[ForecastLine, ...], int | None]:
    """Return what was to be expected at the end of days 7, 14, 21 and 28, and what is now."""
    if not seen:
        return (), None
    actual = burn[-1][1]
    complete = burn[-1][0] == days[-1]

    def at(position: int) -> int:
        day, spent, _ = burn[position]
        count = sum(it <= day for it in seen)
        return spent + round(spent / count * (len(days) - position - 1)) if count else spent

    lines = []
    for position, (day, spent, _) in enumerate(burn):
        if (position + 1) % 7 or day < seen[0]:
            continue
        forecast = at(position)
        error = (forecast - actual) / actual if complete and actual else None
        lines.append(ForecastLine(day, spent, forecast, error))
    return tuple(lines), at(len(burn) - 1)


def _budget_lines(
    tally: Tally, books: Books, seen: Sequence[str], days: Sequence[str], ended: bool
) -> tuple[BudgetLine, ...]:
    # A month that runs is judged by what it will need, one that the ledger saw a part of likewise.
    scale = len(days) / len(seen) if seen and not (ended and len(seen) == len(days)) else 1.0
    needs: dict[str, int] = {}
    states: dict[str, str] = {}
    for it in books.budgets:
        category = books.category_of.get(it.budget)
        if category is None or not seen:
            continue
        limit = it.bearable
        needs[it.budget] = round((it.spent + tally.refused_estimate[category]) * scale)
        if category in tally.refused_days or (
            limit > 0 and needs[it.budget] >= OVER_USED_FROM * limit
        ):
            states[it.budget] = "over"
        elif limit > 0 and needs[it.budget] < UNDER_USED_BELOW * limit:
            states[it.budget] = "under"
        else:
            states[it.budget] = ""
    proposed = reallocation({it.budget: it.limit for it in books.budgets}, needs, states)
    return tuple(
        BudgetLine(
            it.budget,
            books.category_of.get(it.budget),
            it.limit,
            it.carry,
            it.granted,
            it.spent,
            it.held,
            it.carried,
            states.get(it.budget, ""),
            proposed.get(it.budget),
        )
        for it in books.budgets
    )


def reallocation(
    limits: Mapping[str, int], needs: Mapping[str, int], states: Mapping[str, str]
) -> dict[str, int]:
    """Return limits that move what under-used budgets can spare to over-used ones, in whole
    dollars; their sum stays the same. Nothing is proposed where nobody needs or can spare any."""
    dollar = 10**9
    lacks = {
        it: max(0, -(-round(needs[it] * HEADROOM) // dollar) * dollar - limits[it])
        for it, state in states.items()
        if state == "over"
    }
    spares = {
        it: max(0, limits[it] - -(-round(needs[it] * HEADROOM) // dollar) * dollar)
        // dollar
        * dollar
        for it, state in states.items()
        if state == "under"
    }
    moved = min(sum(lacks.values()), sum(spares.values())) // dollar * dollar
    if moved <= 0:
        return {}
    return {
        **{it: limits[it] + part for it, part in _parts(lacks, moved).items()},
        **{it: limits[it] - part for it, part in _parts(spares, moved).items()},
    }


def _parts(weights: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide a total of whole dollars by weights, of whole dollars each; the parts add up to it."""
    dollar, left, weight = 10**9, total, sum(weights.values())
    parts = {}
    for name, own in weights.items():
        parts[name] = left * own // weight // dollar * dollar if weight else 0
        left, weight = left - parts[name], weight - own
    for name in weights:
        more = min(left, weights[name] - parts[name])
        parts[name] += more
        left -= more
    return {name: part for name, part in parts.items() if part}


def _category_lines(
    tally: Tally,
    books: Books,
    limits: Mapping[str, int],
    burn: Sequence[tuple[str, int, Mapping[str, int]]],
    seen: Sequence[str],
) -> tuple[CategoryLine, ...]:
    refused = Counter[str]()
    for by in tally.refusals.values():
        refused.update(by)
    extra = sorted((tally.categories.keys() | refused.keys()) - set(books.categories))
    lines = []
    by_day = {day: sums for day, _, sums in burn}
    for name in (*books.categories, *extra):
        limit = limits.get(name)
        within = pace = None
        if limit is not None and seen:
            refused_days = tally.refused_days.get(name, set())
            within = sum(by_day[it].get(name, 0) <= limit and it not in refused_days for it in seen)
            even = limit / len(days_of(tally))
            pace = sum(tally.days.get(it, Counter())[name] <= even for it in seen)
        lines.append(
            CategoryLine(
                name,
                tally.categories.get(name, Cell()),
                limit,
                refused[name],
                len(seen) if limit is not None else None,
                within,
                pace,
            )
        )
    return tuple(lines)


def _mix_of(tally: Tally) -> Counter[str]:
    found = Counter[str]()
    for day in tally.mix.values():
        found.update(day)
    return found


def _mix_lines(this: Tally, last: Tally | None) -> tuple[MixLine, ...]:
    requests, spend = this.total.requests, this.total.charged
    before = _mix_of(last) if last is not None else Counter[str]()
    all_before = before.total()
    lines = [
        MixLine(
            group,
            cell,
            cell.requests / requests if requests else 0.0,
            cell.charged / spend if spend else None,
            before[group] / all_before if all_before else None,
        )
        for group, cell in this.models.items()
    ]
    return tuple(sorted(lines, key=lambda it: (-it.cell.requests, it.group)))


def _weeks_drift(tally: Tally) -> tuple[tuple[str, float], ...]:
    weeks: dict[str, Counter[str]] = {}
    for day, mix in sorted(tally.mix.items()):
        first = (int(day[8:]) - 1) // 7 * 7 + 1
        weeks.setdefault(f"{day[:8]}{first:02d}", Counter()).update(mix)
    month = _mix_of(tally)
    if len(weeks) < 2:
        return ()
    return tuple((week, _drift(mix, month)) for week, mix in weeks.items())


def _drift(one: Counter[str], other: Counter[str]) -> float:
    """Return the total variation distance of two mixes, between 0 (same) and 1."""
    first, second = one.total() or 1, other.total() or 1
    names = one.keys() | other.keys()
    return sum(abs(one[name] / first - other[name] / second) for name in names) / 2


def _compare(other: int | None, actual: int) -> Comparison:
    if other is None:
        return Comparison(None, actual, None, None)
    return Comparison(other, actual, other - actual, (other - actual) / other if other else None)


def _top(cells: Mapping[str, Cell]) -> tuple[tuple[str, Cell], ...]:
    ordered = sorted(cells.items(), key=lambda it: (-it[1].charged, it[0]))
    return tuple(ordered[:TOP_COUNT])


def _finding_lines(
    found: Mapping[tuple[str, str, str, str, str], Finding], costly_first: bool
) -> tuple[FindingLine, ...]:
    """Return findings, the weightiest first: by cost, or by consequence and number."""

    def weight(it: FindingLine) -> tuple[int, ...]:
        own = it.finding
        return (own.charged,) if costly_first else (own.high_consequence, own.requests)

    lines = [FindingLine(*key, finding) for key, finding in found.items()]
    return tuple(sorted(lines, key=lambda it: (tuple(-n for n in weight(it)), it.task_type)))
