"""The ledger as a model in memory: the specification that the Redis store is held to.

Plain dictionaries and obvious code, without speed, sharing or persistence. The clock is injected.
One call runs to its end before the next one starts, since none of them awaits anything.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from budgets.checks import (
    check_budgets,
    check_counters,
    check_hold,
    check_policy,
    check_refusal,
    check_settlement,
)
from budgets.learning import Learning, observe
from budgets.ledger import (
    BudgetHold,
    BudgetState,
    ClockSkew,
    Difference,
    Held,
    HoldIdReused,
    HoldRequest,
    LearnedOutput,
    LedgerEntry,
    LedgerEvent,
    Level,
    PolicyNotPublished,
    PublishedPolicy,
    PublishedRule,
    RefusalRecord,
    Refused,
    Settled,
    Settlement,
    SettleStatus,
    ThresholdEvent,
)
from budgets.verify import Audit, CounterRow, line_order

_Line = TypeVar("_Line", LedgerEntry, LedgerEvent)

ENDED_TTL_MS = 7 * 86_400_000
UNRECONCILED_TTL_MS = 62 * 86_400_000
REFUSED_TTL_MS = 3_600_000
RETRY_AFTER_MS_MIN = 250
RETRY_AFTER_MS_DEFAULT = 1000


@dataclass
class _Counter:
    """One budget in one period."""

    rule: str
    spent: int = 0
    held: int = 0
    claimed: dict[Level, int] = field(default_factory=dict)
    expected_ends: dict[str, int] = field(default_factory=dict)


@dataclass
class _Share:
    """One budget's part in a hold."""

    budget: str
    rule: str
    period_id: str
    amount: int
    charged: int = 0


@dataclass
class _Hold:
    """A hold, open or ended; `forget_at_ms` is set once it has ended."""

    state: str
    amount: int
    time_ms: int
    expected_end_ms: int
    shares: list[_Share]
    facts: str
    decision_id: str
    stats_period: str
    charged: int = 0
    overage: int = 0
    forget_at_ms: int | None = None


@dataclass
class _Want:
    """What one budget is asked to bear: `target` in all for this hold, of which `delta` is new."""

    asked: BudgetHold
    state: BudgetState
    target: int
    delta: int
    share: _Share | None = None

    @property
    def verdict(self) -> str | None:
        """The refusal code, or None where the budget bears it."""
        if self.share is not None and self.delta == 0:
            return None
        state = self.state
        if state.spent_nano_usd + self.target > state.limit_nano_usd:
            return "budget_exceeded"
        if state.spent_nano_usd + state.held_nano_usd + self.delta > state.limit_nano_usd:
            return "budget_busy"
        return None


