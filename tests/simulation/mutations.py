"""Defects put in on purpose, to see that seeds find them: what cannot fail proves nothing.

Each is a small lie of the store, or of a worker, of the kind that a real change could bring in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from budgets.holds import Held, HoldRequest, Refused
from budgets.journal import Journal
from budgets.leases.desk import Desk
from budgets.leases.slate import Slate
from budgets.leases.types import Adopted, Adoption, SliceReturn, SliceState, SliceTake
from budgets.lines import Line
from budgets.memory import MemoryLedger
from budgets.memory_records import Hold, Share
from budgets.open_requests import OpenRequest
from budgets.outage import Outage
from budgets.records import LedgerEntry, RefusalRecord
from budgets.runtime import Runtime
from budgets.settlements import Ending, Settled, Settlement
from budgets.slices import Slice
from tests.simulation.proxy import Proxy


class OneNanoTooMuch(MemoryLedger):
    """Admits one nanodollar above a limit."""

    async def hold(self, request: HoldRequest) -> Held | Refused:
        published = dict(self._rules)
        for name, (rule, epoch) in published.items():
            self._rules[name] = (replace(rule, limit_nano_usd=rule.limit_nano_usd + 1), epoch)
        try:
            return await super().hold(request)
        finally:
            self._rules = published


class ForgottenCharge(MemoryLedger):
    """Leaves one charge in seven out of the counters."""

    def _end(self, hold_id: str, hold: Hold, **more: Any) -> LedgerEntry:
        entry = super()._end(hold_id, hold, **more)
        if len(self._entries) % 7 == 0 and entry.charges:
            key = next(iter(entry.charges))
            self._counters[key].spent -= entry.charges[key]
        return entry


class ForgottenVoid(MemoryLedger):
    """Says that a hold is voided, and keeps it."""

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        before = self._holds.get(hold_id)
        settled = await super().void(hold_id, body, counters, ahead=ahead)
        if before is not None and settled.status == "voided":
            for share in before.shares:
                self._counters[share.budget, share.period_id].held += share.amount
        return settled


class OpenToLatecomers(MemoryLedger):
    """Admits a hold that was forbidden to come."""

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        return await super().void(hold_id, body, counters)


class Clamped(MemoryLedger):
    """Charges no more than was held."""

    async def settle(self, settlement: Settlement) -> Settled:
        hold = self._hold(settlement.hold_id)
        if hold is None:
            return await super().settle(settlement)
        shares = {it.budget: it.amount for it in hold.shares}
        charges = {
            budget: min(amount, settlement.charges.get(budget, settlement.cost_nano_usd))
            for budget, amount in shares.items()
        }
        cost = min(settlement.cost_nano_usd, hold.amount)
        return await super().settle(replace(settlement, cost_nano_usd=cost, charges=charges))


class ChargedTwice(MemoryLedger):
    """Charges a settle that is repeated once more."""

    async def settle(self, settlement: Settlement) -> Settled:
        hold = self._hold(settlement.hold_id)
        if hold is not None and hold.state == "settled":
            for share in hold.shares:
                self._counters[share.budget, share.period_id].spent += share.charged
        return await super().settle(settlement)


class NeverCorrected(MemoryLedger):
    """Takes an ended lease for the last word."""

    async def settle(self, settlement: Settlement) -> Settled:
        hold = self._hold(settlement.hold_id)
        if hold is not None and hold.state == "unreconciled":
            hold.state = "settled"
        return await super().settle(settlement)


class FreeCrash(MemoryLedger):
    """Releases what a dead worker held, as if it had never been sent."""

    async def expire(self, count_max: int) -> tuple[LedgerEntry, ...]:
        now = self._clock()
        past = [it for it, end in self._leases.items() if end <= now][:count_max]
        for hold_id in past:
            await self.void(hold_id, "{}", {})
        return ()


class NextPeriod(MemoryLedger):
    """Charges the period of the settle, not that of the hold."""

    def _end(self, hold_id: str, hold: Hold, **more: Any) -> LedgerEntry:
        for share in hold.shares:
            newest = [period for budget, period in self._counters if budget == share.budget]
            if newest and newest[-1] != share.period_id:
                _move(self, hold_id, share, newest[-1])
        return super()._end(hold_id, hold, **more)


def _move(ledger: MemoryLedger, hold_id: str, share: Share, period_id: str) -> None:
    """Put an open share into another period, held money and all."""
    old = ledger._counters[share.budget, share.period_id]
    new = ledger._counters[share.budget, period_id]
    if hold_id in old.expected_ends:
        old.held -= share.amount
        new.held += share.amount
        new.expected_ends[hold_id] = old.expected_ends.pop(hold_id)
    share.period_id = period_id


class EveryPeriod(MemoryLedger):
    """Admits in a period that is over."""

    async def hold(self, request: HoldRequest) -> Held | Refused:
        clock, now = self._clock, self._clock()
        inside = [it.period.end_ms - 1 for it in request.budgets if it.period.end_ms <= now]
        self._clock = lambda: min([now, *inside])
        try:
            return await super().hold(request)
        finally:
            self._clock = clock


class LoudThreshold(MemoryLedger):
    """Claims a threshold anew whenever it is reached."""

    def _claim_reached(self, share: Share, now: int, events: Any) -> None:
        counter = self._counters[share.budget, share.period_id]
        if len(self._entries) % 5 == 0:
            counter.claimed.clear()
        super()._claim_reached(share, now, events)


class LostRefusal(MemoryLedger):
    """Forgets one refusal in five."""

    async def refuse(self, refusal: RefusalRecord) -> None:
        if int(refusal.decision_id[0], 16) % 5:
            await super().refuse(refusal)


class ShortLease(MemoryLedger):
    """Does not renew a lease."""

    async def renew(self, hold_ids: Sequence[str], lease_ms: int) -> int:
        return sum(hold_id in self._leases for hold_id in hold_ids)


class _ForgetfulOutage(Outage):
    async def keep(self, ending: Ending) -> int | None:
        return -1


class ForgetfulWorker(Proxy):
    """Forgets a settlement that it could not tell."""

    outage_type = _ForgetfulOutage


class _Careless(Runtime):
    async def settle(self, request: OpenRequest, settlement: Settlement) -> None:
        if not self.available:
            await self.void(request, settlement.body, {})
        else:
            await super().settle(request, settlement)


class CarelessWorker(Proxy):
    """Voids what it cannot settle at once."""

    runtime_type = _Careless


class _Generous(Outage):
    async def hold(self, request: HoldRequest, time_ms: int) -> Held:
        self.allowance.take(Slice(it.rule, it.period.id, 10**12, 10**12) for it in request.budgets)
        return await super().hold(request, time_ms)


class GenerousWorker(Proxy):
    """Takes its slices for endless."""

    outage_type = _Generous


class _Unforbidding(Runtime):
    def _forbid(self, request: HoldRequest) -> None:
        return


class UnforbiddingWorker(Proxy):
    """Forgets a hold whose answer it gave up waiting for."""

    runtime_type = _Unforbidding


class FreeSlice(MemoryLedger):
    """Takes all of a dead worker's slice back, whatever was admitted from it."""

    def _lend(self, wanted: SliceTake, amount: int, now: int) -> None:
        super()._lend(replace(wanted, unreported_nano_usd=0), amount, now)


