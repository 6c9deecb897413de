"""What the in-memory ledger remembers, and the rules that need nothing else: see `memory`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from budgets.grants.types import Active
from budgets.holds import BudgetHold, BudgetState
from budgets.published import Level
from budgets.records import LedgerEntry, LedgerEvent
from budgets.statements import Addendum
from budgets.verify import line_order

Line = TypeVar("Line", LedgerEntry, LedgerEvent, Addendum)


@dataclass
class Counter:
    """One budget in one period."""

    rule: str
    spent: int = 0
    held: int = 0
    claimed: dict[Level, int] = field(default_factory=dict)
    expected_ends: dict[str, int] = field(default_factory=dict)
    unreconciled: int = 0
    carry: int = 0
    carry_from: str | None = None
    grants: list[Active] = field(default_factory=list)


@dataclass
class Share:
    """One budget's part in a hold."""

    budget: str
    rule: str
    period_id: str
    amount: int
    charged: int = 0


@dataclass
class Hold:
    """A hold, open or ended; `forget_at_ms` is set once it has ended."""

    state: str
    amount: int
    time_ms: int
    expected_end_ms: int
    shares: list[Share]
    facts: str
    decision_id: str
    stats_period: str
    charged: int = 0
    overage: int = 0
    forget_at_ms: int | None = None
    approval_id: str = ""
    lease: int | None = None


@dataclass
class Want:
    """What one budget is asked to bear: `target` in all for this hold, of which `delta` is new.

    What is `approved` passes its limit.
    """

    asked: BudgetHold
    state: BudgetState
    target: int
    delta: int
    share: Share | None = None
    approved: bool = False

    @property
    def verdict(self) -> str | None:
        """The refusal code, or None where the budget bears it."""
        if self.approved or (self.share is not None and self.delta == 0):
            return None
        state = self.state
        if state.spent_nano_usd + self.target > state.bearable_nano_usd:
            return "budget_exceeded"
        if state.held_nano_usd + state.spent_nano_usd + self.delta > state.bearable_nano_usd:
            return "budget_busy"
        return None


def name_of(state: BudgetState) -> tuple[str, str, str]:
    return (state.budget, state.rule, state.period_id)


def refuser_of(wants: Sequence[Want]) -> Want | None:
    """Return the want that refuses: exceeded before busy, then the budget with the least left."""
    refusing = [want for want in wants if want.asked.enforced and want.verdict]
    return min(
        refusing,
        key=lambda want: (want.verdict != "budget_exceeded", want.state.remaining_nano_usd),
        default=None,
    )


def would_refuse_of(wants: Sequence[Want]) -> str | None:
    verdicts = {want.verdict for want in wants if not want.asked.enforced}
    return next((code for code in ("budget_exceeded", "budget_busy") if code in verdicts), None)


def next_line_id(
    lines: Sequence[LedgerEntry | LedgerEvent | Addendum], now: int, trimmed_to: str = ""
) -> str:
    """Return the next id of a stream: the time, or the last id's where time stands or went back.

    `trimmed_to` is the last id that the stream no longer holds.
    """
    last_ms, last_sequence = line_order(lines[-1].id if lines else trimmed_to)
    if last_ms >= now:
        return f"{last_ms}-{last_sequence + 1}"
    return f"{now}-0"


def lines_beyond(lines: Sequence[Line], after: str, newest_first: bool) -> list[Line]:
    """Return the lines beyond the id `after`, in the direction of reading."""
    ordered = list(reversed(lines)) if newest_first else list(lines)
    if not after:
        return ordered
    limit = line_order(after)
    if newest_first:
        return [line for line in ordered if line_order(line.id) < limit]
    return [line for line in ordered if line_order(line.id) > limit]
