"""What workers may spend while the store is away: no more in all than the allowance says.

Counted here over all workers at once, which none of them can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from budgets.holds import BudgetHold
from tests.simulation.books import Broken


@dataclass
class Part:
    """What one request has of one rule in one period, in its budgets: held, and charged once it has
    ended."""

    held: int = 0
    budgets: list[str] = field(default_factory=list)
    charged: int | None = None

    @property
    def counted(self) -> int:
        """What counts: a cost above the hold is overage, which is recorded and not forbidden."""
        return self.held if self.charged is None else min(self.charged, self.held)


class SliceCheck:
    """Every request that was admitted without the store, in this run."""

    def __init__(self, allowances: Mapping[str, int], online: Callable[[str], bool]) -> None:
        self._allowances = allowances
        self._online = online
        self._parts: dict[str, dict[tuple[str, str], Part]] = {}

    def admitted(self, hold_id: str, budgets: Iterable[BudgetHold]) -> None:
        """Check an admission, or a hold that was raised."""
        parts: dict[tuple[str, str], Part] = {}
        for it in budgets:
            if it.enforced:
                part = parts.setdefault((it.rule, it.period.id), Part())
                part.held += it.amount_nano_usd
                part.budgets.append(it.budget)
        self._parts[hold_id] = parts
        for key in parts:
            # One whose hold did reach the store counts there, within the limit.
            used = sum(
                of_request[key].counted
                for request, of_request in self._parts.items()
                if key in of_request and not self._online(request)
            )
            if used > self._allowances.get(key[0], 0):
                raise Broken(
                    11,
                    f"{hold_id} makes {used} spent without the store of {key}, whose allowance is "
                    f"{self._allowances.get(key[0], 0)}",
                )

    def ended(self, hold_id: str, cost: int, charges: Mapping[str, int]) -> None:
        """Note what a request cost, and what of it budgets were charged that do not bear it all."""
        for part in self._parts.get(hold_id, {}).values():
            part.charged = sum(charges.get(it, cost) for it in part.budgets)
