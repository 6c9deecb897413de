"""Looks at a counter that has very many open holds, a few of them at a time.

One script that reads them all would keep every request waiting: ten milliseconds for a thousand.
So the holds are read in pages, and only the counter with the ids of its holds at one instant:

    pages of the holds ─► the counter and its ids, at one instant ─► pages of what is new among them

What a hold has put aside stays written in it when it ends, so that one which ended meanwhile still
counts for that instant. The one thing that slips through is a hold that was topped up meanwhile:
then the counter seems to differ, and whoever asked looks at it once more, in one step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from budgets.archived import CounterName
from budgets.redis_scripts import RedisClient, redis_errors, run_script

HOLDS_PER_CALL = 100
"""It bounds how long others wait: about a millisecond."""
IDS_PER_SCAN = 500


@dataclass(frozen=True, slots=True)
class _Share:
    """What a hold has put aside in the counter, in nanodollars."""

    amount_nano_usd: int
    is_open: bool
    is_leased: bool


@dataclass(frozen=True, slots=True)
class Holds:
    """The open holds of a counter at one instant, as `CounterRow` has them."""

    amounts_nano_usd: tuple[int, ...]
    unleased: int
    expected_ends: int
    expected_rightly: int


class ManyHolds:
    """The holds of one counter. `leased` are those that were open and have a lease."""

    def __init__(
        self, client: RedisClient, prefix: str, name: CounterName, leased: Collection[str]
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._name = name
        self._leased = leased

    async def at_once(
        self, look: Callable[[], Awaitable[tuple[list[Any], list[str]]]]
    ) -> tuple[list[Any], Holds]:
        """Return what `look` found of the counter at one instant, with its holds.

        `look` returns its figures and the ids in its list of expected ends.
        """
        budget, period_id = self._name
        known = set(self._leased)
        with redis_errors():
            key = f"{self._prefix}ends:{period_id}:{budget}"
            async for member, _ in self._client.zscan_iter(key, count=IDS_PER_SCAN):
                known.add(member)
        before = await self._read(known)
        figures, expected = await look()
        listed = set(expected)
        # What began after the first reading was open at that instant, and may have ended since.
        new = await self._read(listed - known)
        gone = {it for it, share in before.items() if share.is_open and it not in listed}
        unlisted = await self._read(gone)
        rightly = [before[it] for it in listed & before.keys() if before[it].is_open]
        rightly += new.values()
        others = [share for share in unlisted.values() if share.is_open]
        found = rightly + others
        # One that has ended since has given its lease back.
        unleased = sum(1 for it in found if it.is_open and not it.is_leased)
        amounts = tuple(it.amount_nano_usd for it in found)
        return figures, Holds(amounts, unleased, len(expected), len(rightly))

    async def _read(self, ids: Collection[str]) -> dict[str, _Share]:
        found: dict[str, _Share] = {}
        ordered = sorted(ids)
        for start in range(0, len(ordered), HOLDS_PER_CALL):
            batch = ordered[start : start + HOLDS_PER_CALL]
            rows = await run_script(self._client, "audit_shares", self._prefix, 0, *batch)
            for hold_id, is_open, is_leased, *shares in rows:
                for at in range(0, len(shares), 3):
                    if (shares[at], shares[at + 1]) == self._name:
                        amount = int(shares[at + 2])
                        found[hold_id] = _Share(amount, is_open == "1", is_leased == "1")
        return found
