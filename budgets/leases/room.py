"""What a worker has in slices, as it reckons with it: room, and what the store is yet to hear."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from budgets.holds import BudgetState
from budgets.leases.types import SliceTake


@dataclass(slots=True, eq=False)
class Slice:
    """A slice as this worker reckons with it: its room, and what the store has yet to hear of."""

    wanted: SliceTake
    granted_nano_usd: int
    at_most_nano_usd: int
    taken_ms: int
    room_nano_usd: int
    unreported_nano_usd: int = 0
    used: bool = True
    closing: bool = False

    def has_room(self, amount: int) -> bool:
        return (
            not self.closing
            and self.room_nano_usd >= amount
            and self.unreported_nano_usd + amount <= self.at_most_nano_usd
        )


@dataclass(slots=True, eq=False)
class Counter:
    """The slices of one budget in one period, and how much of them is wanted.

    `coming` is set where a slice was asked for and the answer is not there yet; it is done then.
    """

    slices: list[Slice] = field(default_factory=list)
    state: BudgetState | None = None
    coming: asyncio.Future[None] | None = None
    not_before_s: float = 0.0
    asked_nano_usd: int = 0
    rate_nano_usd: int = 0
    idle_ticks: int = 0

    @property
    def room_nano_usd(self) -> int:
        room_nano_usd = 0
        for it in self.slices:
            room_nano_usd += it.room_nano_usd
        return room_nano_usd
