"""Leased slices in Redis: a part of `RedisLedger`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from budgets import redis_codec as codec
from budgets.errors import ClockSkew
from budgets.holds import BudgetState
from budgets.leases.types import (
    TOMBSTONE_TTL_S,
    Adopted,
    Adoption,
    SliceReturn,
    SliceState,
    SliceTake,
)


class RedisLeases:
    """The operations on leased slices, over the scripts of the ledger that they are a part of."""

    @abstractmethod
    async def _run(self, script: str, *args: str | int) -> Any:
        """Run a script."""

    @abstractmethod
    async def _run_with_policy(self, script: str, *args: str | int) -> Any:
        """Run a script that needs the published limits."""

    async def take_slice(self, wanted: SliceTake) -> SliceState:
        reply = await self._run_with_policy(
            "lease_take",
            wanted.slice_id,
            wanted.most_nano_usd,
            wanted.least_nano_usd,
            wanted.unreported_nano_usd,
            wanted.share_percent,
            wanted.direct_below_percent,
            wanted.lease_ms,
            wanted.stats_period,
            wanted.budget,
            wanted.rule,
            wanted.period.id,
            wanted.period.start_ms,
            wanted.period.end_ms,
        )
        if reply[0] == "clock":
            raise ClockSkew(int(reply[1]))
        return _slice_state(reply[1])

    async def renew_slices(
        self, slices: Sequence[SliceTake], lease_ms: int
    ) -> tuple[SliceState, ...]:
        if not slices:
            return ()
        names = [part for it in slices for part in (it.slice_id, it.budget, it.rule, it.period.id)]
        rows = await self._run("lease_renew", lease_ms, *names)
        return tuple(_slice_state(row) for row in rows)

    async def recall_slices(self, budgets: Sequence[tuple[str, str]]) -> None:
        await self._run("lease_recall", *(part for pair in budgets for part in pair))


def adopt_args(it: Adoption, decision_ttl_s: int) -> codec.Args:
    """Return what `lease_adopt` takes."""
    request = it.request
    args: codec.Args = [
        *(request.hold_id, request.amount_nano_usd, request.lease_ms, request.expected_end_ms_in),
        *(request.facts, request.decision_id, request.decision, decision_ttl_s),
        *(request.stats_period, it.time_ms),
    ]
    for share in request.budgets:
        args += [share.budget, share.rule, share.period.id, share.amount_nano_usd]
        args.append(it.slices.get(share.budget, ""))
    return args


def return_args(it: SliceReturn) -> codec.Args:
    """Return what `lease_return` takes."""
    return [it.slice_id, TOMBSTONE_TTL_S]


def adopted(reply: Sequence[Any]) -> Adopted:
    """Return the reply of `lease_adopt`."""
    _, time_ms, repeated, unbacked, ended, states, recalled = reply
    return Adopted(
        time_ms=int(time_ms),
        repeated=repeated == "1",
        unbacked_nano_usd=int(unbacked),
        ended=tuple(ended),
        states=tuple(_state(row) for row in states),
        recalled_ms=tuple(int(it) for it in recalled),
    )


def _slice_state(row: Sequence[Any]) -> SliceState:
    slice_id, time_ms, left, state, recalled = row
    return SliceState(slice_id, int(time_ms), int(left), _state(state), int(recalled))


def _state(row: Any) -> BudgetState | None:
    return codec.budget_states([row])[0] if row else None
