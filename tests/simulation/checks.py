"""The ledger's promises, checked after every operation by books of the checker's own.

The checker folds what was asked and what was answered into books of its own, in another way than
the ledger does it: what is spent is added up from the entries, what is held from the holds that
were admitted and have no entry yet. It knows the limits from what was published. So it can tell for
every answer whether it was right, and it shares no figure with the ledger that it checks.

Numbers in the messages are those of the promises in `docs/explanation/ledger.md`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from budgets.errors import ClockSkew, HoldIdReused, PolicyNotPublished, PolicyOutrun
from budgets.holds import BudgetHold, Held, HoldRequest, Refused
from budgets.leases.types import Adopted, Adoption, SliceReturn, SliceTake
from budgets.ledger import Write
from budgets.memory import MemoryLedger
from budgets.published import PublishedPolicy
from budgets.records import RefusalRecord
from budgets.settlements import Settled, Settlement
from budgets.slices import OfflineHold, SliceRequest
from tests.simulation.books import Books, Broken, HoldRecord, Share

if TYPE_CHECKING:
    from tests.simulation.store import Answer, Operation

TIMELESS = frozenset({"publish", "release_slices", "resign"})
"""Operations that change something and do not ask for the time."""


class Checker(Books):
    """Checks one ledger from its beginning. `after` is to be called after every operation."""

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
            cost = hold.amount
            if hold.lease is not None:
                cost = min(hold.amount, hold.lease)
                charges = dict.fromkeys(charges, cost)
            self._take_entry(hold, "unreconciled", cost, charges, claims=True)

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

    # ── leased slices ────────────────────────────────────────────────────────────────────────────

    def _after_take_slice(self, operation: Operation, answer: Answer, wanted: SliceTake) -> None:
        now, known = operation.time_ms, self.holds.get(wanted.slice_id)
        if answer.error is not None:
            strange = not wanted.period.contains(now)
            lost = isinstance(answer.error, PolicyNotPublished) and wanted.rule not in self.rules
            if not (lost or (strange and isinstance(answer.error, ClockSkew))):
                raise Broken(7, f"no slice for {wanted}: {answer.error!r}")
            return
        granted = answer.get().granted_nano_usd
        if known is not None:
            left = known.shares[wanted.budget].amount if not known.outcome else 0
            if granted != left:
                raise Broken(2, f"{known} was taken twice: {answer}")
            return
        if not granted:
            return
        share = BudgetHold(wanted.budget, wanted.rule, wanted.period, granted)
        self._fits(wanted.slice_id, share, granted)
        shares = {wanted.budget: Share(wanted.rule, wanted.period.id, granted)}
        lease_end_ms = now + wanted.lease_ms
        found = HoldRecord(wanted.slice_id, granted, now, lease_end_ms, shares)
        found.lease = min(granted, wanted.unreported_nano_usd)
        self.holds[wanted.slice_id] = found
        self.held[wanted.budget, wanted.period.id] += granted

    def _after_renew_slices(
        self, operation: Operation, answer: Answer, slices: tuple[SliceTake, ...], lease_ms: int
    ) -> None:
        for it, found in zip(slices, answer.get(), strict=True):
            slice_ = self.holds.get(it.slice_id)
            if slice_ is None or slice_.outcome:
                if found.granted_nano_usd:
                    raise Broken(4, f"{slice_} is not open, and was renewed")
                continue
            if found.granted_nano_usd != slice_.shares[it.budget].amount:
                raise Broken(1, f"{slice_} says that it has {found.granted_nano_usd}")
            slice_.lease_end_ms = max(slice_.lease_end_ms, operation.time_ms + lease_ms)

    def _after_recall_slices(self, *_: Any) -> None:
        return

    def _after_write(self, operation: Operation, answer: Answer, it: Write) -> None:
        if isinstance(it, SliceReturn):
            self._after_return(operation, it)
        else:
            assert isinstance(it, Adoption)
            self._after_adoption(operation, answer.get(), it)

    def _after_return(self, operation: Operation, it: SliceReturn) -> None:
        slice_, now = self.holds.get(it.slice_id), operation.time_ms
        match slice_.outcome if slice_ is not None else None:
            case None:
                gone = HoldRecord(it.slice_id, 0, now, now, {}, outcome="voided")
                self.holds[it.slice_id] = gone
            case "":
                assert slice_ is not None
                for budget, share in slice_.shares.items():
                    self.held[budget, share.period_id] -= share.amount
                slice_.outcome = "voided"
            case "unreconciled":
                assert slice_ is not None
                self._take_entry(
                    slice_, "corrected", 0, dict.fromkeys(slice_.shares, 0), claims=True
                )
            case _:
                return

    def _after_adoption(self, operation: Operation, adopted: Adopted, it: Adoption) -> None:
        request, now = it.request, operation.time_ms
        if request.hold_id in self.holds:
            if not adopted.repeated:
                raise Broken(2, f"{request.hold_id} was adopted twice")
            return
        shares = {}
        for budget in request.budgets:
            key = (budget.budget, budget.period.id)
            if not budget.period.contains(it.time_ms):
                raise Broken(7, f"{request.hold_id} of {it.time_ms} is held in {budget.period}")
            slice_ = self.holds.get(it.slices[budget.budget])
            missing = budget.amount_nano_usd
            if slice_ is not None and slice_.outcome in ("", "unreconciled"):
                missing = self._move_out(slice_, budget.budget, budget.amount_nano_usd)
            if missing and slice_ is not None:
                # Without a slice, a failover has lost it; that is what it can lose.
                raise Broken(1, f"{request.hold_id} is {missing} more than {slice_} had for {key}")
            self.held[key] += budget.amount_nano_usd
            shares[budget.budget] = Share(budget.rule, budget.period.id, budget.amount_nano_usd)
        self.holds[request.hold_id] = HoldRecord(
            request.hold_id, request.amount_nano_usd, now, now + request.lease_ms, shares
        )

    def _move_out(self, slice_: HoldRecord, budget: str, amount: int) -> int:
        """Move an amount out of a slice, and return what it does not have."""
        share = slice_.shares[budget]
        key = (budget, share.period_id)
        if not slice_.outcome:
            moved = min(amount, share.amount)
            share.amount -= moved
            slice_.amount -= moved
            self.held[key] -= moved
            return amount - moved
        moved = min(amount, share.charged)
        if moved:
            left = share.charged - moved
            self._take_entry(slice_, "corrected", left, {budget: left}, claims=False)
            # More may be moved out of it, and its worker may return it.
            slice_.outcome = "unreconciled"
        return amount - moved

    # ── what every operation leaves behind ───────────────────────────────────────────────────────

    def _after_refuse(self, _: Operation, answer: Answer, record: RefusalRecord) -> None:
        answer.get()
        if record.decision_id not in self.refusals:
            self._asked = record.decision_id
