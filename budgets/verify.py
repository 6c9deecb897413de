"""Proof that the counters are what the entries, the archive and the open holds add up to.

Pure: a store reads each counter as a `CounterRow`, together with what it should be, at one instant;
this compares. How a store adds entries up while others write more is its own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from budgets.archived import IN_REDIS, LIVE, ArchivedSums
from budgets.records import Difference

CHANGES_TOLD_MAX = 100
"""How many changed counters the event of a repair names; it counts the others."""


@dataclass(frozen=True, slots=True)
class CounterRow:
    """One budget's counters in one period as stored, with its open holds, at one instant.

    `charged_nano_usd` is what the live entries of that instant have charged, `archived_nano_usd`
    the recorded sum of the archived ones. `shares_nano_usd` is what each of its open holds has put
    aside; `unleased` is how many of those have no lease. `expected_ends` is how many holds stand in
    its list of expected ends, `expected_rightly` how many of them are open. `unreconciled` is the
    stored part of spent that ended leases were charged with and nobody has settled since; live
    entries add up to `unsettled`, archived ones to `archived_unsettled`. `orphaned_carry` is a
    carry that no closed period handed on; what those handed on is for `carry_audit`. `granted` is
    what its grants add up to, ended ones too, and `recorded_grants` what their records say.
    """

    budget: str
    period_id: str
    spent_nano_usd: int
    held_nano_usd: int
    holds: int
    charged_nano_usd: int
    archived_nano_usd: int
    shares_nano_usd: tuple[int, ...]
    unleased: int
    expected_ends: int
    expected_rightly: int
    unreconciled_nano_usd: int = 0
    unsettled_nano_usd: int = 0
    archived_unsettled_nano_usd: int = 0
    orphaned_carry_nano_usd: int = 0
    granted_nano_usd: int = 0
    recorded_grants_nano_usd: int = 0


def archived_of(row: CounterRow, archived: ArchivedSums | None) -> tuple[int, int]:
    """Return what archived entries charged to a counter, and how much of it is unreconciled.

    By the files, if all of them are sound; else as Redis recorded it.
    """
    if archived is None or archived.damaged:
        return row.archived_nano_usd, row.archived_unsettled_nano_usd
    return archived.sums.of((row.budget, row.period_id))


def row_differences(row: CounterRow, archived: ArchivedSums | None) -> list[Difference]:
    """Return what does not add up in one counter.

    Each cause shows once: where the files and the recorded sum part, `spent` is compared with the
    files if they are sound, and with the recorded sum if one of them is damaged.
    """
    key = (row.budget, row.period_id)
    found: list[Difference] = []
    if archived is not None:
        where = archived.parted.get(key) or archived.damaged or IN_REDIS
        recorded = (row.archived_nano_usd, row.archived_unsettled_nano_usd)
        for stored, in_files in zip(recorded, archived.sums.of(key), strict=True):
            if stored != in_files:
                found.append(Difference("archived", *key, stored, in_files, where))
    # Without an archive there is only one place, which need not be named.
    where = LIVE if archived is not None or row.archived_nano_usd else ""
    open_holds = len(row.shares_nano_usd)
    expected = row.expected_ends
    if expected == open_holds:
        expected = row.expected_rightly
    charged, unsettled = archived_of(row, archived)
    unsettled += row.unsettled_nano_usd
    for counter, stored, recomputed, place in (
        ("spent", row.spent_nano_usd, charged + row.charged_nano_usd, where),
        ("unreconciled", row.unreconciled_nano_usd, unsettled, where),
        ("carry", row.orphaned_carry_nano_usd, 0, ""),
        ("granted", row.granted_nano_usd, row.recorded_grants_nano_usd, ""),
        ("held", row.held_nano_usd, sum(row.shares_nano_usd), ""),
        ("holds", row.holds, open_holds, ""),
        ("expected_ends", expected, open_holds, ""),
        ("leases", open_holds - row.unleased, open_holds, ""),
    ):
        if stored != recomputed:
            found.append(Difference(counter, *key, stored, recomputed, place))
    return found


def differences(
    rows: Iterable[CounterRow], archived: ArchivedSums | None, stray_leases: int
) -> tuple[Difference, ...]:
    """Return every counter that does not add up, in the order of budgets and periods."""
    found: list[Difference] = []
    for row in sorted(rows, key=lambda it: (it.budget, it.period_id)):
        found += row_differences(row, archived)
    if stray_leases:
        found.append(Difference("leases", "", "", stray_leases, 0))
    return tuple(found)


def mendable(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return the differences that a repair mends: carries follow from counters and limits."""
    return tuple(one for one in found if one.counter not in ("carry", "carried"))


def rebuilt(actor: str, changed: Sequence[Difference]) -> dict[str, Any]:
    """Return what the event of a repair says: who, and what was changed from what to what."""
    told = [asdict(one) for one in changed[:CHANGES_TOLD_MAX]]
    return {"actor": actor, "count": len(changed), "changes": told}


def line_order(entry_id: str) -> tuple[int, int]:
    """Return a stream id, `milliseconds-sequence`, as a pair that compares rightly."""
    if not entry_id:
        return (-1, -1)
    milliseconds, _, sequence = entry_id.partition("-")
    return (int(milliseconds), int(sequence))


def next_order_id(entry_id: str) -> str:
    """Return the least stream id that is beyond `entry_id`."""
    milliseconds, sequence = line_order(entry_id)
    return f"{milliseconds}-{sequence + 1}"
