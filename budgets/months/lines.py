"""What the figures of a month are made of: types only, amounts in whole nanodollars.

None is unknown. What each figure means, and how it comes about, is in `figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budgets.months.tally import Cell, Finding
from budgets.queue.items import Totals


@dataclass(frozen=True, slots=True)
class BudgetAtEnd:
    """A budget of the month as the books have it: from the statement, or as it stands now."""

    budget: str
    limit: int
    carry: int
    spent: int
    held: int
    carried: int | None = None
    granted: int = 0

    @property
    def bearable(self) -> int:
        """Return what may be spent: the limit with what was carried in and granted."""
        return self.limit + self.carry + self.granted


@dataclass(frozen=True, slots=True)
class Books:
    """What stands beside the entries. `category_of` has the only category that a budget matches;
    `first_ms` is when the ledger began (None: it has nothing), `queue` the queue as it is now."""

    budgets: Sequence[BudgetAtEnd]
    category_of: Mapping[str, str]
    categories: Sequence[str]
    baseline: int | None
    now_ms: int
    closed_ms: int | None
    first_ms: int | None
    missing_entries: int = 0
    queue: Totals | None = None


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A budget of the month: `limit` with `carry` and `granted` is what it may bear. `state` is
    `over`, `under` (used), or empty. `category` is the only one that it matches, if that is all
    that it matches."""

    budget: str
    category: str | None
    limit: int
    carry: int
    granted: int
    spent: int
    held: int
    carried: int | None
    state: str
    proposed_limit: int | None

    @property
    def used(self) -> float | None:
        """Return the part of what it may bear that is spent."""
        return self.spent / self.bearable if self.bearable > 0 else None

    @property
    def bearable(self) -> int:
        """Return what may be spent: the limit with what was carried in and granted."""
        return self.limit + self.carry + self.granted


@dataclass(frozen=True, slots=True)
class CategoryLine:
    """A category's requests; the days are those that the ledger saw."""

    category: str
    cell: Cell
    limit: int | None
    refused: int
    days: int | None
    days_in_budget: int | None
    days_on_pace: int | None


@dataclass(frozen=True, slots=True)
class ForecastLine:
    """What the end of the month looked like at the end of a day."""

    day: str
    spent: int
    forecast: int
    error: float | None


@dataclass(frozen=True, slots=True)
class MixLine:
    """A group's part of the requests and of the spend."""

    group: str
    cell: Cell
    share_of_requests: float
    share_of_spend: float | None
    share_last_month: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Actual against something else: `savings` is the other less actual, `share` of the other."""

    other: int | None
    actual: int
    savings: int | None
    share: float | None


@dataclass(frozen=True, slots=True)
class FindingLine:
    """Requests that a group of another tier served, and what the needed tier would have cost."""

    task_type: str
    needs: str
    group: str
    group_tier: str
    why: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that a month's report says. `closed` is None while the month is open."""

    period_id: str
    zone: str
    start_ms: int
    end_ms: int
    now_ms: int
    closed_ms: int | None
    ended: bool
    month_number: int | None
    days: tuple[str, ...]
    days_seen: int
    total: Cell
    voided: int
    corrected: int
    addenda: int
    unreadable: int
    missing_entries: int
    budgets: tuple[BudgetLine, ...]
    categories: tuple[CategoryLine, ...]
    burn: tuple[tuple[str, int, Mapping[str, int]], ...]
    forecasts: tuple[ForecastLine, ...]
    forecast: int | None
    mix: tuple[MixLine, ...]
    mix_by_day: Mapping[str, Mapping[str, int]]
    roles: Mapping[str, Mapping[str, int]]
    weeks_drift: tuple[tuple[str, float], ...]
    mix_drift: float | None
    mix_drift_from_last: float | None
    fallback_reasons: tuple[tuple[str, int], ...]
    escalations: tuple[tuple[str, int], ...]
    refusals: Mapping[str, Mapping[str, int]]
    marks: Mapping[str, Cell]
    estimate_error_target: float | None
    savings_target: tuple[float, float | None] | None
    against_baseline: Comparison
    baseline_month: int | None
    against_frontier: Comparison
    frontier_group: str | None
    frontier_requests: int
    against_last_month: Comparison
    last_month_id: str
    task_types: tuple[tuple[str, Cell], ...]
    teams: tuple[tuple[str, Cell], ...]
    sessions: tuple[tuple[str, Cell], ...]
    sessions_left_out: int
    over: tuple[FindingLine, ...]
    under: tuple[FindingLine, ...]
    queued: Mapping[str, int]
    events: Mapping[str, int]
    trail: Mapping[str, int]
    by_approval: Cell
    queue: Totals | None
    quality: str | None

    @property
    def estimate_error(self) -> float | None:
        """Return the whole month's error, without its sign."""
        error = self.total.estimate_error
        return None if error is None else abs(error)
