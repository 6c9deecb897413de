"""A worker's slices of the allowances: what it may admit by itself while the store is away.

A rule with `allowance_usd` may be passed by so much in each period, by all workers together, in
times when nobody can ask the ledger. While the store answers, each worker is handed its part; while
it does not, the worker holds and settles within its part as exactly as the ledger would. A rule
with several counters (`each`) has one allowance for all of them together.

Pure: what the ledger grants comes in, what may be admitted goes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from budgets.holds import BudgetHold
from budgets.period import Period
from budgets.slices import Slice, SliceRequest

Key = tuple[str, str]
"""Rule and period id."""


@dataclass(slots=True)
class _Part:
    """One slice: what was handed out, what is held of it, what was spent and is not told yet."""

    slice_nano_usd: int = 0
    held_nano_usd: int = 0
    spent_nano_usd: int = 0

    @property
    def used_nano_usd(self) -> int:
        return self.held_nano_usd + self.spent_nano_usd


class Allowance:
    """The slices of one worker."""

    def __init__(self) -> None:
        self._parts: dict[Key, _Part] = {}
        self._holds: dict[str, dict[Key, int]] = {}

    # ── while the store answers ──────────────────────────────────────────────────────────────────

    def wanted(self, rules: Iterable[tuple[str, Period, int, bool]]) -> tuple[SliceRequest, ...]:
        """Return what to ask for: each rule with its period, allowance, and whether it has one
        counter for everybody. Parts of other periods that nothing is held of are forgotten.
        """
        asked = tuple(
            SliceRequest(rule, period, amount, self._slice((rule, period.id)), alone)
            for rule, period, amount, alone in rules
        )
        current = {(it.rule, it.period.id) for it in asked}
        for key in [k for k, part in self._parts.items() if k not in current]:
            if not self._parts[key].used_nano_usd:
                del self._parts[key]
        return asked

    def take(self, slices: Iterable[Slice]) -> None:
        """Note what the ledger has granted. What is held or spent is never given back."""
        for it in slices:
            part = self._parts.setdefault((it.rule, it.period_id), _Part())
            if it.granted_nano_usd <= it.target_nano_usd:
                part.slice_nano_usd = it.granted_nano_usd
            else:
                part.slice_nano_usd = min(
                    it.granted_nano_usd, max(it.target_nano_usd, part.used_nano_usd)
                )

    # ── while it does not ────────────────────────────────────────────────────────────────────────

    def hold(self, hold_id: str, budgets: Sequence[BudgetHold]) -> BudgetHold | None:
        """Hold against every budget that is enforced, or change nothing and return one that can't.

        A hold of the same id is replaced: it is how a hold is raised.
        """
        standing = self._holds.get(hold_id, {})
        wants: dict[Key, int] = {}
        for it in budgets:
            if it.enforced:
                key = (it.rule, it.period.id)
                wants[key] = wants.get(key, 0) + it.amount_nano_usd
        for it in budgets:
            key = (it.rule, it.period.id)
            if it.enforced and wants[key] > self._room(key) + standing.get(key, 0):
                return it
        for key in standing.keys() | wants.keys():
            part = self._parts[key]
            part.held_nano_usd += wants.get(key, 0) - standing.get(key, 0)
        self._holds[hold_id] = wants
        return None

    def end(self, hold_id: str, budgets: Sequence[BudgetHold], charges: Mapping[str, int]) -> None:
        """End a hold with what each of its budgets is charged."""
        for key, amount in self._holds.pop(hold_id, {}).items():
            part = self._parts[key]
            part.held_nano_usd -= amount
            part.spent_nano_usd += self._charge(key, budgets, charges)

    def told(self, budgets: Sequence[BudgetHold], charges: Mapping[str, int]) -> None:
        """Note that the ledger knows of a request: what it spent is no part of the slice now."""
        for key in {(it.rule, it.period.id) for it in budgets}:
            part = self._parts.get(key)
            if part is not None:
                charge = self._charge(key, budgets, charges)
                part.spent_nano_usd = max(0, part.spent_nano_usd - charge)
                part.slice_nano_usd = max(0, part.slice_nano_usd - charge)

    def remaining_nano_usd(self, budgets: Sequence[BudgetHold]) -> int | None:
        """Return the least that is left of the slices of these budgets."""
        rooms = [self._room((it.rule, it.period.id)) for it in budgets if it.enforced]
        return min(rooms, default=None)

    def slices(self) -> dict[str, int]:
        """Return what is left of each slice, by rule, for a status."""
        return {rule: self._room((rule, period_id)) for rule, period_id in self._parts}

    @staticmethod
    def _charge(key: Key, budgets: Sequence[BudgetHold], charges: Mapping[str, int]) -> int:
        of_rule = (it for it in budgets if it.enforced and (it.rule, it.period.id) == key)
        return sum(charges.get(it.budget, 0) for it in of_rule)

    def _slice(self, key: Key) -> int:
        part = self._parts.get(key)
        return part.slice_nano_usd if part is not None else 0

    def _room(self, key: Key) -> int:
        part = self._parts.get(key)
        return part.slice_nano_usd - part.used_nano_usd if part is not None else 0
