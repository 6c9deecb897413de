"""What a worker and the ledger say to each other of leased slices.

    take ─► the slice is one hold in the store, of one budget
    admit ─► in the worker's memory: no trip                        (see `desk`)
    adopt ─► a moment later: the request's own hold, moved out of the slice
    return ─► what is left goes back

A slice that nobody renews ends like any hold. What its worker had admitted and not reported yet is
at most its `unreported_nano_usd`: so much of it is charged, `unreconciled`, and the rest goes back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from budgets.holds import BudgetState, HoldRequest
from budgets.period import Period
from budgets.quick import quick

TOMBSTONE_TTL_S = 3600
"""How long a returned slice's id is remembered, so that a `take` that comes late takes nothing."""

RECALL_MS = 2000
"""How long no slice of a budget is handed out after somebody found no room in it."""

EXPECTED_MS = 1000
"""When a slice's money is expected back, for the `retry-after` of those who find no room."""

MARK = "lease"
"""What the entries of a slice that ended by itself are marked with."""


@dataclass(frozen=True, slots=True)
class SliceTake:
    """What a worker asks for: at most `most_nano_usd` of one budget, in one period.

    It is given `share_percent` of what is left at most; nothing if that is less than
    `least_nano_usd`, or if less than `direct_below_percent` of the limit is left: there, requests
    are admitted one by one. Of the slice at most `unreported_nano_usd` will be admitted ahead of
    what the store knows.
    """

    slice_id: str
    budget: str
    rule: str
    period: Period
    most_nano_usd: int
    least_nano_usd: int
    unreported_nano_usd: int
    share_percent: int
    direct_below_percent: int
    lease_ms: int
    stats_period: str


@dataclass(frozen=True, slots=True)
class SliceState:
    """A slice after a call. `granted_nano_usd` is what is left of it; 0 where it is not open.

    `state` is its budget's, None where its limit is lost. `recalled_ms` is when somebody last found
    no room in the budget (the ledger's time, 0 for never): slices from before then go back.
    """

    slice_id: str
    time_ms: int
    granted_nano_usd: int
    state: BudgetState | None
    recalled_ms: int


@quick
@dataclass(frozen=True, slots=True)
class Adoption:
    """A request that was admitted from slices: its hold, now that the store hears of it.

    `slices` is the slice that each enforced budget's share comes out of; `time_ms` when it was
    admitted, by the ledger's time as the worker knew it.
    """

    request: HoldRequest
    slices: Mapping[str, str]
    time_ms: int

    @property
    def hold_id(self) -> str:
        """The hold's id, as ends have one."""
        return self.request.hold_id


@dataclass(frozen=True, slots=True)
class Adopted:
    """The hold stands; or it has ended already, or stood, and nothing was done (`repeated`).

    `unbacked_nano_usd` is the largest part of a share that its slice did not have: nobody but a
    store that lost writes makes it more than 0. `ended` are those of its slices that are not open
    any more. `states` and `recalled_ms` are in the order of the request's budgets.
    """

    time_ms: int
    repeated: bool
    unbacked_nano_usd: int
    ended: tuple[str, ...]
    states: tuple[BudgetState | None, ...]
    recalled_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SliceReturn:
    """The end of a slice, by its worker, which has reported all that it admitted from it."""

    slice_id: str

    @property
    def hold_id(self) -> str:
        """The slice's id: it is a hold."""
        return self.slice_id


def body_of(slice_id: str) -> str:
    """Return what the entry of a slice says that ended by itself."""
    body = {"v": 1, "request_id": slice_id, "decision_id": "", "status": "open", "marks": [MARK]}
    return json.dumps(body, separators=(",", ":"))


class Leases(Protocol):
    """The operations on leased slices. Adoptions and returns go by `Ledger.write_all`."""

    async def take_slice(self, wanted: SliceTake) -> SliceState:
        """Take a slice; asking again for the same id changes nothing.

        Raises:
            LedgerPaused, ClockSkew, PolicyNotPublished: as for `hold`.
        """

    async def renew_slices(
        self, slices: Sequence[SliceTake], lease_ms: int
    ) -> tuple[SliceState, ...]:
        """Keep slices for `lease_ms` from now, and say how their budgets stand."""

    async def recall_slices(self, budgets: Sequence[tuple[str, str]]) -> None:
        """Ask all workers to give back their slices of (budget, period id) pairs."""
