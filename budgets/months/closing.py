"""Which periods have ended, and how one is closed: with its last hold, or with some still open.

A month is closed always. Days and weeks are closed where a budget of that period hands something on
(`carry`): for others it would change nothing. What was before the ledger's first entry is left
alone, since a budget that nobody could use has saved nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from budgets import carry
from budgets.config import BudgetsFile
from budgets.ledger import Ledger
from budgets.period import Period, PeriodKind, kind_of, period_at, period_of_id
from budgets.statements import OpenHold, PeriodOpen, Statement

OPEN_HOLDS_SHOWN = 50
PERIODS_BACK: dict[PeriodKind, int] = {"day": 40, "week": 8, "month": 24}
"""How far a closing goes back after a time in which no worker ran."""


@dataclass(frozen=True, slots=True)
class HoldsOpen:
    """The period has ended and was not closed, because holds of it are open; some of them."""

    period_id: str
    time_ms: int
    count: int
    holds: tuple[OpenHold, ...]


def ended_periods(budgets: BudgetsFile, first_ms: int, now_ms: int) -> Iterator[Period]:
    """Yield the periods that have ended and are to be closed, each kind's oldest first.

    `first_ms` is when the ledger's first entry was written (Unix ms).
    """
    for kind in closing_kinds(budgets):
        found = []
        period = period_at(kind, budgets.time_zone, now_ms)
        for _ in range(PERIODS_BACK[kind]):
            if period.start_ms <= first_ms:
                break
            period = period_at(kind, budgets.time_zone, period.start_ms - 1)
            found.append(period)
        yield from reversed(found)


def closing_kinds(budgets: BudgetsFile) -> tuple[PeriodKind, ...]:
    """Return the kinds of periods that are closed: see the module."""
    carrying = {it.period for it in budgets.budgets.values() if carry.carries(it.published_carry)}
    kinds: tuple[PeriodKind, ...] = ("day", "week", "month")
    return tuple(kind for kind in kinds if kind == "month" or kind in carrying)


async def first_activity_ms(ledger: Ledger, zone: str) -> int | None:
    """Return when the ledger's first entry was written, or its first hold's period began, if that
    is earlier (Unix ms); None where it has no entry."""
    state = await ledger.archive_state()
    if state.parts:
        return int(state.parts[0].first.partition("-")[0])
    async for entry in ledger.entries():
        found = [entry.time_ms]
        for _, period_id in entry.charges:
            period = period_of_id(period_id, zone)
            if period is not None:
                found.append(min(entry.time_ms, period.end_ms - 1))
        return min(found)
    return None


def following(period: Period, zone: str) -> Period:
    """Return the period after one, of the same kind."""
    kind = kind_of(period.id)
    if kind is None:
        raise ValueError(f"{period.id!r} is no calendar period")
    return period_at(kind, zone, period.end_ms)


async def close(
    ledger: Ledger, budgets: BudgetsFile, period: Period, *, with_open_holds: bool = False
) -> Statement | PeriodOpen | HoldsOpen:
    """Close a period, or say why it is not closed yet. One that is closed answers as at first.

    With open holds it is closed only if `with_open_holds` is true: they count as spent then, and
    their ends become addenda.

    Raises:
        PolicyNotPublished: the store knows no limit for a rule.
    """
    closed = await ledger.statement(period.id)
    if closed is not None:
        return closed
    now_ms = await ledger.now_ms()
    if now_ms < period.end_ms:
        return PeriodOpen(period.id, now_ms, period.end_ms)
    if not with_open_holds:
        count, holds = await ledger.open_holds(period.id, OPEN_HOLDS_SHOWN)
        if count:
            return HoldsOpen(period.id, now_ms, count, holds)
    kind = kind_of(period.id)
    plain = tuple(
        (name, name)
        for name, it in budgets.budgets.items()
        if it.period == kind and it.each is None
    )
    return await ledger.close_period(period, following(period, budgets.time_zone), plain)
