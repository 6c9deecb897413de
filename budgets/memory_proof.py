"""The in-memory ledger's archive, proof and repair: see `memory`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from budgets.archived import (
    ArchivedPart,
    ArchivedSums,
    ArchiveMoved,
    ArchiveState,
    CounterName,
    EntryLine,
    Sums,
    charges_text,
)
from budgets.grants.types import Active
from budgets.ledger import unwatched
from budgets.memory_books import Books
from budgets.memory_records import Counter, lines_beyond
from budgets.records import Difference, LedgerEntry
from budgets.verify import (
    CounterRow,
    archived_of,
    differences,
    line_order,
    mendable,
    rebuilt,
    row_differences,
)


class Proof(Books):
    """What can be done with the books as a whole."""

    async def lines(self, after: str = "") -> AsyncIterator[EntryLine]:
        for entry in lines_beyond(self._entries, after, newest_first=False):
            yield _line(entry)

    async def archive_state(self) -> ArchiveState:
        to = self._parts[-1].last if self._parts else ""
        return ArchiveState(to, sum(it.entries for it in self._parts), tuple(self._parts))

    async def trim(self, part: ArchivedPart, sums: Sums) -> bool:
        state = await self.archive_state()
        if state.to != part.after or all(entry.id != part.last for entry in self._entries):
            return False
        self._parts.append(part)
        self._archived.add_up(sums)
        last = line_order(part.last)
        self._entries = [it for it in self._entries if line_order(it.id) > last]
        return True

    async def verify(
        self,
        archived: ArchivedSums | None = None,
        *,
        every_hold: bool = False,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        await self._check_reach(archived)
        for entry in self._entries:
            watch(entry.time_ms)
        found = differences(self._rows(), archived, len(self._stray_leases()))
        return found + self._closed.differences()

    async def rebuild(
        self,
        actor: str,
        *,
        archived: ArchivedSums | None = None,
        lease_ms: int,
        pause_ms: int,
        watch: Callable[[int], None] = unwatched,
    ) -> tuple[Difference, ...]:
        changed = mendable(await self.verify(archived, watch=watch))
        if not changed:
            return ()
        await self.pause(pause_ms)
        for row in self._rows():
            if mendable(row_differences(row, archived)):
                name = (row.budget, row.period_id)
                counter = self._counters.setdefault(name, Counter(row.budget.partition(":")[0]))
                charged, unsettled = archived_of(row, archived)
                counter.spent = row.charged_nano_usd + charged
                counter.unreconciled = row.unsettled_nano_usd + unsettled
                counter.held = sum(row.shares_nano_usd)
                counter.grants = self._recorded_grants(name)
                counter.expected_ends = {
                    hold_id: self._holds[hold_id].expected_end_ms for hold_id in self._open(name)
                }
                for hold_id in self._open(name):
                    self._leases.setdefault(hold_id, self._clock() + lease_ms)
                self._closed.amend(*name, 0, "", "", self._clock())
                if archived is not None:
                    self._archived.charged[name] = charged
                    self._archived.unreconciled[name] = unsettled
        for hold_id in self._stray_leases():
            del self._leases[hold_id]
        await self.pause(0)
        self._event("rebuilt", self._clock(), **rebuilt(actor, changed))
        self.trail.add(actor, "rebuilt", {"counters": len(changed)})
        return changed

    async def pause(self, ms: int) -> None:
        self._paused_until_ms = self._clock() + ms

    async def _check_reach(self, archived: ArchivedSums | None) -> None:
        state = await self.archive_state()
        if archived is not None and archived.to != state.to:
            raise ArchiveMoved

    def _rows(self) -> list[CounterRow]:
        sums = Sums()
        for entry in self._entries:
            sums.add(_line(entry))
        held = {
            (share.budget, share.period_id)
            for hold in self._holds.values()
            if hold.state == "open"
            for share in hold.shares
        }
        names = self._counters.keys() | sums.names() | self._archived.names() | held
        return [self._row(name, *sums.of(name)) for name in sorted(names)]

    def _row(self, name: CounterName, charged: int, unsettled: int) -> CounterRow:
        archived, archived_unsettled = self._archived.of(name)
        counter = self._counters.get(name) or Counter(name[0])
        open_ids = self._open(name)
        shares = [
            share.amount
            for hold_id in open_ids
            for share in self._holds[hold_id].shares
            if (share.budget, share.period_id) == name
        ]
        return CounterRow(
            *name,
            spent_nano_usd=counter.spent,
            held_nano_usd=counter.held,
            holds=len(counter.expected_ends),
            charged_nano_usd=charged,
            archived_nano_usd=archived,
            shares_nano_usd=tuple(shares),
            unleased=sum(hold_id not in self._leases for hold_id in open_ids),
            expected_ends=len(counter.expected_ends),
            expected_rightly=len(open_ids & counter.expected_ends.keys()),
            unreconciled_nano_usd=counter.unreconciled,
            unsettled_nano_usd=unsettled,
            archived_unsettled_nano_usd=archived_unsettled,
            orphaned_carry_nano_usd=counter.carry if counter.carry_from is None else 0,
            granted_nano_usd=sum(amount for _, amount, _ in counter.grants),
            recorded_grants_nano_usd=sum(it[1] for it in self._recorded_grants(name)),
        )

    def _recorded_grants(self, name: CounterName) -> list[Active]:
        budget, period_id = name
        return [
            (grant.id, part.amount_nano_usd, grant.until_ms)
            for grant in self._grants.get(period_id, {}).values()
            for part in grant.parts
            if part.budget == budget
        ]

    def _open(self, name: CounterName) -> set[str]:
        return {
            hold_id
            for hold_id, hold in self._holds.items()
            if hold.state == "open"
            and any((share.budget, share.period_id) == name for share in hold.shares)
        }

    def _stray_leases(self) -> list[str]:
        return [it for it in self._leases if it not in self._holds or self._ended(it)]

    def _ended(self, hold_id: str) -> bool:
        return self._holds[hold_id].state != "open"


def _line(entry: LedgerEntry) -> EntryLine:
    fields = {
        "kind": entry.kind,
        "hold": entry.hold_id,
        "time": str(entry.time_ms),
        "cost": str(entry.cost_nano_usd),
        "held": str(entry.held_nano_usd),
        "charges": charges_text(entry.charges),
        "body": entry.body,
    }
    if entry.addendum:
        fields["addendum"] = "1"
    if entry.unreconciled:
        fields["unreconciled"] = charges_text(entry.unreconciled)
    return EntryLine(entry.id, fields)
