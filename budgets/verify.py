"""Proof that the counters are what the entries and open holds add up to.

Pure: a store reads its counters as `CounterRow`s and passes its entries, and this adds up and
compares. Each row says up to which entry it counts (`entries_to`), so that a store may read its
rows one after the other under live traffic, and what happens in between is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from budgets.ledger import Difference, LedgerEntry


@dataclass(frozen=True, slots=True)
class CounterRow:
    """One budget's counters in one period as stored, with its open holds, at one instant.

    `shares_nano_usd` is what each of its open holds has put aside; `unleased` is how many of those
    have no lease, `expected_ends` how many holds stand in its list of expected ends. `entries_to`
    is the id of the last entry at that instant, empty if none.
    """

    budget: str
    period_id: str
    spent_nano_usd: int
    held_nano_usd: int
    holds: int
    shares_nano_usd: tuple[int, ...]
    unleased: int
    expected_ends: int
    entries_to: str


class Audit:
    """Adds entries up against the rows they belong to, and then tells the differences.

    `listed_to` is the id of the last entry before the rows were listed: a budget that got its first
    entry later has no row, rightly.
    """

    def __init__(self, rows: Sequence[CounterRow], listed_to: str, stray_leases: int) -> None:
        self._rows = {(row.budget, row.period_id): row for row in rows}
        self._until = {key: line_order(row.entries_to) for key, row in self._rows.items()}
        self._listed_to = line_order(listed_to)
        self._stray_leases = stray_leases
        self._spent = dict.fromkeys(self._rows, 0)

    @property
    def last(self) -> tuple[int, int]:
        """The order of the last entry that matters; entries beyond it need not be read."""
        return max([self._listed_to, *self._until.values()])

    def covers(self, entry: LedgerEntry) -> bool:
        """Say whether this entry was there when the counters were read."""
        return line_order(entry.id) <= self.last

    def add(self, entry: LedgerEntry) -> None:
        """Add one entry's charges."""
        order = line_order(entry.id)
        for key, charge in entry.charges.items():
            if order <= self._until.get(key, self._listed_to):
                self._spent[key] = self._spent.get(key, 0) + charge

    def differences(self) -> tuple[Difference, ...]:
        """Return every counter that does not add up, in the order of budgets and periods."""
        found: list[Difference] = []
        for key in sorted(self._spent):
            row = self._rows.get(key)
            if row is None:
                found.append(Difference("spent", *key, 0, self._spent[key]))
                continue
            for counter, stored, recomputed in (
                ("spent", row.spent_nano_usd, self._spent[key]),
                ("held", row.held_nano_usd, sum(row.shares_nano_usd)),
                ("holds", row.holds, len(row.shares_nano_usd)),
                ("expected_ends", row.expected_ends, len(row.shares_nano_usd)),
                ("leases", len(row.shares_nano_usd) - row.unleased, len(row.shares_nano_usd)),
            ):
                if stored != recomputed:
                    found.append(Difference(counter, *key, stored, recomputed))
        if self._stray_leases:
            found.append(Difference("leases", "", "", self._stray_leases, 0))
        return tuple(found)


def line_order(entry_id: str) -> tuple[int, int]:
    """Return a stream id, `milliseconds-sequence`, as a pair that compares rightly."""
    if not entry_id:
        return (-1, -1)
    milliseconds, _, sequence = entry_id.partition("-")
    return (int(milliseconds), int(sequence))
