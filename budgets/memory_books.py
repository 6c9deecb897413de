"""The books of the in-memory ledger, and how money moves in them: see `memory`.

Only the rules: who may ask for what, and what the answers look like to callers, is in `memory`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from budgets.archived import ArchivedPart, CounterName, Sums
from budgets.audit.memory import MemoryTrail
from budgets.clock import Guard
from budgets.errors import LedgerPaused, PolicyNotPublished
from budgets.grants.types import Grant, in_force, raises
from budgets.holds import BudgetState, Held, Refused, ThresholdEvent
from budgets.learning import Learning
from budgets.ledger import Leader
from budgets.margins import InputLearning
from budgets.memory_closing import ClosedPeriods
from budgets.memory_records import Counter, Hold, Share, Want, name_of, next_line_id
from budgets.published import Level, PublishedRule
from budgets.records import LedgerEntry, LedgerEvent
from budgets.settlements import Settled, Settlement, SettleStatus
from budgets.slices import OfflineHold

ENDED_TTL_MS = 7 * 86_400_000
UNRECONCILED_TTL_MS = 62 * 86_400_000
RETRY_AFTER_MS_MIN = 250
RETRY_AFTER_MS_DEFAULT = 1000
RETRY_AFTER_MS_MAX = 3_600_000


class Books:
    """Everything that the ledger remembers; `clock` returns Unix milliseconds."""

    def __init__(self, clock: Callable[[], int], *, decision_ttl_s: int = 35 * 86_400) -> None:
        self._time = Guard(clock, self._clock_stepped)
        self._clock = self._time.now_ms
        self._decision_ttl_ms = decision_ttl_s * 1000
        self._digest: str | None = None
        self._revision = 0
        self._rules: dict[str, tuple[PublishedRule, int]] = {}
        self._counters: dict[tuple[str, str], Counter] = {}
        self._holds: dict[str, Hold] = {}
        self._leases: dict[str, int] = {}
        self._leads: dict[str, Leader] = {}
        self._closed = ClosedPeriods(self._counters)
        self._decisions: dict[str, tuple[str, int]] = {}
        self._refused: dict[str, int] = {}
        self._stats: dict[str, dict[str, int]] = {}
        self._learned: dict[str, Learning] = {}
        self._learned_inputs: dict[str, InputLearning] = {}
        self._recalled: dict[tuple[str, str], int] = {}
        self._slice_owners: dict[str, int] = {}
        self._slices: dict[tuple[str, str, str], int] = {}
        self._handed_out: dict[tuple[str, str], int] = {}
        self._entries: list[LedgerEntry] = []
        self._events: list[LedgerEvent] = []
        self._refusals: list[LedgerEvent] = []
        self.outbox: list[LedgerEvent] = []
        """Alerts that no worker has routed yet: see `alerts.outbox`."""
        self._parts: list[ArchivedPart] = []
        self._archived = Sums()
        self._paused_until_ms = 0
        self._grants: dict[str, dict[str, Grant]] = {}
        self.trail = MemoryTrail(self._clock)
        self._setup()

    def _setup(self) -> None:
        """Set up what the parts of the model add to it."""

    def _note_use(self, approval_id: str, hold_id: str, state: str, amount: int) -> None:
        """Record what a use of an approval has come to: see `approvals.memory`."""

    def _clock_stepped(self, before: int, now: int) -> None:
        for hold_id, until in self._leases.items():
            if until > before:
                self._leases[hold_id] = until + now - before
        for role, leader in self._leads.items():
            if leader.until_ms > before:
                self._leads[role] = replace(leader, until_ms=leader.until_ms + now - before)
        self._event("clock_stepped", now, from_ms=before, to_ms=now)

    def counter_names(self, rule: str, period_id: str) -> list[str]:
        """Return the counters of a rule in a period."""
        return sorted(
            budget
            for (budget, period), counter in self._counters.items()
            if period == period_id and counter.rule == rule
        )

    def _check_pause(self, now: int) -> None:
        if now < self._paused_until_ms:
            raise LedgerPaused(self._paused_until_ms - now)

    def _hold(self, hold_id: str) -> Hold | None:
        """Return a hold that is open, or has ended and is still remembered."""
        hold = self._holds.get(hold_id)
        if hold and hold.forget_at_ms is not None and hold.forget_at_ms <= self._clock():
            del self._holds[hold_id]
            return None
        return hold

    def _state(self, budget: str, rule: str, period_id: str) -> BudgetState:
        if rule not in self._rules:
            raise PolicyNotPublished(rule)
        published, epoch = self._rules[rule]
        counter = self._counters.get((budget, period_id)) or Counter(rule)
        epoch += raises(counter.grants)
        return BudgetState(
            budget=budget,
            rule=rule,
            period_id=period_id,
            limit_nano_usd=published.limit_nano_usd,
            limit_epoch=epoch,
            spent_nano_usd=counter.spent,
            held_nano_usd=counter.held,
            holds=len(counter.expected_ends),
            claimed=tuple(level for level in Level if counter.claimed.get(level) == epoch),
            carry_nano_usd=counter.carry,
            granted_nano_usd=in_force(counter.grants, self._time.peek_ms()),
        )

    def _used_up(self, rule: str, period_id: str) -> bool:
        if rule not in self._rules:
            return False
        state = self._state(rule, rule, period_id)
        return state.spent_nano_usd >= state.bearable_nano_usd

    def _forbid(self, hold_id: str) -> None:
        """Remember a hold that never came as voided, so that it can't come any more."""
        now = self._clock()
        gone = Hold("voided", 0, now, now, [], "", "", "", forget_at_ms=now + ENDED_TTL_MS)
        self._holds[hold_id] = gone

    def _offline(self, offline: OfflineHold, charges: Mapping[str, int]) -> Hold:
        """Note a hold that was admitted elsewhere, and what its request spent of its slices."""
        hold = Hold(
            state="offline",
            amount=offline.amount_nano_usd,
            time_ms=offline.time_ms,
            expected_end_ms=offline.time_ms,
            shares=[
                Share(it.budget, it.rule, it.period.id, it.amount_nano_usd)
                for it in offline.budgets
            ],
            facts="",
            decision_id=offline.decision_id,
            stats_period=offline.stats_period,
        )
        self._holds[offline.hold_id] = hold
        until = self._clock() + self._decision_ttl_ms
        self._decisions[offline.decision_id] = (offline.decision, until)
        for it in offline.budgets:
            self._counters.setdefault((it.budget, it.period.id), Counter(it.rule))
            if not it.enforced:
                continue
            key = (it.rule, it.period.id)
            charge = charges[it.budget]
            mine = self._slices.get((offline.owner, *key), 0)
            moved = min(mine, charge)
            if moved > 0:
                self._slices[offline.owner, *key] = mine - moved
            if key in self._handed_out:
                self._handed_out[key] += charge - moved
        return hold

    def _counter(self, state: BudgetState) -> Counter:
        key = (state.budget, state.period_id)
        return self._counters.setdefault(key, Counter(state.rule))

    def _refuse_hold(
        self, wants: list[Want], refuser: Want, now: int, *, claims: bool, problem: str = ""
    ) -> Refused:
        events: list[ThresholdEvent] = []
        for want in wants if claims else ():
            if want.asked.enforced and want.verdict == "budget_exceeded":
                for threshold in self._rules[want.state.rule][0].thresholds:
                    if threshold.level is Level.EMERGENCY:
                        self._claim(want.state, threshold.level, threshold.percent, now, events)
                want.state = self._state(*name_of(want.state))
        retry_after_ms = None
        if refuser.verdict == "budget_busy":
            first = min(self._counter(refuser.state).expected_ends.values(), default=now)
            retry_after_ms = RETRY_AFTER_MS_DEFAULT
            if first > now:
                retry_after_ms = max(RETRY_AFTER_MS_MIN, min(first - now, RETRY_AFTER_MS_MAX))
        assert refuser.verdict is not None
        return Refused(
            code=refuser.verdict,
            time_ms=now,
            state=refuser.state,
            requested_nano_usd=refuser.target,
            period_end_ms=refuser.asked.period.end_ms,
            retry_after_ms=retry_after_ms,
            states=tuple(want.state for want in wants),
            events=tuple(events),
            approval_problem=problem,
        )

    def _take(
        self, hold_id: str, hold: Hold, wants: list[Want], now: int, would_refuse: str | None
    ) -> Held:
        for want in wants:
            state = want.state
            counter = self._counter(state)
            counter.held += want.delta
            if want.share is not None:
                want.share.amount = want.target
            else:
                counter.expected_ends[hold_id] = hold.expected_end_ms
                hold.shares.append(Share(state.budget, state.rule, state.period_id, want.target))
            self._closed.amend(state.budget, state.period_id, 0, hold_id, "", now)
        states = tuple(self._state(*name_of(want.state)) for want in wants)
        approval = hold.approval_id or None
        return Held(hold_id, now, states, would_refuse=would_refuse, approval_id=approval)

    def _resolve(
        self,
        hold_id: str,
        state: str,
        cost: int,
        charge: Callable[[Share], int],
        body: str,
        counters: Mapping[str, int],
    ) -> Settled:
        now = self._clock()
        hold = self._hold(hold_id)
        if hold is None:
            return Settled(SettleStatus.UNKNOWN_HOLD, 0, 0, 0, now)
        if hold.state in ("settled", "voided"):
            status = SettleStatus(f"already_{hold.state}")
            return Settled(status, hold.charged, hold.amount, hold.overage, now)
        kind = state
        if hold.state == "unreconciled":
            kind = "corrected"
            own = {"corrected_count": 1, "corrected_nano": hold.charged}
            self._count(hold.stats_period, own)
        events: list[ThresholdEvent] = []
        self._end(
            hold_id,
            hold,
            kind=kind,
            state=state,
            cost=cost,
            charge=charge,
            body=body,
            counters=counters,
            now=now,
            events=events,
        )
        return Settled(SettleStatus(kind), cost, hold.amount, hold.overage, now, tuple(events))

    def _recover(self, settlement: Settlement) -> Settled | None:
        """Charge a hold that is not known here; None where it may have been forgotten rightly."""
        known, now = settlement.recovery, self._clock()
        if known is None or now >= known.held_at_ms + ENDED_TTL_MS:
            return None
        hold_id, cost = settlement.hold_id, settlement.cost_nano_usd
        shares = [
            Share(it.budget, it.rule, it.period.id, it.amount_nano_usd) for it in known.budgets
        ]
        for share in shares:
            self._counters.setdefault((share.budget, share.period_id), Counter(share.rule))
        hold = Hold(
            state="lost",
            amount=known.amount_nano_usd,
            time_ms=known.held_at_ms,
            expected_end_ms=now,
            shares=shares,
            facts="",
            decision_id=known.decision_id,
            stats_period=known.stats_period,
        )
        self._holds[hold_id] = hold
        self._count(known.stats_period, {"recovered_count": 1, "recovered_nano": cost})
        events: list[ThresholdEvent] = []
        self._end(
            hold_id,
            hold,
            kind="recovered",
            state="settled",
            cost=cost,
            charge=lambda share: settlement.charges.get(share.budget, cost),
            body=settlement.body,
            counters=settlement.counters,
            now=now,
            events=events,
        )
        self._event(
            "recovered",
            now,
            hold_id=hold_id,
            decision_id=hold.decision_id,
            charged_nano_usd=cost,
        )
        status = SettleStatus.RECOVERED
        return Settled(status, cost, hold.amount, hold.overage, now, tuple(events))

    def _end(
        self,
        hold_id: str,
        hold: Hold,
        *,
        kind: str,
        state: str,
        cost: int,
        charge: Callable[[Share], int],
        body: str,
        counters: Mapping[str, int],
        now: int,
        events: list[ThresholdEvent],
    ) -> LedgerEntry:
        """End a hold, or correct one that its lease ended; return the entry."""
        charges: dict[CounterName, int] = {}
        unreconciled: dict[CounterName, int] = {}
        overage = max(0, cost - hold.amount)
        for share in hold.shares:
            counter = self._counters[share.budget, share.period_id]
            amount = charge(share)
            counter.spent += amount - share.charged
            if kind == "unreconciled":
                unreconciled[share.budget, share.period_id] = amount - share.charged
            elif hold.state == "unreconciled":
                unreconciled[share.budget, share.period_id] = -share.charged
            if hold.state == "open":
                counter.held -= share.amount
                del counter.expected_ends[hold_id]
            charges[share.budget, share.period_id] = amount - share.charged
            share.charged = amount
            overage = max(overage, amount - share.amount)
        archived_to = self._parts[-1].last if self._parts else ""
        line_id = next_line_id(self._entries, now, archived_to)
        addendum = any(self._closed.statement(period_id) for _, period_id in charges)
        line = (line_id, kind, hold_id, now, cost, hold.amount, charges, body, addendum)
        entry = LedgerEntry(*line, unreconciled)
        self._entries.append(entry)
        for name, change in unreconciled.items():
            self._counters[name].unreconciled += change
        for (budget, period_id), charge_added in charges.items():
            self._closed.amend(budget, period_id, charge_added, hold_id, line_id, now)
        self._count(hold.stats_period, counters)
        if overage > 0:
            self._count(hold.stats_period, {"overage_count": 1, "overage_nano": overage})
            self._event(
                "overage",
                now,
                hold_id=hold_id,
                decision_id=hold.decision_id,
                cost_nano_usd=cost,
                held_nano_usd=hold.amount,
                overage_nano_usd=overage,
            )
        for share in hold.shares if state != "voided" else ():
            self._claim_reached(share, now, events)
        if hold.approval_id:
            self._note_use(hold.approval_id, hold_id, state, cost)
        hold.state, hold.charged, hold.overage, hold.facts = state, cost, overage, ""
        ttl_ms = UNRECONCILED_TTL_MS if state == "unreconciled" else ENDED_TTL_MS
        hold.forget_at_ms = now + ttl_ms
        self._leases.pop(hold_id, None)
        return entry

    def _claim_reached(self, share: Share, now: int, events: list[ThresholdEvent]) -> None:
        if share.rule not in self._rules:
            # Only a recovered hold can have a rule that nobody published here.
            return
        published, _ = self._rules[share.rule]
        state = self._state(share.budget, share.rule, share.period_id)
        for threshold in published.rising_thresholds():
            if state.spent_nano_usd >= threshold.reached_at_nano_usd(state.bearable_nano_usd):
                self._claim(state, threshold.level, threshold.percent, now, events)

    def _claim(
        self, state: BudgetState, level: Level, percent: int, now: int, events: list[ThresholdEvent]
    ) -> None:
        counter = self._counter(state)
        if counter.claimed.get(level) == state.limit_epoch:
            return
        counter.claimed[level] = state.limit_epoch
        event = ThresholdEvent(
            level=level,
            percent=percent,
            budget=state.budget,
            rule=state.rule,
            period_id=state.period_id,
            limit_epoch=state.limit_epoch,
            limit_nano_usd=state.bearable_nano_usd,
            spent_nano_usd=state.spent_nano_usd,
            time_ms=now,
        )
        events.append(event)
        fields = {name: getattr(event, name) for name in event.__slots__}
        self.raise_alert("threshold", now, json.dumps(fields))

    def raise_alert(self, kind: str, now: int, body: str) -> None:
        """Add an event that people are told of."""
        self.add_event(kind, now, body)
        self.outbox.append(self._events[-1])

    def add_event(self, kind: str, now: int, body: str) -> None:
        """Add a line to the event stream."""
        self._events.append(LedgerEvent(next_line_id(self._events, now), kind, now, body))

    def _event(self, kind: str, now: int, /, **fields: Any) -> None:
        self.add_event(kind, now, json.dumps(fields))

    def _count(self, stats_period: str, counters: Mapping[str, int]) -> None:
        totals = self._stats.setdefault(stats_period, {})
        for name, increment in counters.items():
            totals[name] = totals.get(name, 0) + increment