class BottomlessSlice(MemoryLedger):
    """Makes the hold of an adopted request without taking it out of its slice."""

    def _move(self, slice_id: str, amount: int, now: int) -> tuple[int, LedgerEntry | None]:
        return 0, None


class LargeSlice(MemoryLedger):
    """Lends more of a budget than it has left."""

    async def take_slice(self, wanted: SliceTake) -> SliceState:
        return await super().take_slice(replace(wanted, share_percent=200))


class _GreedyDesk(Desk):
    def admit(self, request: HoldRequest) -> Held | None:
        for counter in self._counters.values():
            for slice_ in counter.slices:
                slice_.room_nano_usd = slice_.at_most_nano_usd = 10**12
        return super().admit(request)


class _Greedy(Runtime):
    desk_type = _GreedyDesk


class GreedyWorker(Proxy):
    """Admits more from a slice than it has."""

    runtime_type = _Greedy


class _HastyDesk(Desk):
    def _return_ended(self, counter: Any) -> None:
        for slice_ in counter.slices:
            slice_.unreported_nano_usd = 0
        super()._return_ended(counter)


class _Hasty(Runtime):
    desk_type = _HastyDesk


class HastyWorker(Proxy):
    """Gives slices back before it has reported all that it admitted from them."""

    runtime_type = _Hasty


class _TimelessDesk(Desk):
    def _time_ms(self, now_s: float) -> int | None:
        return self._store_ms


