"""The closed periods of the in-memory ledger (`memory`); what they are is in `statements`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from budgets.carry import Carry, handed_on
from budgets.carry_audit import CarryAudit, CarryRow
from budgets.grants.types import at_closing
from budgets.holds import BudgetState
from budgets.memory_records import Counter, next_line_id
from budgets.period import Period
from budgets.records import Difference
from budgets.statements import Addendum, Statement, StatementRow


@dataclass
class _Closed:
    """One closed period: its statement, and what each budget that carries has handed on so far."""

    statement: Statement
    limits: dict[str, int] = field(default_factory=dict)
    carries: dict[str, Carry] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=dict)


class ClosedPeriods:
    """Statements and addenda, over the counters of the books, which `amend` and `close` change."""

    def __init__(self, counters: dict[tuple[str, str], Counter]) -> None:
        self._counters = counters
        self._closed: dict[str, _Closed] = {}
        self.addenda: list[Addendum] = []

    def statement(self, period_id: str) -> Statement | None:
        """Return a closed period's statement."""
        closed = self._closed.get(period_id)
        return closed.statement if closed else None

    def close(
        self,
        period: Period,
        following: Period,
        states: Sequence[BudgetState],
        carrying: Mapping[str, Carry],
        now: int,
    ) -> Statement:
        """Freeze the budgets of a period as they stand; `carrying` has the carry of the rules that
        have one."""
        rows = []
        for state in states:
            counter = self._counters.setdefault((state.budget, period.id), Counter(state.rule))
            left = state.limit_nano_usd + state.carry_nano_usd
            left -= state.spent_nano_usd + state.held_nano_usd
            granted = at_closing(counter.grants, left, period.end_ms)
            carried = None
            if state.rule in carrying:
                carried = handed_on(carrying[state.rule], left + granted)
            rows.append(
                StatementRow(
                    budget=state.budget,
                    rule=state.rule,
                    limit_nano_usd=state.limit_nano_usd,
                    carry_nano_usd=state.carry_nano_usd,
                    spent_nano_usd=state.spent_nano_usd,
                    held_nano_usd=state.held_nano_usd,
                    holds=state.holds,
                    unreconciled_nano_usd=counter.unreconciled,
                    carried_nano_usd=carried,
                    granted_nano_usd=granted,
                )
            )
        span = (period.id, period.start_ms, period.end_ms, following.id)
        closed = _Closed(Statement(*span, now, tuple(rows)))
        self._closed[period.id] = closed
        for row in rows:
            if row.carried_nano_usd is not None:
                closed.limits[row.budget] = row.limit_nano_usd + row.granted_nano_usd
                closed.carries[row.budget] = carrying[row.rule]
                closed.carried[row.budget] = row.carried_nano_usd
                self._carry_in(row.budget, row.rule, period.id, row.carried_nano_usd)
                self.amend(row.budget, following.id, 0, "", "", now)
        return closed.statement

    def _carry_in(self, budget: str, rule: str, period_id: str, change: int) -> None:
        following_id = self._closed[period_id].statement.following_id
        counter = self._counters.setdefault((budget, following_id), Counter(rule))
        counter.carry += change
        counter.carry_from = period_id

    def amend(
        self, budget: str, period_id: str, spent: int, hold_id: str, entry_id: str, now: int
    ) -> None:
        """Note a change of a closed period, and hand it on; an open period needs nothing."""
        while closed := self._closed.get(period_id):
            counter = self._counters[budget, period_id]
            change = 0
            if budget in closed.limits:
                change = self.owed(budget, period_id) - closed.carried[budget]
            if change or spent:
                line_id = next_line_id(self.addenda, now)
                line = (line_id, period_id, budget, now, spent, change, hold_id, entry_id)
                self.addenda.append(Addendum(*line))
            if not change:
                return
            closed.carried[budget] += change
            self._carry_in(budget, counter.rule, period_id, change)
            period_id, spent = closed.statement.following_id, 0

    def differences(self) -> tuple[Difference, ...]:
        """Return what was not handed on as it should have been."""
        last = self.addenda[-1].id if self.addenda else ""
        closed = []
        for period_id, it in self._closed.items():
            following_id = it.statement.following_id
            rows = []
            for budget, carried in it.carried.items():
                after = self._counters[budget, following_id]
                received = after.carry if after.carry_from == period_id else 0
                rows.append(CarryRow(budget, carried, self.owed(budget, period_id), received, last))
            closed.append((it.statement, rows))
        audit = CarryAudit(closed)
        for addendum in self.addenda:
            audit.add(addendum)
        return audit.differences()

    def owed(self, budget: str, period_id: str) -> int:
        """Return what a closed period must have handed on: of what its budget has left."""
        counter = self._counters[budget, period_id]
        closed = self._closed[period_id]
        balance = closed.limits[budget] + counter.carry - counter.spent - counter.held
        return handed_on(closed.carries[budget], balance)
