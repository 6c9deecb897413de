"""Reads the counters of a ledger in Redis for `verify`, and mends them for `rebuild`.

    leases (a repair looks at every hold) ─► entries, added up a page at a time ─► counters

Others go on using the ledger meanwhile. So each counter is compared by a script, at one instant,
with what was added up so far and the few entries that have come since; and a repair sets it in that
same script. A call looks at a few counters with at most some hundred open holds in all; counters
with more are looked at by `redis_many_holds`, and in one call only where they seem to differ or are
set. Memory is bounded by the number of counters and of open holds, not by the number of entries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from budgets.archived import (
    ArchivedSums,
    ArchiveMoved,
    ArchiveState,
    CounterName,
    EntryLine,
    Sums,
)
from budgets.errors import LedgerUnavailable
from budgets.ledger import unwatched
from budgets.records import Difference
from budgets.redis_many_holds import ManyHolds
from budgets.redis_scripts import RedisClient, redis_errors, run_script
from budgets.verify import CounterRow, archived_of, differences, mendable, row_differences

COUNTERS_PER_CALL = 50
HOLDS_PER_CALL = 200
"""It bounds how long others wait: some milliseconds."""
ATTEMPTS_MAX = 5
"""How often a proof begins anew because entries were archived under it: that is once a day."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """What counters are set to, beyond what is read: their archived sums, which are recorded anew
    if `records`, and the lease of open holds that have none."""

    archived: Mapping[CounterName, tuple[int, int]]
    records: bool
    lease_ms: int


class RedisAudit:
    """One reading of a ledger. `lines` and `state` read its entries and its archive's state."""

    def __init__(
        self,
        client: RedisClient,
        prefix: str,
        clock_offset_ms: int,
        lines: Callable[[str], AsyncIterator[EntryLine]],
        state: Callable[[], Awaitable[ArchiveState]],
        watch: Callable[[int], None] = unwatched,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._offset_ms = clock_offset_ms
        self._lines = lines
        self._state = state
        self._watch = watch
        self._to = ""
        self._read_to = ""
        self._sums = Sums()
        self._open: dict[CounterName, list[str]] = {}
        self._stray_ids: list[str] = []
        self._archived: ArchivedSums | None = None

    async def verify(
        self, archived: ArchivedSums | None, *, every_hold: bool
    ) -> tuple[Difference, ...]:
        """Return every counter that is not what the entries and open holds add up to."""
        for _ in range(ATTEMPTS_MAX):
            try:
                stray, rows = await self._compare(archived, every_hold=every_hold)
                return differences(rows, archived, stray)
            except ArchiveMoved:
                if archived is not None:
                    raise
        raise LedgerUnavailable("entries were archived all the time; verify again")

    async def rebuild(
        self,
        archived: ArchivedSums | None,
        lease_ms: int,
        pause: Callable[[bool], Any],
    ) -> tuple[Difference, ...]:
        """Set every counter that differs, with admissions paused; return what was changed."""
        stray, rows = await self._compare(archived, every_hold=True)
        wrong = [row for row in rows if mendable(row_differences(row, archived))]
        if not wrong and not stray:
            return ()
        await pause(True)
        try:
            sums = {(row.budget, row.period_id): archived_of(row, archived) for row in wrong}
            setting = _Setting(sums, archived is not None, lease_ms)
            changed = [row async for row in self._rows(list(sums), setting)]
            stray, _ = await self._holds(self._stray_ids, sets=True)
        finally:
            await pause(False)
        return mendable(differences(changed, archived, stray))

    async def _compare(
        self, archived: ArchivedSums | None, *, every_hold: bool
    ) -> tuple[int, list[CounterRow]]:
        """Return the number of stray leases, and the rows that matter: those that differ."""
        state = await self._state()
        if archived is not None and archived.to != state.to:
            raise ArchiveMoved
        self._archived = archived
        self._to = self._read_to = state.to
        self._sums, self._open = Sums(), {}
        # Leases first: a hold that begins later stands in its counter's own list of expected ends.
        leased = await self._ids("zscan_iter", "leases")
        stray, self._open = await self._holds(leased, sets=False)
        if every_hold:
            _, self._open = await self._holds(leased | await self._hold_ids(), sets=False)
        self._stray_ids = sorted(leased) if stray else []
        await self._catch_up()
        names = await self._counter_names()
        names |= self._sums.names() | self._open.keys()
        names |= archived.sums.names() if archived is not None else set()
        rows = [row async for row in self._rows(sorted(names)) if row_differences(row, archived)]
        return stray, rows

    async def _catch_up(self) -> None:
        """Add up the entries that have come since the last time."""
        async for line in self._lines(self._read_to):
            self._sums.add(line)
            self._read_to = line.id
            self._watch(line.time_ms)

    async def _rows(
        self, names: list[CounterName], setting: _Setting | None = None
    ) -> AsyncIterator[CounterRow]:
        """Compare some counters or, with `setting`, set them; yield them as they were."""
        batch: list[CounterName] = []
        holds = 0
        for name in names:
            count = len(self._open.get(name, ()))
            if setting is None and count > HOLDS_PER_CALL:
                yield await self._row_of_many(name)
                continue
            if batch and (len(batch) == COUNTERS_PER_CALL or holds + count > HOLDS_PER_CALL):
                for row in await self._call(batch, setting):
                    yield row
                batch, holds = [], 0
            batch.append(name)
            holds += count
        if batch:
            for row in await self._call(batch, setting):
                yield row

    async def _row_of_many(self, name: CounterName) -> CounterRow:
        """Return the row of a counter with many holds; one that seems to differ is read at once."""
        leased = self._open[name]
        # The ids come with the counter: they need not be sent.
        self._open[name] = []
        try:

            async def look() -> tuple[list[Any], list[str]]:
                (row,) = await self._rows_of([name], None, "many")
                return row, row[17]

            figures, found = await ManyHolds(self._client, self._prefix, name, leased).at_once(look)
        finally:
            self._open[name] = leased
        row = replace(
            self._row(figures),
            shares_nano_usd=found.amounts_nano_usd,
            unleased=found.unleased,
            expected_ends=found.expected_ends,
            expected_rightly=found.expected_rightly,
        )
        if row_differences(row, self._archived):
            (row,) = await self._call([name], None)
        return row

    async def _call(self, names: list[CounterName], setting: _Setting | None) -> list[CounterRow]:
        mode = "read" if setting is None else "set"
        return [self._row(row) for row in await self._rows_of(names, setting, mode)]

    async def _rows_of(
        self, names: list[CounterName], setting: _Setting | None, mode: str
    ) -> list[list[Any]]:
        lease_ms = 0 if setting is None else setting.lease_ms
        while True:
            args: list[str | int] = [mode, self._to, self._read_to, lease_ms]
            for name in names:
                base = (0, 0) if setting is None else setting.archived[name]
                holds = self._open.get(name, [])
                args += [*name, *map(sum, zip(self._sums.of(name), base, strict=True))]
                args += base if setting is not None and setting.records else ("", "")
                args += [len(holds), *holds]
            answer, rows = await run_script(
                self._client, "audit", self._prefix, self._offset_ms, *args
            )
            match answer:
                case "moved":
                    raise ArchiveMoved
                case "behind":
                    await self._catch_up()
                case _:
                    return list(rows)

    def _row(self, row: list[Any]) -> CounterRow:
        budget, period_id, *figures = row[:8]
        spent, held, holds, unreconciled, archived, archived_unsettled = map(int, figures)
        amounts, unleased, expected, rightly, late, late_unsettled, orphaned_carry = row[8:15]
        granted, recorded_grants = map(int, row[15:17])
        charged, unsettled = self._sums.of((budget, period_id))
        return CounterRow(
            budget=budget,
            period_id=period_id,
            spent_nano_usd=spent,
            held_nano_usd=held,
            holds=holds,
            charged_nano_usd=charged + sum(map(int, late)),
            archived_nano_usd=archived,
            shares_nano_usd=tuple(int(amount) for amount in amounts),
            unleased=int(unleased),
            expected_ends=int(expected),
            expected_rightly=int(rightly),
            unreconciled_nano_usd=unreconciled,
            unsettled_nano_usd=unsettled + sum(map(int, late_unsettled)),
            archived_unsettled_nano_usd=archived_unsettled,
            orphaned_carry_nano_usd=int(orphaned_carry),
            granted_nano_usd=granted,
            recorded_grants_nano_usd=recorded_grants,
        )

    async def _counter_names(self) -> set[CounterName]:
        found = await self._ids("sscan_iter", "counters")
        found |= await self._ids("hscan_iter", "archived")
        pairs = (name.partition(":") for name in found)
        return {(budget, period_id) for period_id, _, budget in pairs}

    async def _holds(
        self, ids: Collection[str], *, sets: bool
    ) -> tuple[int, dict[CounterName, list[str]]]:
        """Return how many leases of these holds are stray, and the open holds by counter."""
        stray, found = 0, dict[CounterName, list[str]]()
        ordered = sorted(ids)
        for start in range(0, len(ordered), HOLDS_PER_CALL):
            batch = ordered[start : start + HOLDS_PER_CALL]
            mode = "set" if sets else "read"
            more, rows = await run_script(
                self._client, "audit_holds", self._prefix, 0, mode, *batch
            )
            stray += int(more)
            for hold_id, *names in rows:
                for name in zip(names[::2], names[1::2], strict=True):
                    found.setdefault(name, []).append(hold_id)
        return stray, found

    async def _ids(self, scan: str, key: str) -> set[str]:
        found: set[str] = set()
        with redis_errors():
            async for one in getattr(self._client, scan)(self._prefix + key, count=500):
                found.add(one if isinstance(one, str) else one[0])
        return found

    async def _hold_ids(self) -> set[str]:
        """Return the id of every hold, open and ended: it reads the names of all keys."""
        beginning = f"{self._prefix}hold:"
        # The name of a ledger may hold what Redis takes for a pattern.
        pattern = "".join(f"\\{it}" if it in "*?[]^\\" else it for it in beginning) + "*"
        found: set[str] = set()
        with redis_errors():
            async for key in self._client.scan_iter(match=pattern, count=1000):
                found.add(key.removeprefix(beginning))
        return found
