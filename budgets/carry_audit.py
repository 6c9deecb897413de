"""Proof that closed periods handed on what they had to: a part of `verify`. Pure.

For every budget that carries, three sums must be one: what its closed period has handed on, what
its statement and the addenda say, and what its counters have left. What it has handed on must also
be the carry of the period that follows. Each row tells up to which addendum it counts, as in
`verify`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from budgets.records import Difference
from budgets.statements import Addendum, Statement
from budgets.verify import line_order


@dataclass(frozen=True, slots=True)
class CarryRow:
    """One budget of a closed period, read at one instant, in nanodollars.

    `owed` is its limit at the closing + carry - spent - held, `received` the carry of the following
    period. `addenda_to` is the id of the last addendum at that instant, empty if none.
    """

    budget: str
    carried_nano_usd: int
    owed_nano_usd: int
    received_nano_usd: int
    addenda_to: str


class CarryAudit:
    """Adds addenda up against the statements they belong to, and then tells the differences."""

    def __init__(self, closed: Sequence[tuple[Statement, Sequence[CarryRow]]]) -> None:
        self._rows: dict[tuple[str, str], tuple[str, CarryRow]] = {}
        self._stated: dict[tuple[str, str], int] = {}
        for statement, rows in closed:
            for row in rows:
                key = (row.budget, statement.period_id)
                self._rows[key] = (statement.following_id, row)
            for stated in statement.rows:
                if stated.carried_nano_usd is not None:
                    key = (stated.budget, statement.period_id)
                    self._stated[key] = stated.carried_nano_usd

    def add(self, addendum: Addendum) -> None:
        """Add one addendum."""
        key = (addendum.budget, addendum.period_id)
        if key in self._rows:
            until = self._rows[key][1].addenda_to
            if line_order(addendum.id) <= line_order(until):
                self._stated[key] = self._stated.get(key, 0) + addendum.carry_nano_usd

    def differences(self) -> tuple[Difference, ...]:
        """Return each carry that does not add up, by budget and period."""
        found: list[Difference] = []
        for key in sorted(self._rows.keys() | self._stated.keys()):
            if key not in self._rows:
                found.append(Difference("carried", *key, 0, self._stated[key]))
                continue
            following_id, row = self._rows[key]
            carried = row.carried_nano_usd
            for counter, period_id, stored, recomputed in (
                ("carried", key[1], carried, self._stated.get(key, 0)),
                ("carried", key[1], carried, row.owed_nano_usd),
                ("carry", following_id, row.received_nano_usd, carried),
            ):
                difference = Difference(counter, key[0], period_id, stored, recomputed)
                if stored != recomputed and difference not in found:
                    found.append(difference)
        return tuple(found)
