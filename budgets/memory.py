"""The ledger as a model in memory: the specification that the Redis store is held to.

Plain dictionaries and obvious code, without speed, sharing or persistence. The clock is injected.
One call runs to its end before the next one starts, since none of them awaits anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

from budgets.approvals.memory import ApprovalBooks
from budgets.carry import carries
from budgets.checks import (
    check_budgets,
    check_closing,
    check_counters,
    check_hold,
    check_lead,
    check_policy,
    check_refusal,
    check_settlement,
)
from budgets.errors import ClockSkew, HoldIdReused, PolicyOutrun
from budgets.grants.memory import GrantBooks
from budgets.holds import BudgetHold, BudgetState, Held, HoldRequest, Refused, ThresholdEvent
from budgets.learned import Learned, LearnedInput, LearnedOutput
from budgets.learning import observe
from budgets.leases.memory import LeaseBooks
from budgets.leases.types import Adoption, SliceReturn
from budgets.ledger import SLICE_OWNER_ACTIVE_MS, Leader, Write, Written
from budgets.margins import observe_input
from budgets.memory_proof import Proof
from budgets.memory_records import (
    Hold,
    Share,
    Want,
    lines_beyond,
    next_line_id,
    refuser_of,
    would_refuse_of,
)
from budgets.period import Period
from budgets.published import PublishedPolicy
from budgets.records import LedgerEntry, LedgerEvent, RefusalRecord
from budgets.settlements import Settled, Settlement, SettleStatus, Voiding
from budgets.slices import OfflineHold, Slice, SliceRequest
from budgets.statements import Addendum, OpenHold, PeriodOpen, Statement

REFUSED_TTL_MS = 3_600_000


class MemoryLedger(GrantBooks, ApprovalBooks, LeaseBooks, Proof):
    """A `Ledger` in memory; `clock` returns Unix milliseconds."""

    async def publish(self, policy: PublishedPolicy, after: int | None = None) -> int:
        check_policy(policy)
        if policy.digest != self._digest:
            if after is not None and after != self._revision:
                raise PolicyOutrun(self._revision)
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
            approval = standing.approval_id or None
            return Held(request.hold_id, now, states, repeated=True, approval_id=approval)
        self._check_pause(now)
        wants = []
        for asked in request.budgets:
            if not asked.period.contains(now):
                raise ClockSkew(now)
            state = self._state(asked.budget, asked.rule, asked.period.id)
            wants.append(Want(asked, state, asked.amount_nano_usd, asked.amount_nano_usd))
        refuser, approval_id, problem = refuser_of(wants), "", ""
        if refuser is not None and request.approval is not None:
            problem = self._problem(request.approval, request.amount_nano_usd, now)
            if not problem:
                approval_id = request.approval.approval_id
                self._pass_by(approval_id, wants)
                refuser = refuser_of(wants)
                problem = "other_budget" if refuser is not None else ""
        if refuser is not None:
            return self._refuse_hold(wants, refuser, now, claims=True, problem=problem)
        if approval_id:
            self._record_use(approval_id, request.hold_id, request.amount_nano_usd)
        would_refuse = would_refuse_of(wants)
        hold = Hold(
            state="open",
            amount=request.amount_nano_usd,
            time_ms=now,
            expected_end_ms=now + request.expected_end_ms_in,
            shares=[],
            facts=request.facts,
            decision_id=request.decision_id,
            stats_period=request.stats_period,
            approval_id=approval_id,
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
        self._check_pause(now)
        share_of = {share.budget: share for share in hold.shares}
        wants = []
        for asked in budgets:
            share = share_of.get(asked.budget)
            if share is not None:
                state = self._state(share.budget, share.rule, share.period_id)
                target = max(asked.amount_nano_usd, share.amount)
                wants.append(Want(asked, state, target, target - share.amount, share))
            elif not asked.period.contains(hold.time_ms):
                raise ClockSkew(hold.time_ms)
            else:
                state = self._state(asked.budget, asked.rule, asked.period.id)
                wants.append(Want(asked, state, asked.amount_nano_usd, asked.amount_nano_usd))
        refuser, approval = refuser_of(wants), hold.approval_id
        if refuser and approval and self._may_grow(approval, hold_id, amount_nano_usd, now):
            self._pass_by(approval, wants)
            refuser = refuser_of(wants)
        if refuser is not None:
            return self._refuse_hold(wants, refuser, now, claims=False)
        would_refuse = would_refuse_of(wants)
        hold.amount = max(hold.amount, amount_nano_usd)
        if approval:
            self._note_use(approval, hold_id, "open", hold.amount)
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
        if result.status is SettleStatus.UNKNOWN_HOLD:
            result = self._recover(settlement) or result
        if result.status in (
            SettleStatus.SETTLED,
            SettleStatus.CORRECTED,
            SettleStatus.RECOVERED,
        ):
            for sample in settlement.samples:
                known = self._learned.get(sample.key)
                self._learned[sample.key] = observe(
                    known, sample.output_tokens, sample.seed_tokens, sample.rate
                )
            for seen in settlement.input_samples:
                self._learned_inputs[seen.key] = observe_input(
                    self._learned_inputs.get(seen.key),
                    seen.counted_tokens,
                    seen.input_tokens,
                    seen.extra_tokens,
                    seen.estimate_factor,
                    seen.bound_factor,
                )
        return result

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        check_counters(counters)
        result = self._resolve(hold_id, "voided", 0, lambda share: 0, body, counters)
        if ahead and result.status is SettleStatus.UNKNOWN_HOLD:
            self._forbid(hold_id)
        return result

    async def write_all(self, writes: Sequence[Write]) -> tuple[Written, ...]:
        return tuple([await self.write(it) for it in writes])

    async def write(self, it: Write) -> Written:
        """Do one of the writes of `write_all`."""
        match it:
            case Settlement():
                return await self.settle(it)
            case Voiding():
                return await self.void(it.hold_id, it.body, it.counters, ahead=it.ahead)
            case Adoption():
                check_hold(it.request)
                return self._adopt(it)
            case SliceReturn():
                self._return(it)
                return None

    async def renew(self, hold_ids: Sequence[str], lease_ms: int) -> int:
        if not hold_ids:
            return 0
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
            # Of a leased slice, what its worker may have admitted and not told.
            lease = hold.lease
            cost = hold.amount if lease is None else min(hold.amount, lease)
            entry = self._end(
                hold_id,
                hold,
                kind="unreconciled",
                state="unreconciled",
                cost=cost,
                charge=partial(_charge_of_lost, None if lease is None else cost),
                body=hold.facts,
                counters={"unreconciled_count": 1, "unreconciled_nano": cost},
                now=now,
                events=[],
            )
            self._event(
                "unreconciled",
                now,
                hold_id=hold_id,
                decision_id=hold.decision_id,
                charged_nano_usd=cost,
            )
            entries.append(entry)
        return tuple(entries)

    async def refuse(self, refusal: RefusalRecord) -> None:
        check_refusal(refusal)
        now = self._clock()
        if self._refused.get(refusal.decision_id, now) > now:
            return
        self._refused[refusal.decision_id] = now + REFUSED_TTL_MS
        line_id = next_line_id(self._refusals, now)
        self._refusals.append(LedgerEvent(line_id, refusal.code, now, refusal.body))
        self._decisions[refusal.decision_id] = (refusal.decision, now + self._decision_ttl_ms)
        self._count(refusal.stats_period, refusal.counters)

    async def slices(self, owner: str, wanted: Sequence[SliceRequest]) -> tuple[Slice, ...]:
        if not wanted:
            return ()
        now = self._clock()
        self._slice_owners[owner] = now
        active = [
            it for it, asked in self._slice_owners.items() if asked > now - SLICE_OWNER_ACTIVE_MS
        ]
        slices = []
        for it in wanted:
            key = (it.rule, it.period.id)
            mine = self._slices.get((owner, *key), 0)
            target = it.allowance_nano_usd // len(active)
            if it.counts_alone and self._used_up(it.rule, it.period.id):
                target = 0
            if target > mine:
                left = it.allowance_nano_usd - self._handed_out.get(key, 0)
                change = max(0, min(target - mine, left))
            else:
                change = min(0, max(target, it.have_nano_usd) - mine)
            if change:
                self._slices[owner, *key] = mine + change
                self._handed_out[key] = self._handed_out.get(key, 0) + change
            slices.append(Slice(*key, mine + change, target))
        return tuple(slices)

    async def release_slices(self, owner: str) -> None:
        for (holder, rule, period_id), amount in tuple(self._slices.items()):
            if holder == owner:
                self._handed_out[rule, period_id] -= amount
                del self._slices[holder, rule, period_id]
        self._slice_owners.pop(owner, None)

    async def replay(self, offline: OfflineHold, ending: Settlement, state: str) -> Settled:
        check_settlement(ending)
        now = self._clock()
        cost = ending.cost_nano_usd
        hold = self._hold(offline.hold_id)
        if hold is None:
            hold = self._offline(
                offline, {it.budget: ending.charges.get(it.budget, cost) for it in offline.budgets}
            )
        elif state == "unreconciled" and hold.state != "open":
            status = SettleStatus.ALREADY_SETTLED
            return Settled(status, hold.charged, hold.amount, hold.overage, now)
        if state != "unreconciled":
            return self._resolve(
                offline.hold_id,
                state,
                cost,
                lambda share: ending.charges.get(share.budget, cost),
                ending.body,
                ending.counters,
            )
        events: list[ThresholdEvent] = []
        self._end(
            offline.hold_id,
            hold,
            kind=state,
            state=state,
            cost=cost,
            charge=lambda share: ending.charges.get(share.budget, cost),
            body=ending.body,
            counters={"unreconciled_count": 1, "unreconciled_nano": cost},
            now=now,
            events=events,
        )
        self._event(
            "unreconciled",
            now,
            hold_id=offline.hold_id,
            decision_id=hold.decision_id,
            charged_nano_usd=cost,
        )
        return Settled(SettleStatus.SETTLED, cost, hold.amount, hold.overage, now, tuple(events))

    async def close_period(
        self, period: Period, following: Period, budgets: Sequence[tuple[str, str]] = ()
    ) -> Statement | PeriodOpen:
        check_closing(period, following, budgets)
        now = self._clock()
        closed = self._closed.statement(period.id)
        if closed is not None:
            return closed
        if now < period.end_ms:
            return PeriodOpen(period.id, now, period.end_ms)
        rules = dict(budgets)
        for (budget, period_id), counter in self._counters.items():
            if period_id == period.id:
                rules[budget] = counter.rule
        states = [self._state(budget, rules[budget], period.id) for budget in sorted(rules)]
        carrying = {rule: it.carry for rule, (it, _) in self._rules.items() if carries(it.carry)}
        statement = self._closed.close(period, following, states, carrying, now)
        self._event("period_closed", now, period_id=period.id, budgets=len(states))
        self.trail.add("ledger", "period_closed", {"period_id": period.id, "budgets": len(states)})
        return statement

    async def open_holds(self, period_id: str, count_max: int) -> tuple[int, tuple[OpenHold, ...]]:
        ids = [
            hold_id
            for _, hold_id in sorted((end, hold_id) for hold_id, end in self._leases.items())
            if any(share.period_id == period_id for share in self._holds[hold_id].shares)
        ]
        found = tuple(
            OpenHold(hold_id, hold.decision_id, hold.amount, hold.time_ms, self._leases[hold_id])
            for hold_id, hold in ((it, self._holds[it]) for it in ids[:count_max])
        )
        return len(ids), found

    async def statement(self, period_id: str) -> Statement | None:
        return self._closed.statement(period_id)

    async def lead(self, role: str, owner: str, lease_ms: int) -> bool:
        check_lead(role, owner, lease_ms)
        now = self._clock()
        leader = self._leads.get(role)
        if leader is not None and leader.owner != owner and leader.until_ms > now:
            return False
        self._leads[role] = Leader(role, owner, now + lease_ms)
        return True

    async def resign(self, role: str, owner: str) -> bool:
        leader = self._leads.get(role)
        if leader is None or leader.owner != owner:
            return False
        del self._leads[role]
        return True

    async def leaders(self) -> tuple[Leader, ...]:
        now = self._time.peek_ms()
        return tuple(
            self._leads[role] for role in sorted(self._leads) if self._leads[role].until_ms > now
        )

    async def states(self, budgets: Sequence[tuple[str, str, str]]) -> tuple[BudgetState, ...]:
        return tuple(self._state(*budget) for budget in budgets)

    async def counters(self, stats_period: str) -> dict[str, int]:
        return dict(self._stats.get(stats_period, {}))

    async def learned(self) -> Learned:
        return Learned(
            outputs={
                key: LearnedOutput(known.mean, known.quantile95, known.count)
                for key, known in self._learned.items()
            },
            inputs={
                key: LearnedInput(known.factor, known.bound, known.count)
                for key, known in self._learned_inputs.items()
            },
        )

    async def decision(self, decision_id: str) -> str | None:
        text, until = self._decisions.get(decision_id, (None, 0))
        return text if until > self._time.peek_ms() else None

    async def entries(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEntry]:
        for entry in lines_beyond(self._entries, after, newest_first):
            yield entry

    async def events(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEvent]:
        for event in lines_beyond(self._events, after, newest_first):
            yield event

    async def refusals(
        self, after: str = "", newest_first: bool = False
    ) -> AsyncIterator[LedgerEvent]:
        for refusal in lines_beyond(self._refusals, after, newest_first):
            yield refusal

    async def addenda(self, after: str = "", newest_first: bool = False) -> AsyncIterator[Addendum]:
        for line in lines_beyond(self._closed.addenda, after, newest_first):
            yield line

    async def now_ms(self) -> int:
        return self._time.peek_ms()


def _charge_of_lost(cost_of_slice: int | None, share: Share) -> int:
    return share.amount if cost_of_slice is None else cost_of_slice
