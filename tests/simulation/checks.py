"""The ledger's promises, checked after every operation by books of the checker's own.

The checker folds what was asked and what was answered into books of its own, in another way than
the ledger does it: what is spent is added up from the entries, what is held from the holds that
were admitted and have no entry yet. It knows the limits from what was published. So it can tell for
every answer whether it was right, and it shares no figure with the ledger that it checks.

Numbers in the messages are those of the promises in `docs/explanation/ledger.md`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from budgets.ledger import (
    BudgetHold,
    ClockSkew,
    Held,
    HoldIdReused,
    HoldRequest,
    LedgerEntry,
    Level,
    OfflineHold,
    PolicyNotPublished,
    PolicyOutrun,
    PublishedPolicy,
    PublishedRule,
    RefusalRecord,
    Refused,
    Settled,
    Settlement,
    SliceRequest,
)
from budgets.memory import MemoryLedger

if TYPE_CHECKING:
    from tests.simulation.store import Answer, Operation

TIMELESS = frozenset({"publish", "release_slices", "resign"})
"""Operations that change something and do not ask for the time."""

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
    `offline` is true where it was admitted without the store."""

    hold_id: str
    amount: int
    time_ms: int
    lease_end_ms: int
    shares: dict[str, Share]
    outcome: str = ""
    cost: int = 0
    offline: bool = False
    entries: list[str] = field(default_factory=list)


