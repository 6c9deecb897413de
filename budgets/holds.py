"""Money set aside before a request is sent: what is asked, and the two answers."""

from __future__ import annotations

from dataclasses import dataclass

from budgets.approvals.types import ApprovalUse
from budgets.period import Period
from budgets.published import Level
from budgets.quick import quick


@quick
@dataclass(frozen=True, slots=True)
class BudgetHold:
    """One budget's share in a hold.

    `budget` is the counter's name: the rule's own name, or `rule:value` where a rule keeps one
    counter for each caller. `rule` names the limit. A budget with `enforced` false (shadow mode)
    counts and never refuses.
    """

    budget: str
    rule: str
    period: Period
    amount_nano_usd: int
    enforced: bool = True


@quick
@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Money to set aside for one request, against every matching budget, all or nothing.

    `expected_end_ms_in` is how long the request will probably take: it only feeds `retry-after` of
    others. `facts` is the JSON text of what is known so far (an entry's body), kept so that a hold
    whose owner died still leaves a full entry. `decision` is the JSON text of the decision, stored
    under `decision_id`. `stats_period` names the hash of running totals that the end of this
    request will be added to. `approval` is what to pass limits by, where they would refuse.
    """

    hold_id: str
    amount_nano_usd: int
    budgets: tuple[BudgetHold, ...]
    lease_ms: int
    expected_end_ms_in: int
    facts: str
    decision_id: str
    decision: str
    stats_period: str
    approval: ApprovalUse | None = None


@quick
@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget's counters in one period. `remaining` may be below zero after an overage.

    `carry_nano_usd` is what closed periods handed on: it adds to the limit, or takes from it. So
    does `granted_nano_usd`, by the grants and transfers that are in force.
    """

    budget: str
    rule: str
    period_id: str
    limit_nano_usd: int
    limit_epoch: int
    spent_nano_usd: int
    held_nano_usd: int
    holds: int
    claimed: tuple[Level, ...] = ()
    carry_nano_usd: int = 0
    granted_nano_usd: int = 0

    @property
    def bearable_nano_usd(self) -> int:
        """What may be spent in this period: the limit with what was carried and granted."""
        return self.limit_nano_usd + self.carry_nano_usd + self.granted_nano_usd

    @property
    def remaining_nano_usd(self) -> int:
        """What a new hold may take: limit with carry and grants, less spent, less held."""
        return self.bearable_nano_usd - self.spent_nano_usd - self.held_nano_usd

    def with_held(self, held_nano_usd: int) -> BudgetState:
        """Return the same with so much held; `dataclasses.replace` takes four times as long."""
        return BudgetState(
            self.budget,
            self.rule,
            self.period_id,
            self.limit_nano_usd,
            self.limit_epoch,
            self.spent_nano_usd,
            held_nano_usd,
            self.holds,
            self.claimed,
            self.carry_nano_usd,
            self.granted_nano_usd,
        )


@dataclass(frozen=True, slots=True)
class ThresholdEvent:
    """A threshold claimed by this very call; nobody else gets the same one.

    Its limit is the one that its percentage is of: with what was carried and granted.
    """

    level: Level
    percent: int
    budget: str
    rule: str
    period_id: str
    limit_epoch: int
    limit_nano_usd: int
    spent_nano_usd: int
    time_ms: int


@quick
@dataclass(frozen=True, slots=True)
class Held:
    """The hold stands. `states` are the budgets right after it, in the order of the request.

    `would_refuse` is the refusal code where a budget in shadow mode would have refused. `repeated`
    is true when this hold id was open already and nothing was done (a retry after a lost reply).
    `approval_id` is the approval that it passed by, if it needed one: a use of it is recorded.
    """

    hold_id: str
    time_ms: int
    states: tuple[BudgetState, ...]
    events: tuple[ThresholdEvent, ...] = ()
    would_refuse: str | None = None
    repeated: bool = False
    approval_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was held. `code` is `budget_exceeded` or `budget_busy`; `state` is the budget that
    refused (of several, the one with least left), as it stands.

    `retry_after_ms` is when the next hold of that budget should end, for `budget_busy` only.
    `approval_problem` is why the approval that the hold named did not help: `unknown` (none of this
    id for this caller), `not_approved`, `over`, `used_up`, or `other_budget` (it does not name all
    budgets that refuse).
    """

    code: str
    time_ms: int
    state: BudgetState
    requested_nano_usd: int
    period_end_ms: int
    retry_after_ms: int | None
    states: tuple[BudgetState, ...]
    events: tuple[ThresholdEvent, ...] = ()
    approval_problem: str = ""
