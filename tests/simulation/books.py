"""The checker's own books: what it knows of limits, holds and sums, and how it compares them.

The other half, what each operation must answer, is in `checks`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from budgets.holds import BudgetHold, Refused
from budgets.memory import MemoryLedger
from budgets.published import Level, PublishedPolicy, PublishedRule
from budgets.records import LedgerEntry

if TYPE_CHECKING:
    from tests.simulation.store import Operation

Key = tuple[str, str]
"""A budget and a period id."""


class Broken(AssertionError):
    """A promise does not hold. `promise` is its number, or a word for what else must hold."""

    def __init__(self, promise: int | str, what: str) -> None:
        super().__init__(f"promise {promise}: {what}")
        self.promise = promise


@dataclass
class Share:
    """One budget's part in a hold, and what it was charged in the end."""

    rule: str
    period_id: str
    amount: int
    charged: int = 0


@dataclass
class HoldRecord:
    """A hold by the checker's books. `outcome` is the kind of its last entry, empty while open.
    `offline` is true where it was admitted without the store. Of a leased slice, `lease` is what
    its worker may have admitted without a word."""

    hold_id: str
    amount: int
    time_ms: int
    lease_end_ms: int
    shares: dict[str, Share]
    outcome: str = ""
    cost: int = 0
    offline: bool = False
    lease: int | None = None
    entries: list[str] = field(default_factory=list)


class Books:
    """What was asked and answered so far, added up anew. All amounts are nanodollars."""

    def __init__(self) -> None:
        self.holds: dict[str, HoldRecord] = {}
        self.refusals: set[str] = set()
        self.spent: defaultdict[Key, int] = defaultdict(int)
        self.held: defaultdict[Key, int] = defaultdict(int)
        self.rules: dict[str, tuple[PublishedRule, int]] = {}
        self.policy: PublishedPolicy | None = None
        self.overages = 0
        self._revision = 0
        self._time_ms = 0
        self._leads: dict[str, tuple[str, int]] = {}
        self._slices: dict[tuple[str, str, str], int] = {}
        self._claimed: set[tuple[str, str, int, Level]] = set()
        self._due: set[tuple[str, str, int, Level]] = set()
        self._entries_read = 0
        self._events_read = 0
        self._refusals_read = 0
        self._asked: str | None = None
        self._new: list[LedgerEntry] = []

    def _fits(self, hold_id: str, share: BudgetHold, more: int, period_id: str = "") -> None:
        key = (share.budget, period_id or share.period.id)
        rule, _ = self.rules[share.rule]
        total = self.spent[key] + self.held[key] + more
        fits = total <= rule.limit_nano_usd or not share.enforced
        if not fits:
            raise Broken(
                1,
                f"{hold_id} was admitted to {key} with {more}: spent {self.spent[key]} and held "
                f"{self.held[key]} make {total} of {rule.limit_nano_usd}",
            )

    def _refused_rightly(
        self,
        operation: Operation,
        refused: Refused,
        wants: list[tuple[BudgetHold, int]],
        *,
        claims: bool,
    ) -> None:
        """A refusal is right if a budget cannot bear it; whoever refuses all breaks no limit."""
        reasons = set()
        for share, more in wants:
            key = (share.budget, share.period.id)
            rule, epoch = self.rules[share.rule]
            if not share.enforced or self.spent[key] + self.held[key] + more <= rule.limit_nano_usd:
                continue
            exceeded = self.spent[key] + share.amount_nano_usd > rule.limit_nano_usd
            reasons.add("budget_exceeded" if exceeded else "budget_busy")
            if exceeded and claims:
                for threshold in rule.thresholds:
                    if threshold.level is Level.EMERGENCY:
                        self._due.add((*key, epoch, threshold.level))
        right = "budget_exceeded" if "budget_exceeded" in reasons else "budget_busy"
        if not reasons:
            raise Broken(1, f"{operation.name} was refused although it fits: {refused}")
        if refused.code != right:
            raise Broken(1, f"the reason is {right} and not {refused.code}")

    def _take_entry(
        self, hold: HoldRecord, kind: str, cost: int, charges: dict[str, int], *, claims: bool
    ) -> None:
        """Read the one entry that an end leaves, and hold it to what was asked."""
        if not self._new:
            raise Broken(2, f"{hold} ended as {kind} without an entry")
        entry, self._new = self._new[0], self._new[1:]
        if entry.hold_id != hold.hold_id:
            raise Broken(2, f"the entry of another hold: {entry}")
        if entry.kind != kind:
            raise Broken(2, f"{entry} should be {kind}")
        if entry.cost_nano_usd != cost:
            raise Broken(3, f"{entry} should cost {cost}")
        differences = {
            (budget, share.period_id): charges[budget] - share.charged
            for budget, share in hold.shares.items()
        }
        if entry.charges.keys() != differences.keys():
            raise Broken(7, f"{entry} charges other periods")
        if entry.charges != differences:
            raise Broken(3, f"{entry} should charge {differences}")
        for budget, share in hold.shares.items():
            key = (budget, share.period_id)
            self.spent[key] += entry.charges[key]
            if not hold.outcome and not hold.offline:
                self.held[key] -= share.amount
            share.charged = charges[budget]
            if claims:
                self._reach(share.rule, key)
        over = cost > hold.amount or any(it.charged > it.amount for it in hold.shares.values())
        self.overages += over
        hold.entries.append(kind)
        hold.outcome, hold.cost = kind, cost

    def _reach(self, rule_name: str, key: Key) -> None:
        if rule_name not in self.rules:
            return  # A failover has lost the limits as well; they are published again soon.
        rule, epoch = self.rules[rule_name]
        for threshold in rule.thresholds:
            share = self.spent[key] * 100 >= threshold.percent * rule.limit_nano_usd
            if share and self.spent[key] > 0:
                self._due.add((*key, epoch, threshold.level))

    def _read_refusals(self, ledger: MemoryLedger) -> None:
        lines = ledger._refusals[self._refusals_read :]
        self._refusals_read += len(lines)
        told = [json.loads(line.body)["decision_id"] for line in lines]
        asked, self._asked = self._asked, None
        if told != ([asked] if asked else []):
            raise Broken("refusals", f"the refusal {asked} was asked for, and {told} recorded")
        self.refusals.update(told)

    def _read_events(self, ledger: MemoryLedger, operation: Operation, overages: int) -> None:
        found = 0
        for event in ledger._events[self._events_read :]:
            self._events_read += 1
            found += event.kind == "overage"
            if event.kind != "threshold":
                continue
            body = json.loads(event.body)
            epoch, level = body["limit_epoch"], Level(body["level"])
            claim = (body["budget"], body["period_id"], epoch, level)
            if claim in self._claimed:
                raise Broken(8, f"{claim} was claimed twice")
            if claim not in self._due:
                raise Broken(8, f"{claim} was claimed and not reached")
            self._claimed.add(claim)
        if found != overages:
            raise Broken(3, f"{operation.name}: {overages} overages, {found} events")
        missing = self._due - self._claimed
        if missing:
            raise Broken(8, f"reached and not claimed: {sorted(missing)}")

    def _compare(self, ledger: MemoryLedger) -> None:
        for (budget, period_id), counter in ledger._counters.items():
            key = (budget, period_id)
            same = counter.spent == self.spent[key] and counter.held == self.held[key]
            if not same:
                raise Broken(
                    9, f"{key} says {counter}; it is {self.spent[key]} and {self.held[key]}"
                )
            if not (counter.held >= 0):
                raise Broken(9, f"{key} holds less than nothing: {counter}")
