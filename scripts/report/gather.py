"""Gathers what a month's report needs: the policy's settings, the books, and all entries once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from budgets.archive_files import ArchiveFolder
from budgets.config import Budget, BudgetsFile
from budgets.errors import PolicyNotPublished
from budgets.holds import BudgetState
from budgets.ledger import Ledger, unwatched
from budgets.months.closer import proved_snapshot
from budgets.months.closing import first_activity_ms
from budgets.months.figures import figures
from budgets.months.keeping import Snapshots
from budgets.months.lines import Books, BudgetAtEnd, Figures
from budgets.months.reading import read_months
from budgets.months.snapshot import Snapshot
from budgets.months.tally import Setting, Tally
from budgets.period import Period, period_at
from budgets.prices import Price
from budgets.queue.items import RequestQueue
from hooks.policy import Policy


@dataclass(frozen=True, slots=True)
class Gathered:
    """The figures of a month, and its snapshot where it is closed and has one."""

    figures: Figures
    snapshot: Snapshot | None


async def gather(
    ledger: Ledger,
    snapshots: Snapshots,
    archive: ArchiveFolder | None,
    queue: RequestQueue,
    policy: Policy,
    month: Period,
    watch: Callable[[int], None] = unwatched,
) -> Gathered:
    """Read a month and the one before it, and return the figures.

    Raises:
        LedgerUnavailable: Redis does not answer.
        SnapshotDamaged: the month's snapshot in Redis is not what was written.
    """
    zone = policy.budgets.time_zone
    before = period_at("month", zone, month.start_ms - 1)
    this, last = (Tally(setting_of(policy, it)) for it in (month, before))
    missing = await read_months(ledger, archive, (this, last), watch)
    snapshot = await proved_snapshot(ledger, snapshots, month.id)
    statement = await ledger.statement(month.id)
    budgets = policy.budgets
    rules = plain_month_rules(budgets)
    baseline = budgets.baseline_nano_usd_per_month
    if snapshot is not None:
        baseline = snapshot.baseline_nano_usd
    if statement is not None:
        ends = {it.budget: it for it in statement.rows}
        lines = [
            BudgetAtEnd(
                name,
                row.limit_nano_usd,
                row.carry_nano_usd,
                row.spent_nano_usd,
                row.held_nano_usd,
                row.carried_nano_usd,
                row.granted_nano_usd,
            )
            for name in dict.fromkeys([*rules, *(it for it in ends if it == ends[it].rule)])
            if (row := ends.get(name)) is not None
        ]
    else:
        states = [await _state(ledger, name, rule, month.id) for name, rule in rules.items()]
        lines = [
            BudgetAtEnd(
                it.budget,
                it.limit_nano_usd,
                it.carry_nano_usd,
                it.spent_nano_usd,
                it.held_nano_usd,
                granted=it.granted_nano_usd,
            )
            for it in states
        ]
    books = Books(
        budgets=lines,
        category_of=categories_of(rules),
        categories=tuple(policy.routing.categories),
        baseline=baseline,
        now_ms=await ledger.now_ms(),
        closed_ms=None if statement is None else statement.time_ms,
        first_ms=await first_activity_ms(ledger, zone),
        missing_entries=missing.entries,
        queue=await queue.totals(),
    )
    return Gathered(figures(this, last, books), snapshot)


async def _state(ledger: Ledger, name: str, rule: Budget, period_id: str) -> BudgetState:
    """Return a budget as it stands. Of one that was never published nothing can be spent."""
    try:
        (state,) = await ledger.states([(name, name, period_id)])
    except PolicyNotPublished:
        return BudgetState(name, name, period_id, rule.limit_nano_usd, 0, 0, 0, 0)
    return state


def plain_month_rules(budgets: BudgetsFile) -> dict[str, Budget]:
    """Return the rules that keep one counter a month for everybody they match."""
    return {
        name: it for name, it in budgets.budgets.items() if it.period == "month" and it.each is None
    }


def categories_of(rules: Mapping[str, Budget]) -> dict[str, str]:
    """Return the category of each rule that matches one category and nothing else."""
    found = {}
    for name, rule in rules.items():
        match rule.match.wanted:
            case (("category", values),) if len(values) == 1:
                (found[name],) = values
    return found


def setting_of(policy: Policy, month: Period) -> Setting:
    """Return what a month is judged by, as the policy has it now."""
    groups = policy.groups.groups
    primaries = {
        name: group.primary
        for name in policy.routing.categories
        if (group := groups.get(name)) is not None and group.primary is not None
    }

    def price_of(group: str) -> Price | None:
        found = groups.get(group)
        prices = found.prices if found is not None else None
        return prices[0] if isinstance(prices, tuple) and prices else None

    return Setting(
        month=month,
        zone=policy.budgets.time_zone,
        primaries=primaries,
        tiers={name: facts.tier.value for name, facts in policy.routing.models.items()},
        price_of=price_of,
        frontier=list(primaries.values())[-1] if primaries else None,
    )
