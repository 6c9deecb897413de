"""Closed periods: the statement that is frozen, and the addenda that come after it. Types only.

    period ends ─► close_period ─► Statement (never changed) ─► carry of the period that follows
                                         late settle ─► entry, marked `addendum`
                                                    └─► Addendum: the difference, and what of it
                                                        the following period's carry gets

What a budget with `carry: balance` hands on is what it has left: its limit at the closing, plus
what it was handed itself and what its grants counted for, less spent, less held. Open holds count
as spent here, so that nothing is handed on that a late settle would have to take back; what such a
settle leaves over is handed on then. Where the following period is closed already, the difference
goes on to the one after it.

A counter that did not exist at the closing has no row and carries nothing: a plain rule has a row
always (`close_period` names them), a rule with `each` for those values that were used.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StatementRow:
    """One budget at the closing of its period, in nanodollars.

    `carry` is what it was handed from the period before, `unreconciled` the part of `spent` that
    ended leases were charged with. `carried` is what it hands on; None: its rule does not carry.
    `granted` is what its grants and transfers counted for: see `grants.types.at_closing`.
    """

    budget: str
    rule: str
    limit_nano_usd: int
    carry_nano_usd: int
    spent_nano_usd: int
    held_nano_usd: int
    holds: int
    unreconciled_nano_usd: int
    carried_nano_usd: int | None
    granted_nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """A closed period (`start_ms` is in it, `end_ms` is not), its rows by budget name."""

    period_id: str
    start_ms: int
    end_ms: int
    following_id: str
    time_ms: int
    rows: tuple[StatementRow, ...]


@dataclass(frozen=True, slots=True)
class PeriodOpen:
    """The period was not closed, because by the ledger's time it has not ended."""

    period_id: str
    time_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Addendum:
    """One change of a closed period, in nanodollars; never changed itself.

    `spent` is the difference in the period, `carry` what of it the following period's carry gets.
    `hold_id` is the hold that caused it and `entry_id` the entry that says so: both are empty where
    the change was handed on from the period before, the entry where a hold was topped up.
    """

    id: str
    period_id: str
    budget: str
    time_ms: int
    spent_nano_usd: int
    carry_nano_usd: int
    hold_id: str
    entry_id: str
