"""Parts of an allowance that workers hold for the time when the store is away."""

from __future__ import annotations

from dataclasses import dataclass

from budgets.holds import BudgetHold
from budgets.period import Period


@dataclass(frozen=True, slots=True)
class SliceRequest:
    """What one worker asks of a rule's allowance, for one period.

    `have_nano_usd` is the slice that the worker reckons with now: it may be less than the ledger
    has noted, where the worker was asked to give some back. Where `counts_alone` is true the rule
    keeps one counter for everybody, and a budget that is used up gives no more slices.
    """

    rule: str
    period: Period
    allowance_nano_usd: int
    have_nano_usd: int
    counts_alone: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """A worker's part of an allowance as the ledger has noted it, and the part that it should have.

    A worker above its target lowers what it reckons with, and says so at its next call.
    """

    rule: str
    period_id: str
    granted_nano_usd: int
    target_nano_usd: int


@dataclass(frozen=True, slots=True)
class OfflineHold:
    """A hold that a worker admitted by its slices while the store was away.

    `owner` had the slices. `time_ms` is the worker's clock; the rest is as in `HoldRequest`.
    """

    hold_id: str
    amount_nano_usd: int
    budgets: tuple[BudgetHold, ...]
    time_ms: int
    facts: str
    decision_id: str
    decision: str
    stats_period: str
    owner: str
