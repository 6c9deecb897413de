"""What stands in the ledger for good, and how a proof differs from its counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """A request that was not sent, for the refusal stream, with its decision."""

    decision_id: str
    code: str
    body: str
    decision: str
    stats_period: str
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One immutable line. `charges` maps (budget, period id) to the nanodollars it added.

    `kind` is `settled`, `voided`, `unreconciled` (a lease ended), `corrected` (a late settle or
    void; its charges are the differences, possibly negative, and its cost is the real one) or
    `recovered` (settled although the store had lost the hold).
    `addendum` is true where a period that it charges was closed by then. `unreconciled` is what it
    added to the part of spent that ended leases were charged with and nobody has settled since.
    """

    id: str
    kind: str
    hold_id: str
    time_ms: int
    cost_nano_usd: int
    held_nano_usd: int
    charges: Mapping[tuple[str, str], int]
    body: str
    addendum: bool = False
    unreconciled: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One line of the event stream (`threshold`, `overage`, `unreconciled`, `recovered`,
    `clock_stepped`, `period_closed`, `granted`, `queue_dead`) or of the refusals.

    `body` is JSON text; a refusal's `kind` is its code.
    """

    id: str
    kind: str
    time_ms: int
    body: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that does not equal what the entries and open holds add up to.

    `counter` is `spent`, `held`, `unreconciled`, `archived` (the recorded sum of the archived
    entries), `carry` (what a period was handed), `carried` (what a closed one handed on) or
    `granted` (what its grants add up to, by their records); or
    `holds`, `leases` and `expected_ends`, whose figures are numbers of holds and not amounts. Stray
    leases belong to no budget: their names are empty. `where` says where the sums part, if entries
    of this ledger are archived.
    """

    counter: str
    budget: str
    period_id: str
    stored_nano_usd: int
    recomputed_nano_usd: int
    where: str = ""
