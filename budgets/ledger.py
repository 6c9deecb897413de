"""The ledger's operations, as types and one Protocol that every store implements.

The flow of a request's money:

    hold ──┬─► settle   charged with what it really cost, in the period of the hold
           ├─► void     released, because nothing was sent or nothing was billed
           └─► expire   its lease ended: charged with the hold, marked `unreconciled`,
                        until a late settle corrects it

Admission implies dispatched: there is no way out of a hold that forgets it. Each of settle and
void may be called any number of times and by anyone; the first call decides and the others get a
definite result. All amounts are `int` nanodollars, all times Unix milliseconds by the store's
clock. What goes into an entry's `body` is the caller's affair (see `entries`); the ledger keeps it
whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from budgets.approvals.types import Approvals
from budgets.archived import ArchivedPart, ArchivedSums, ArchiveState, EntryLine, Sums
from budgets.audit.trail import Trail
from budgets.grants.types import Grants
from budgets.holds import BudgetHold, BudgetState, Held, HoldRequest, Refused
from budgets.learned import Learned
from budgets.leases.types import Adopted, Adoption, Leases, SliceReturn
from budgets.period import Period
from budgets.published import PublishedPolicy
from budgets.records import Difference, LedgerEntry, LedgerEvent, RefusalRecord
from budgets.settlements import Ending, Settled, Settlement
from budgets.slices import OfflineHold, Slice, SliceRequest
from budgets.statements import Addendum, OpenHold, PeriodOpen, Statement

Write = Ending | Adoption | SliceReturn
"""What nobody waits for the store with."""

Written = Settled | Adopted | None
"""What it answers: nothing to a slice that is returned."""

SLICE_OWNER_ACTIVE_MS = 10_000
"""How long a worker counts as one that slices of an allowance are kept for, after it last asked."""


@dataclass(frozen=True, slots=True)
class Leader:
    """Who has a role, until the end of its lease (Unix ms by the ledger's time)."""

    role: str
    owner: str
    until_ms: int


def unwatched(time_ms: int) -> None:
    """Watch nothing: for who need not know how far a long reading is."""


class Ledger(Grants, Approvals, Leases, Protocol):
    """The operations that every store implements; `tests/ledger` holds each to the same promises.

    Every method raises `LedgerUnavailable` where the store does not answer.
    """

    @property
    def trail(self) -> Trail:
        """The audit trail; grants, approvals, closings and repairs write to it by themselves."""

    async def publish(self, policy: PublishedPolicy, after: int | None = None) -> int:
        """Make the policy's limits current and return the revision.

        With `after`, only while that revision is current (0: none yet). So a call that a slow
        network delivers late, after a newer policy was published, brings no old limits back.

        Raises:
            PolicyOutrun: another revision is current than `after`.
        """

    async def hold(self, request: HoldRequest) -> Held | Refused:
        """Admit against every budget, or change nothing and say why.

        A refusal writes nothing but the claim of the emergency threshold, with its event.

        Raises:
            LedgerPaused: the counters are being put right; a hold that is open already is told so.
            ClockSkew: a period does not hold the store's time.
            HoldIdReused: this hold id was settled, voided or expired.
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def top_up(
        self, hold_id: str, amount_nano_usd: int, budgets: tuple[BudgetHold, ...]
    ) -> Held | Refused | None:
        """Raise an open hold to the given absolute amounts, all or nothing; never lowers one.

        Budgets that the hold did not have are added, in the period of the hold; those that it has
        keep theirs. The states are of the budgets given. A refused top-up claims no threshold,
        because its request goes on without it. None: there is no such open hold.

        Raises:
            LedgerPaused: the counters are being put right.
            ClockSkew: an added budget's period does not hold the time of the hold.
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def settle(self, settlement: Settlement) -> Settled:
        """Charge a hold with its actual cost, however large."""

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        """Release a hold without a charge, leaving an entry of cost 0.

        With `ahead`, a hold that is not there yet is forbidden to come: the answer is
        `unknown_hold`, and a `hold` of this id that arrives late raises `HoldIdReused`. For a
        caller that gave up waiting for the answer to `hold` and sent nothing.
        """

    async def write_all(self, writes: Sequence[Write]) -> tuple[Written, ...]:
        """Settle and void holds, adopt them and return slices, with one trip; in this order.

        Each is by itself what `settle` or `void` does, or what `leases.types` says. They are no
        transaction: where this raises, some may have been done, and all may be told again.
        """

    async def renew(self, hold_ids: Sequence[str], lease_ms: int) -> int:
        """Extend the leases of open holds to `lease_ms` from now; return how many were open."""

    async def expire(self, count_max: int) -> tuple[LedgerEntry, ...]:
        """Charge up to `count_max` holds whose lease has ended; return their entries."""

    async def refuse(self, refusal: RefusalRecord) -> None:
        """Record a request that was not sent; repeating a decision id within the hour is void."""

    async def slices(self, owner: str, wanted: Sequence[SliceRequest]) -> tuple[Slice, ...]:
        """Hand a worker its slices of the allowances; in the order of asking.

        Every worker that asked within `SLICE_OWNER_ACTIVE_MS` should have the same part. All slices
        of a rule in a period, with what was spent by them, are never more than the allowance.
        """

    async def release_slices(self, owner: str) -> None:
        """Take back all slices of a worker that has ended and whose journal has been told."""

    async def replay(self, offline: OfflineHold, ending: Settlement, state: str) -> Settled:
        """Write down a request that was admitted while the store was away, once.

        `state` is `settled`, `voided`, or `unreconciled` for one whose end nobody saw. What it cost
        moves from the owner's slices to the spent part of the allowances. Where the store does have
        a hold of this id, as its answer was lost, that hold ends like this.
        """

    async def close_period(
        self, period: Period, following: Period, budgets: Sequence[tuple[str, str]] = ()
    ) -> Statement | PeriodOpen:
        """Freeze a period that has ended and hand its balances on to the one that follows it.

        The statement has a row for every budget with a counter in the period and for each of the
        given (budget, rule) pairs. Closing it again, whatever the arguments, returns the first
        statement. `PeriodOpen`: it has not ended, and nothing was done. What still happens to its
        holds is charged to it all the same, by entries marked as addenda. See `statements`.

        Raises:
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def open_holds(self, period_id: str, count_max: int) -> tuple[int, tuple[OpenHold, ...]]:
        """Return how many holds of a period are open, and some of them, by the end of their lease.

        What a closing waits for: it looks at every open hold, so it is not for a request's path.
        """

    async def statement(self, period_id: str) -> Statement | None:
        """Return a closed period's statement; None where it has not been closed."""

    def addenda(self, after: str = "", newest_first: bool = False) -> AsyncIterator[Addendum]:
        """Iterate over the changes of closed periods, of all of them."""

    async def lead(self, role: str, owner: str, lease_ms: int) -> bool:
        """Take a role that only one owner has at a time, or keep it for `lease_ms` from now.

        False while another owner's lease runs. An owner that dies is replaced once it has ended.
        """

    async def resign(self, role: str, owner: str) -> bool:
        """Give a role up at once; False where this owner does not have it."""

    async def leaders(self) -> tuple[Leader, ...]:
        """Return who leads, by role; roles whose lease has ended have nobody."""

    async def states(self, budgets: Sequence[tuple[str, str, str]]) -> tuple[BudgetState, ...]:
        """Return the counters of (budget, rule, period id) triples.

        Raises:
            PolicyNotPublished: the store knows no limit for a rule.
        """

    async def counters(self, stats_period: str) -> dict[str, int]:
        """Return the running totals of a stats period."""

    async def learned(self) -> Learned:
        """Return every learned output length and input margin."""

    async def decision(self, decision_id: str) -> str | None:
        """Return a stored decision's JSON text."""

    def entries(self, after: str = "", newest_first: bool = False) -> AsyncIterator[LedgerEntry]:
        """Iterate over the entries, from the oldest or the newest, beyond the id `after`."""

    def events(self, after: str = "", newest_first: bool = False) -> AsyncIterator[LedgerEvent]:
        """Iterate over the event stream."""

    def refusals(self, after: str = "", newest_first: bool = False) -> AsyncIterator[LedgerEvent]:
        """Iterate over the refusal stream."""

    # ── the archive, the proof and the repair ────────────────────────────────────────────────────

    def lines(self, after: str = "") -> AsyncIterator[EntryLine]:
        """Iterate over the entries as they are stored, the oldest first, beyond the id `after`."""

    async def archive_state(self) -> ArchiveState:
        """Return how far the archive reaches."""

    async def trim(self, part: ArchivedPart, sums: Sums) -> bool:
        """Record a part of the archive with its sums and drop its entries, all in one step.

        False, and nothing done: the archive does not end where the part begins (somebody else was
        first), or its last entry is not there.
        """

    async def verify(
        self,
        archived: ArchivedSums | None = None,
        *,
        every_hold: bool = False,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        """Recompute every counter from the entries and open holds; return each difference.

        Archived entries count with their recorded sums or, where `archived` gives them, with the
        sums of the files, which the recorded ones are then compared with too. With `every_hold` it
        looks, as `rebuild` does, for open holds that no list of holds names any more. `watch` is
        told the time (Unix ms) of entries as they are read.

        Raises:
            ArchiveMoved: `archived` does not reach as far as the archive does.
        """

    async def rebuild(
        self,
        actor: str,
        *,
        archived: ArchivedSums | None = None,
        lease_ms: int,
        pause_ms: int,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        """Set every counter that differs to what entries and open holds add up to.

        A closed period then hands on what a wrong counter kept back; of carries that differ for
        another reason only `verify` speaks.

        Returns what was changed, and leaves an event `rebuilt` with it and with `actor`. Each
        counter is compared and set in one step, so that it is right whatever settles go on;
        admissions are paused meanwhile, for `pause_ms` at the most. An open hold without a lease
        gets one of `lease_ms`.

        Raises:
            ArchiveMoved: as for `verify`, or the archive grew meanwhile.
        """

    async def pause(self, ms: int) -> None:
        """Refuse new holds and top-ups with `LedgerPaused` for so long; 0 ends a pause at once."""

    async def now_ms(self) -> int:
        """Return the ledger's time in Unix ms: the store's clock, guarded as `clock` says."""