class Checker:
    """Checks one ledger from its beginning. `after` is to be called after every operation."""

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

    def after(self, operation: Operation, answer: Answer, ledger: MemoryLedger) -> None:
        """Check one operation and everything that it left behind."""
        self._new = ledger._entries[self._entries_read :]
        self._entries_read += len(self._new)
        overages = self.overages
        if operation.name not in TIMELESS:
            # The store's clock can be set back by seconds; the ledger's time then stands still.
            self._time_ms = max(self._time_ms, operation.time_ms)
        operation = replace(operation, time_ms=self._time_ms)
        check = getattr(self, f"_after_{operation.name}")
        check(operation, answer, *operation.args, **operation.kwargs)
        for entry in self._new:
            raise Broken(2, f"{operation.name} wrote an entry that nobody asked for: {entry}")
        self._read_events(ledger, operation, self.overages - overages)
        self._read_refusals(ledger)
        self._compare(ledger)

    # ── admission ────────────────────────────────────────────────────────────────────────────────

    def _after_publish(
        self, _: Operation, answer: Answer, policy: PublishedPolicy, after: int
    ) -> None:
        if self.policy is not None and policy.digest == self.policy.digest:
            answer.get()
            return
        if isinstance(answer.error, PolicyOutrun):
            if after == self._revision:
                raise Broken(1, f"{policy.digest} follows revision {after}, and was not taken")
            return
        if after != self._revision:
            raise Broken(1, f"{policy.digest} replaces a newer policy than it knew")
        self._revision = answer.get()
        self.policy = policy
        for rule in policy.rules:
            known, epoch = self.rules.get(rule.rule, (None, 0))
            raised = known is None or rule.limit_nano_usd > known.limit_nano_usd
            self.rules[rule.rule] = (rule, epoch + raised)

    def _after_hold(self, operation: Operation, answer: Answer, request: HoldRequest) -> None:
        now, known = operation.time_ms, self.holds.get(request.hold_id)
        match answer:
            case _ if known is not None and known.outcome:
                if not isinstance(answer.error, HoldIdReused):
                    raise Broken(2, f"{known} was admitted again")
            case _ if known is not None:
                repeated = isinstance(answer.value, Held) and answer.value.repeated
                if not repeated:
                    raise Broken(2, f"{known} was held twice: {answer}")
            case _ if isinstance(answer.error, ClockSkew):
                strange = not all(share.period.contains(now) for share in request.budgets)
                if not strange:
                    raise Broken(
                        7, f"the periods of {request.budgets} hold {now}, and were refused"
                    )
            case _ if isinstance(answer.error, PolicyNotPublished):
                if answer.error.rule in self.rules:
                    raise Broken(1, f"{answer.error} is published")
            case _ if isinstance(answer.value, Refused):
                wants = [(share, share.amount_nano_usd) for share in request.budgets]
                self._refused_rightly(operation, answer.value, wants, claims=True)
            case _:
                assert isinstance(answer.value, Held), answer
                for share in request.budgets:
                    inside = share.period.contains(now)
                    if not inside:
                        raise Broken(7, f"{request.hold_id} is held in {share.period} at {now}")
                    self._fits(request.hold_id, share, share.amount_nano_usd)
                shares = {
                    it.budget: Share(it.rule, it.period.id, it.amount_nano_usd)
                    for it in request.budgets
                }
                self.holds[request.hold_id] = HoldRecord(
                    request.hold_id, request.amount_nano_usd, now, now + request.lease_ms, shares
                )
                for share in request.budgets:
                    self.held[share.budget, share.period.id] += share.amount_nano_usd

    def _after_top_up(
        self,
        operation: Operation,
        answer: Answer,
        hold_id: str,
        amount_nano_usd: int,
        budgets: tuple[BudgetHold, ...],
    ) -> None:
        hold = self.holds.get(hold_id)
        if hold is None or hold.outcome:
            if not (answer.value is None and answer.error is None):
                raise Broken(2, f"{hold} was topped up")
            return
        if answer.error is not None:
            assert isinstance(answer.error, ClockSkew | PolicyNotPublished), answer
            return
        wants = []
        for asked in budgets:
            share = hold.shares.get(asked.budget)
            has = share.amount if share is not None else 0
            wants.append((asked, max(0, asked.amount_nano_usd - has)))
        if isinstance(answer.value, Refused):
            self._refused_rightly(operation, answer.value, wants, claims=False)
            return
        if not isinstance(answer.value, Held):
            raise Broken(2, f"{hold} is open, and was not topped up")
        for asked, more in wants:
            share = hold.shares.setdefault(asked.budget, Share(asked.rule, asked.period.id, 0))
            if more or share.amount == 0:
                self._fits(hold_id, asked, more, share.period_id)
            share.amount += more
            self.held[asked.budget, share.period_id] += more
        hold.amount = max(hold.amount, amount_nano_usd)

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

    # ── the ends of a hold ───────────────────────────────────────────────────────────────────────

    def _after_settle(self, _: Operation, answer: Answer, settlement: Settlement) -> None:
        cost = settlement.cost_nano_usd
        hold = self.holds.get(settlement.hold_id)
        recovery = getattr(settlement, "recovery", None)
        if hold is None and recovery is not None:
            self._after_recovery(answer.get(), settlement, recovery)
            return
        charges = {it: settlement.charges.get(it, cost) for it in (hold.shares if hold else ())}
        self._ended(answer.get(), settlement.hold_id, "settled", cost, charges)

    def _after_recovery(self, settled: Settled, settlement: Settlement, recovery: Any) -> None:
        """A hold that a failover lost is charged from what its owner knows of it."""
        if settled.status != "recovered":
            raise Broken(4, f"{settlement.hold_id} was lost, and is {settled.status}")
        cost = settlement.cost_nano_usd
        shares = {
            it.budget: Share(it.rule, it.period.id, it.amount_nano_usd) for it in recovery.budgets
        }
        hold = HoldRecord(
            settlement.hold_id,
            recovery.amount_nano_usd,
            recovery.held_at_ms,
            recovery.held_at_ms,
            shares,
            offline=True,
        )
        self.holds[settlement.hold_id] = hold
        charges = {it: settlement.charges.get(it, cost) for it in shares}
        self._take_entry(hold, "recovered", cost, charges, claims=True)

    def _after_void(
        self,
        operation: Operation,
        answer: Answer,
        hold_id: str,
        body: str,
        counters: Any,
        *,
        ahead: bool = False,
    ) -> None:
        hold = self.holds.get(hold_id)
        self._ended(
            answer.get(), hold_id, "voided", 0, dict.fromkeys(hold.shares if hold else (), 0)
        )
        if hold is None and ahead:
            now = operation.time_ms
            self.holds[hold_id] = HoldRecord(hold_id, 0, now, now, {}, outcome="voided")

    def _ended(
        self, settled: Settled, hold_id: str, kind: str, cost: int, charges: dict[str, int]
    ) -> None:
        hold = self.holds.get(hold_id)
        match hold.outcome if hold is not None else "unknown":
            case "unknown":
                if settled.status != "unknown_hold":
                    raise Broken(2, f"{hold_id} is unknown: {settled}")
                return
            case "":
                expected = kind
            case "unreconciled":
                expected = "corrected"
            case _:
                assert hold is not None
                if not settled.status.startswith("already_"):
                    raise Broken(2, f"{hold} ended twice: {settled}")
                if settled.charged_nano_usd != hold.cost:
                    raise Broken(2, f"{hold} changed its cost")
                return
        assert hold is not None
        if settled.status != expected:
            raise Broken(2, f"{hold} is {settled.status}, not {expected}")
        self._take_entry(hold, expected, cost, charges, claims=kind != "voided")

    def _after_expire(self, operation: Operation, answer: Answer, count_max: int) -> None:
        now = operation.time_ms
        due = {
            it.hold_id for it in self.holds.values() if not it.outcome and it.lease_end_ms <= now
        }
        ended = answer.get()
        if len(ended) != min(len(due), count_max):
            raise Broken(4, f"{len(due)} leases have ended: {ended}")
        for entry in ended:
            hold = self.holds[entry.hold_id]
            if hold.hold_id not in due:
                raise Broken(4, f"the lease of {hold} had not ended at {now}")
            charges = {budget: share.amount for budget, share in hold.shares.items()}
            self._take_entry(hold, "unreconciled", hold.amount, charges, claims=True)

    def _after_replay(
        self,
        operation: Operation,
        answer: Answer,
        offline: OfflineHold,
        ending: Settlement,
        state: str,
    ) -> None:
        hold = self.holds.get(offline.hold_id)
        cost = ending.cost_nano_usd
        charges = {it.budget: ending.charges.get(it.budget, cost) for it in offline.budgets}
        if hold is None:
            now = operation.time_ms
            shares = {
                it.budget: Share(it.rule, it.period.id, it.amount_nano_usd)
                for it in offline.budgets
            }
            hold = HoldRecord(
                offline.hold_id, offline.amount_nano_usd, now, now, shares, offline=True
            )
            self.holds[offline.hold_id] = hold
        elif state != "unreconciled":
            charges = {it: ending.charges.get(it, cost) for it in hold.shares}
            self._ended(answer.get(), hold.hold_id, state, cost, charges)
            return
        elif hold.outcome:
            if not answer.get().status.startswith("already_"):
                raise Broken(2, f"{hold} ended twice: {answer}")
            return
        answer.get()
        charges = {it: ending.charges.get(it, cost) for it in hold.shares}
        self._take_entry(hold, state, cost, charges, claims=state != "voided")

    def _after_lead(
        self, operation: Operation, answer: Answer, role: str, owner: str, lease_ms: int
    ) -> None:
        now = operation.time_ms
        leader, until_ms = self._leads.get(role, ("", 0))
        free = leader in ("", owner) or until_ms <= now
        if answer.get() != free:
            raise Broken(4, f"{owner} leads {role}: {answer.value}; {leader} does until {until_ms}")
        if free:
            self._leads[role] = (owner, now + lease_ms)

    def _after_resign(self, _: Operation, answer: Answer, role: str, owner: str) -> None:
        if answer.get():
            del self._leads[role]

    def _after_slices(
        self, _: Operation, answer: Answer, owner: str, wanted: tuple[SliceRequest, ...]
    ) -> None:
        for asked, found in zip(wanted, answer.get(), strict=True):
            self._slices[owner, found.rule, found.period_id] = found.granted_nano_usd
            handed_out = sum(
                amount
                for (_, rule, period_id), amount in self._slices.items()
                if (rule, period_id) == (found.rule, found.period_id)
            )
            if handed_out > asked.allowance_nano_usd:
                raise Broken(11, f"slices of {handed_out} of an allowance: {asked}")

    def _after_release_slices(self, _: Operation, answer: Answer, owner: str) -> None:
        answer.get()
        for key in [it for it in self._slices if it[0] == owner]:
            del self._slices[key]

    def _after_renew(
        self, operation: Operation, answer: Answer, hold_ids: tuple[str, ...], lease_ms: int
    ) -> None:
        found = [self.holds[it] for it in hold_ids if it in self.holds]
        open_holds = [it for it in found if not it.outcome]
        if answer.get() != len(open_holds):
            raise Broken(4, f"{len(open_holds)} of {hold_ids} are open")
        for hold in open_holds:
            hold.lease_end_ms = max(hold.lease_end_ms, operation.time_ms + lease_ms)

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
        rule, epoch = self.rules[rule_name]
        for threshold in rule.thresholds:
            share = self.spent[key] * 100 >= threshold.percent * rule.limit_nano_usd
            if share and self.spent[key] > 0:
                self._due.add((*key, epoch, threshold.level))

    # ── what every operation leaves behind ───────────────────────────────────────────────────────

    def _after_refuse(self, _: Operation, answer: Answer, record: RefusalRecord) -> None:
        answer.get()
        if record.decision_id not in self.refusals:
            self._asked = record.decision_id

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