class MemoryLedger:
    """A `Ledger` in memory; `clock` returns Unix milliseconds."""

    def __init__(self, clock: Callable[[], int], *, decision_ttl_s: int = 35 * 86_400) -> None:
        self._clock = clock
        self._decision_ttl_ms = decision_ttl_s * 1000
        self._digest: str | None = None
        self._revision = 0
        self._rules: dict[str, tuple[PublishedRule, int]] = {}
        self._counters: dict[tuple[str, str], _Counter] = {}
        self._holds: dict[str, _Hold] = {}
        self._leases: dict[str, int] = {}
        self._decisions: dict[str, tuple[str, int]] = {}
        self._refused: dict[str, int] = {}
        self._stats: dict[str, dict[str, int]] = {}
        self._learned: dict[str, Learning] = {}
        self._entries: list[LedgerEntry] = []
        self._events: list[LedgerEvent] = []
        self._refusals: list[LedgerEvent] = []

    async def publish(self, policy: PublishedPolicy) -> int:
        check_policy(policy)
        if policy.digest != self._digest:
            self._digest = policy.digest
            self._revision += 1
            for rule in policy.rules:
                old, epoch = self._rules.get(rule.rule, (None, 0))
                raised = old is None or rule.limit_nano_usd > old.limit_nano_usd
                self._rules[rule.rule] = (rule, epoch + 1 if raised else epoch)
        return self._revision

    async def hold(self, request: HoldRequest) -> Held | Refused:
        check_hold(request)
        now = self._clock()
        standing = self._hold(request.hold_id)
        if standing is not None:
            if standing.state != "open":
                raise HoldIdReused(request.hold_id)
            states = tuple(self._state(s.budget, s.rule, s.period_id) for s in standing.shares)
            return Held(request.hold_id, now, states, repeated=True)
        wants = []
        for asked in request.budgets:
            if not asked.period.contains(now):
                raise ClockSkew(now)
            state = self._state(asked.budget, asked.rule, asked.period.id)
            wants.append(_Want(asked, state, asked.amount_nano_usd, asked.amount_nano_usd))
        refuser = _refuser(wants)
        if refuser is not None:
            return self._refuse_hold(wants, refuser, now, claims=True)
        would_refuse = _would_refuse(wants)
        hold = _Hold(
            state="open",
            amount=request.amount_nano_usd,
            time_ms=now,
            expected_end_ms=now + request.expected_end_ms_in,
            shares=[],
            facts=request.facts,
            decision_id=request.decision_id,
            stats_period=request.stats_period,
        )
        self._holds[request.hold_id] = hold
        self._leases[request.hold_id] = now + request.lease_ms
        self._decisions[request.decision_id] = (request.decision, now + self._decision_ttl_ms)
        return self._take(request.hold_id, hold, wants, now, would_refuse)

    async def top_up(
        self, hold_id: str, amount_nano_usd: int, budgets: tuple[BudgetHold, ...]
    ) -> Held | Refused | None:
        check_budgets(amount_nano_usd, budgets)
        now = self._clock()
        hold = self._hold(hold_id)
        if hold is None or hold.state != "open":
            return None
        share_of = {share.budget: share for share in hold.shares}
        wants = []
        for asked in budgets:
            share = share_of.get(asked.budget)
            if share is not None:
                state = self._state(share.budget, share.rule, share.period_id)
                target = max(asked.amount_nano_usd, share.amount)
                wants.append(_Want(asked, state, target, target - share.amount, share))
            elif not asked.period.contains(hold.time_ms):
                raise ClockSkew(hold.time_ms)
            else:
                state = self._state(asked.budget, asked.rule, asked.period.id)
                wants.append(_Want(asked, state, asked.amount_nano_usd, asked.amount_nano_usd))
        refuser = _refuser(wants)
        if refuser is not None:
            return self._refuse_hold(wants, refuser, now, claims=False)
        would_refuse = _would_refuse(wants)
        hold.amount = max(hold.amount, amount_nano_usd)
        return self._take(hold_id, hold, wants, now, would_refuse)

    async def settle(self, settlement: Settlement) -> Settled:
        check_settlement(settlement)
        cost = settlement.cost_nano_usd
        result = self._resolve(
            settlement.hold_id,
            "settled",
            cost,
            lambda share: settlement.charges.get(share.budget, cost),
            settlement.body,
            settlement.counters,
        )
        if result.status in (SettleStatus.SETTLED, SettleStatus.CORRECTED):
            for sample in settlement.samples:
                known = self._learned.get(sample.key)
                self._learned[sample.key] = observe(known, sample.output_tokens)
        return result

    async def void(self, hold_id: str, body: str, counters: Mapping[str, int]) -> Settled:
        check_counters(counters)
        return self._resolve(hold_id, "voided", 0, lambda share: 0, body, counters)

    async def renew(self, hold_ids: Sequence[str], lease_ms: int) -> int:
        until = self._clock() + lease_ms
        open_ids = [hold_id for hold_id in hold_ids if hold_id in self._leases]
        for hold_id in open_ids:
            self._leases[hold_id] = max(self._leases[hold_id], until)
        return len(open_ids)

    async def expire(self, count_max: int) -> tuple[LedgerEntry, ...]:
        now = self._clock()
        past = sorted((end, hold_id) for hold_id, end in self._leases.items() if end <= now)
        entries = []
        for _, hold_id in past[:count_max]:
            hold = self._holds[hold_id]
            entry = self._end(
                hold_id,
                hold,
                kind="unreconciled",
                state="unreconciled",
                cost=hold.amount,
                charge=lambda share: share.amount,
                body=hold.facts,
                counters={"unreconciled_count": 1, "unreconciled_nano": hold.amount},
                now=now,
                events=[],
            )
            self._event(
                "unreconciled",
                now,
                hold_id=hold_id,
                decision_id=hold.decision_id,
                charged_nano_usd=hold.amount,
            )
            entries.append(entry)
        return tuple(entries)

    async def refuse(self, refusal: RefusalRecord) -> None:
        check_refusal(refusal)
        now = self._clock()
        if self._refused.get(refusal.decision_id, now) > now:
            return
        self._refused[refusal.decision_id] = now + REFUSED_TTL_MS
        line_id = _line_id(self._refusals, now)
        self._refusals.append(LedgerEvent(line_id, refusal.code, now, refusal.body))
        self._decisions[refusal.decision_id] = (refusal.decision, now + self._decision_ttl_ms)
        self._count(refusal.stats_period, refusal.counters)

    async def states(self, budgets: Sequence[tuple[str, str, str]]) -> tuple[BudgetState, ...]:
        return tuple(self._state(*budget) for budget in budgets)

    async def counters(self, stats_period: str) -> dict[str, int]:
        return dict(self._stats.get(stats_period, {}))

    async def learned(self) -> dict[str, LearnedOutput]:
        return {
            key: LearnedOutput(known.mean, known.quantile95, known.count)
            for key, known in self._learned.items()
        }

    async def decision(self, decision_id: str) -> str | None:
        text, until = self._decisions.get(decision_id, (None, 0))
        return text if until > self._clock() else None

    async def entries(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEntry]:
        for entry in _beyond(self._entries, after, newest_first):
            yield entry

    async def events(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEvent]:
        for event in _beyond(self._events, after, newest_first):
            yield event

    async def refusals(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEvent]:
        for refusal in _beyond(self._refusals, after, newest_first):
            yield refusal

    async def verify(self) -> tuple[Difference, ...]:
        last = self._entries[-1].id if self._entries else ""
        rows = []
        for (budget, period_id), counter in self._counters.items():
            shares = [
                (hold_id, share.amount)
                for hold_id in counter.expected_ends
                for share in self._holds[hold_id].shares
                if (share.budget, share.period_id) == (budget, period_id)
            ]
            rows.append(
                CounterRow(
                    budget,
                    period_id,
                    counter.spent,
                    counter.held,
                    len(counter.expected_ends),
                    tuple(amount for _, amount in shares),
                    sum(hold_id not in self._leases for hold_id, _ in shares),
                    last,
                )
            )
        stray = sum(self._holds[hold_id].state != "open" for hold_id in self._leases)
        audit = Audit(rows, last, stray)
        for entry in self._entries:
            audit.add(entry)
        return audit.differences()

    async def now_ms(self) -> int:
        return self._clock()

    # ── the parts ────────────────────────────────────────────────────────────────────────────────

    def _hold(self, hold_id: str) -> _Hold | None:
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
        counter = self._counters.get((budget, period_id)) or _Counter(rule)
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
        )

    def _counter(self, state: BudgetState) -> _Counter:
        key = (state.budget, state.period_id)
        return self._counters.setdefault(key, _Counter(state.rule))

    def _refuse_hold(
        self, wants: list[_Want], refuser: _Want, now: int, *, claims: bool
    ) -> Refused:
        events: list[ThresholdEvent] = []
        for want in wants if claims else ():
            if want.asked.enforced and want.verdict == "budget_exceeded":
                for threshold in self._rules[want.state.rule][0].thresholds:
                    if threshold.level is Level.EMERGENCY:
                        self._claim(want.state, threshold.level, threshold.percent, now, events)
                want.state = self._state(*_name_of(want.state))
        retry_after_ms = None
        if refuser.verdict == "budget_busy":
            first = min(self._counter(refuser.state).expected_ends.values(), default=now)
            retry_after_ms = RETRY_AFTER_MS_DEFAULT
            if first > now:
                retry_after_ms = max(RETRY_AFTER_MS_MIN, first - now)
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
        )

    def _take(
        self, hold_id: str, hold: _Hold, wants: list[_Want], now: int, would_refuse: str | None
    ) -> Held:
        for want in wants:
            state = want.state
            counter = self._counter(state)
            counter.held += want.delta
            if want.share is not None:
                want.share.amount = want.target
            else:
                counter.expected_ends[hold_id] = hold.expected_end_ms
                hold.shares.append(_Share(state.budget, state.rule, state.period_id, want.target))
        states = tuple(self._state(*_name_of(want.state)) for want in wants)
        return Held(hold_id, now, states, would_refuse=would_refuse)

    def _resolve(
        self,
        hold_id: str,
        state: str,
        cost: int,
        charge: Callable[[_Share], int],
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

    def _end(
        self,
        hold_id: str,
        hold: _Hold,
        *,
        kind: str,
        state: str,
        cost: int,
        charge: Callable[[_Share], int],
        body: str,
        counters: Mapping[str, int],
        now: int,
        events: list[ThresholdEvent],
    ) -> LedgerEntry:
        """End a hold, or correct one that its lease ended; return the entry."""
        charges = {}
        overage = max(0, cost - hold.amount)
        for share in hold.shares:
            counter = self._counters[share.budget, share.period_id]
            amount = charge(share)
            counter.spent += amount - share.charged
            if hold.state == "open":
                counter.held -= share.amount
                del counter.expected_ends[hold_id]
            charges[share.budget, share.period_id] = amount - share.charged
            share.charged = amount
            overage = max(overage, amount - share.amount)
        line_id = _line_id(self._entries, now)
        entry = LedgerEntry(line_id, kind, hold_id, now, cost, hold.amount, charges, body)
        self._entries.append(entry)
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
        hold.state, hold.charged, hold.overage, hold.facts = state, cost, overage, ""
        ttl_ms = UNRECONCILED_TTL_MS if state == "unreconciled" else ENDED_TTL_MS
        hold.forget_at_ms = now + ttl_ms
        self._leases.pop(hold_id, None)
        return entry

    def _claim_reached(self, share: _Share, now: int, events: list[ThresholdEvent]) -> None:
        published, _ = self._rules[share.rule]
        state = self._state(share.budget, share.rule, share.period_id)
        for threshold in published.rising_thresholds():
            if state.spent_nano_usd >= threshold.reached_at_nano_usd(state.limit_nano_usd):
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
            limit_nano_usd=state.limit_nano_usd,
            spent_nano_usd=state.spent_nano_usd,
            time_ms=now,
        )
        events.append(event)
        fields = {name: getattr(event, name) for name in event.__slots__}
        self._event("threshold", now, **fields)

    def _event(self, kind: str, now: int, **fields: Any) -> None:
        line_id = _line_id(self._events, now)
        self._events.append(LedgerEvent(line_id, kind, now, json.dumps(fields)))

    def _count(self, stats_period: str, counters: Mapping[str, int]) -> None:
        totals = self._stats.setdefault(stats_period, {})
        for name, increment in counters.items():
            totals[name] = totals.get(name, 0) + increment