class _Timeless(Runtime):
    desk_type = _TimelessDesk


class TimelessWorker(Proxy):
    """Admits from a slice beyond its period."""

    runtime_type = _Timeless


class _UnboundDesk(Desk):
    def admit(self, request: HoldRequest) -> Held | None:
        for counter in self._counters.values():
            for slice_ in counter.slices:
                slice_.at_most_nano_usd = slice_.granted_nano_usd
        return super().admit(request)


class _Unbound(Runtime):
    desk_type = _UnboundDesk


class UnboundWorker(Proxy):
    """Admits further ahead of the store than it said."""

    runtime_type = _Unbound


class _BlankDesk(Desk):
    def _note(self, name: str, operation: str, content: Any) -> bool:
        return operation == "adopt" or super()._note(name, operation, content)


class _Blank(Runtime):
    desk_type = _BlankDesk


class BlankWorker(Proxy):
    """Writes down its slices and not what it admits from them."""

    runtime_type = _Blank


class _TrustingOutage(Outage):
    async def _tell_slices(self, slate: Slate, lines: Sequence[Line]) -> None:
        slate._boot = "another start" if not slate.is_whole() else slate._boot
        await super()._tell_slices(slate, lines)


class TrustingHeir(Proxy):
    """Takes a slate for whole whose machine went down."""

    outage_type = _TrustingOutage


class _RefusingOutage(Outage):
    async def _tell_slices(self, slate: Slate, lines: Sequence[Line]) -> None:
        slate.clear()


class RefusingHeir(Proxy):
    """Leaves a dead worker's slices charged."""

    outage_type = _RefusingOutage


class _QuickOutage(Outage):
    async def tell_of(self, journal: Journal) -> None:
        if journal.slate is not None and journal.slate.is_whole():
            for line in journal.slate.lines():
                if line.operation == "return_slice":
                    await self._tell_line(line)
                    journal.slate.wipe(line.number)
        await super().tell_of(journal)


class QuickHeir(Proxy):
    """Returns a dead worker's slices before it tells what was admitted from them."""

    outage_type = _QuickOutage


class KeptSlice(MemoryLedger):
    """Leaves what the end of a slice's lease has charged as it is, though the slice goes back."""

    def _return(self, returned: SliceReturn) -> None:
        hold = self._hold(returned.slice_id)
        if hold is None or hold.state == "open":
            super()._return(returned)


class LentTwice(MemoryLedger):
    """Gives a slice again that was given back."""

    async def take_slice(self, wanted: SliceTake) -> SliceState:
        hold = self._holds.get(wanted.slice_id)
        if hold is not None and hold.state == "voided":
            del self._holds[wanted.slice_id]
        return await super().take_slice(wanted)


class TwoHolds(MemoryLedger):
    """Makes the hold of a request anew each time that it hears of it."""

    def _adopt(self, adoption: Adoption) -> Adopted:
        hold = self._holds.get(adoption.hold_id)
        if hold is not None and hold.state == "settled":
            del self._holds[adoption.hold_id]
        return super()._adopt(adoption)


LEASING_LEDGERS: dict[type[MemoryLedger], int] = {
    FreeSlice: 3,
    BottomlessSlice: 0,
    LargeSlice: 0,
    KeptSlice: 10,
    LentTwice: 2,
    TwoHolds: 15,
}
LEASING_WORKERS: dict[type[Proxy], int] = {
    GreedyWorker: 0,
    HastyWorker: 15,
    TimelessWorker: 77,
    UnboundWorker: 16,
    BlankWorker: 16,
    TrustingHeir: 260,
    RefusingHeir: 1,
    QuickHeir: 29,
}
"""Defects that only show where slices are leased, and the seed that found each of them first. A
search that begins there ends there, until a change makes all seeds other stories."""

LEDGERS: tuple[type[MemoryLedger], ...] = (
    OneNanoTooMuch,
    ForgottenCharge,
    ForgottenVoid,
    OpenToLatecomers,
    Clamped,
    ChargedTwice,
    NeverCorrected,
    FreeCrash,
    NextPeriod,
    EveryPeriod,
    LoudThreshold,
    LostRefusal,
    ShortLease,
)
WORKERS: tuple[type[Proxy], ...] = (
    ForgetfulWorker,
    CarelessWorker,
    GenerousWorker,
    UnforbiddingWorker,
)
