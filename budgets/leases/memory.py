"""Leased slices in the in-memory ledger: the specification of `redis`."""

from __future__ import annotations

from collections.abc import Sequence

from budgets.errors import ClockSkew
from budgets.holds import BudgetState
from budgets.leases.types import (
    EXPECTED_MS,
    RECALL_MS,
    TOMBSTONE_TTL_S,
    Adopted,
    Adoption,
    SliceReturn,
    SliceState,
    SliceTake,
    body_of,
)
from budgets.memory_books import Books
from budgets.memory_records import Counter, Hold, Share, next_line_id
from budgets.records import LedgerEntry


class LeaseBooks(Books):
    """The operations on leased slices."""

    async def take_slice(self, wanted: SliceTake) -> SliceState:
        now = self._clock()
        self._check_pause(now)
        if not wanted.period.contains(now):
            raise ClockSkew(now)
        state = self._state(wanted.budget, wanted.rule, wanted.period.id)
        standing = self._hold(wanted.slice_id)
        amount = 0
        if standing is not None:
            amount = standing.shares[0].amount if standing.state == "open" else 0
        else:
            left = state.remaining_nano_usd
            enough = left * 100 >= state.bearable_nano_usd * wanted.direct_below_percent
            recalled = self._recalled.get((wanted.budget, wanted.period.id), 0)
            if left > 0 and enough and now >= recalled + RECALL_MS:
                amount = min(wanted.most_nano_usd, left * wanted.share_percent // 100)
            amount = amount if amount >= wanted.least_nano_usd else 0
            if amount:
                self._lend(wanted, amount, now)
        return self._slice_state(wanted, now, amount)

    def _lend(self, wanted: SliceTake, amount: int, now: int) -> None:
        key = (wanted.budget, wanted.period.id)
        counter = self._counters.setdefault(key, Counter(wanted.rule))
        counter.held += amount
        counter.expected_ends[wanted.slice_id] = now + EXPECTED_MS
        self._holds[wanted.slice_id] = Hold(
            state="open",
            amount=amount,
            time_ms=now,
            expected_end_ms=now + EXPECTED_MS,
            shares=[Share(wanted.budget, wanted.rule, wanted.period.id, amount)],
            facts=body_of(wanted.slice_id),
            decision_id="",
            stats_period=wanted.stats_period,
            lease=min(amount, wanted.unreported_nano_usd),
        )
        self._leases[wanted.slice_id] = now + wanted.lease_ms

    async def renew_slices(
        self, slices: Sequence[SliceTake], lease_ms: int
    ) -> tuple[SliceState, ...]:
        if not slices:
            return ()
        now, found = self._clock(), []
        for it in slices:
            hold, left = self._hold(it.slice_id), 0
            if hold is not None and hold.state == "open":
                left = hold.shares[0].amount
                self._leases[it.slice_id] = max(self._leases[it.slice_id], now + lease_ms)
            found.append(self._slice_state(it, now, left))
        return tuple(found)

    async def recall_slices(self, budgets: Sequence[tuple[str, str]]) -> None:
        now = self._clock()
        for budget, period_id in budgets:
            if (budget, period_id) in self._counters:
                self._recalled[budget, period_id] = now

    def _adopt(self, adoption: Adoption) -> Adopted:
        now, request = self._clock(), adoption.request
        repeated = self._hold(request.hold_id) is not None
        unbacked = 0
        if not repeated:
            expected_end = now + request.expected_end_ms_in
            hold = Hold(
                state="open",
                amount=request.amount_nano_usd,
                time_ms=min(now, adoption.time_ms),
                expected_end_ms=expected_end,
                shares=[],
                facts=request.facts,
                decision_id=request.decision_id,
                stats_period=request.stats_period,
            )
            self._holds[request.hold_id] = hold
            self._leases[request.hold_id] = now + request.lease_ms
            until = now + self._decision_ttl_ms
            self._decisions[request.decision_id] = (request.decision, until)
            for it in request.budgets:
                key = (it.budget, it.period.id)
                counter = self._counters.setdefault(key, Counter(it.rule))
                slice_id, entry = adoption.slices.get(it.budget), None
                if slice_id is not None:
                    missing, entry = self._move(slice_id, it.amount_nano_usd, now)
                    unbacked = max(unbacked, missing)
                counter.held += it.amount_nano_usd
                counter.expected_ends[request.hold_id] = expected_end
                hold.shares.append(Share(it.budget, it.rule, it.period.id, it.amount_nano_usd))
                self._closed.amend(*key, 0, request.hold_id, "", now)
                if entry is not None:
                    self._closed.amend(*key, entry.charges[key], entry.hold_id, entry.id, now)
        states = tuple(self._known(it.budget, it.rule, it.period.id) for it in request.budgets)
        recalled = tuple(self._recalled.get((it.budget, it.period.id), 0) for it in request.budgets)
        ended = tuple(
            slice_id
            for it in request.budgets
            if (slice_id := adoption.slices.get(it.budget)) is not None
            and ((slice_ := self._hold(slice_id)) is None or slice_.state != "open")
        )
        return Adopted(now, repeated, unbacked, ended, states, recalled)

    def _move(self, slice_id: str, amount: int, now: int) -> tuple[int, LedgerEntry | None]:
        """Move up to `amount` out of a slice; return what it did not have, and a correction."""
        hold = self._hold(slice_id)
        if hold is None or hold.lease is None or hold.state not in ("open", "unreconciled"):
            return amount, None
        (share,) = hold.shares
        key = (share.budget, share.period_id)
        if hold.state == "open":
            moved = min(amount, share.amount)
            share.amount = hold.amount = share.amount - moved
            self._counters[key].held -= moved
            return amount - moved, None
        moved = min(amount, share.charged)
        if not moved:
            return amount, None
        share.charged = hold.charged = share.charged - moved
        self._counters[key].spent -= moved
        self._counters[key].unreconciled -= moved
        archived_to = self._parts[-1].last if self._parts else ""
        entry = LedgerEntry(
            next_line_id(self._entries, now, archived_to),
            "corrected",
            slice_id,
            now,
            hold.charged,
            hold.amount,
            {key: -moved},
            body_of(slice_id),
            bool(self._closed.statement(share.period_id)),
            {key: -moved},
        )
        self._entries.append(entry)
        return amount - moved, entry

    def _return(self, returned: SliceReturn) -> None:
        slice_id, now = returned.slice_id, self._clock()
        hold = self._hold(slice_id)
        if hold is not None and hold.state == "unreconciled" and hold.lease is not None:
            body = body_of(slice_id)
            self._resolve(slice_id, "settled", 0, lambda _: 0, body, {})
            return
        if hold is not None and hold.state != "open":
            return
        if hold is not None:
            (share,) = hold.shares
            counter = self._counters[share.budget, share.period_id]
            counter.held -= share.amount
            del counter.expected_ends[slice_id]
            del self._leases[slice_id]
            self._closed.amend(share.budget, share.period_id, 0, slice_id, "", now)
        forget_at_ms = now + TOMBSTONE_TTL_S * 1000
        self._holds[slice_id] = Hold(
            "voided", 0, now, now, [], "", "", "", forget_at_ms=forget_at_ms
        )

    def _slice_state(self, it: SliceTake, now: int, left: int) -> SliceState:
        recalled = self._recalled.get((it.budget, it.period.id), 0)
        state = self._known(it.budget, it.rule, it.period.id)
        return SliceState(it.slice_id, now, left, state, recalled)

    def _known(self, budget: str, rule: str, period_id: str) -> BudgetState | None:
        return self._state(budget, rule, period_id) if rule in self._rules else None