def _name_of(state: BudgetState) -> tuple[str, str, str]:
    return (state.budget, state.rule, state.period_id)


def _refuser(wants: Sequence[_Want]) -> _Want | None:
    """Return the want that refuses: exceeded before busy, then the budget with the least left."""
    refusing = [want for want in wants if want.asked.enforced and want.verdict]
    return min(
        refusing,
        key=lambda want: (want.verdict != "budget_exceeded", want.state.remaining_nano_usd),
        default=None,
    )


def _would_refuse(wants: Sequence[_Want]) -> str | None:
    verdicts = {want.verdict for want in wants if not want.asked.enforced}
    return next((code for code in ("budget_exceeded", "budget_busy") if code in verdicts), None)


def _line_id(lines: Sequence[LedgerEntry] | Sequence[LedgerEvent], now: int) -> str:
    """Return the next id of a stream: the time, or the last id's where time stands or went back."""
    if lines:
        last_ms, last_sequence = (int(part) for part in lines[-1].id.split("-"))
        if last_ms >= now:
            return f"{last_ms}-{last_sequence + 1}"
    return f"{now}-0"


def _beyond(lines: Sequence[_Line], after: str, newest_first: bool) -> list[_Line]:
    """Return the lines beyond the id `after`, in the direction of reading."""
    ordered = list(reversed(lines)) if newest_first else list(lines)
    if not after:
        return ordered
    limit = line_order(after)
    if newest_first:
        return [line for line in ordered if line_order(line.id) < limit]
    return [line for line in ordered if line_order(line.id) > limit]
