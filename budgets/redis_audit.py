"""Reads the counters of a ledger in Redis for `verify`, while others go on using it.

Counters are read a few at a time, each batch at one instant together with the id of the last entry;
`verify.Audit` counts each of them up to its own entry. A batch keeps Redis busy for the time of
reading its counters' open holds: milliseconds at thousands of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from budgets.ledger import Difference, LedgerEntry
from budgets.redis_scripts import RedisClient, redis_errors, run_script
from budgets.verify import Audit, CounterRow

COUNTERS_PER_CALL = 50
LEASES_PER_CALL = 500


async def audit(
    client: RedisClient, prefix: str, entries: Callable[[], AsyncIterator[LedgerEntry]]
) -> tuple[Difference, ...]:
    """Return every counter that is not what the entries and open holds add up to."""
    # A budget with an entry up to here is in the list that is read next: counters never leave it.
    listed_to, _ = await run_script(client, "audit", prefix, 0)
    names = await _counter_names(client, prefix)
    rows: list[CounterRow] = []
    for start in range(0, len(names), COUNTERS_PER_CALL):
        args = [part for name in names[start : start + COUNTERS_PER_CALL] for part in name]
        last, found = await run_script(client, "audit", prefix, 0, *args)
        rows += [_row(row, last) for row in found]
    stray = await _stray_leases(client, prefix)
    sums = Audit(rows, listed_to, stray)
    async for entry in entries():
        if not sums.covers(entry):
            break
        sums.add(entry)
    return sums.differences()


async def _counter_names(client: RedisClient, prefix: str) -> list[tuple[str, str]]:
    """Return (budget, period id) of every counter."""
    found: set[str] = set()
    with redis_errors():
        async for name in client.sscan_iter(f"{prefix}counters", count=500):
            found.add(name)
    pairs = (name.partition(":") for name in sorted(found))
    return [(budget, period_id) for period_id, _, budget in pairs]


async def _stray_leases(client: RedisClient, prefix: str) -> int:
    """Return how many leases belong to no open hold."""
    found: set[str] = set()
    with redis_errors():
        async for hold_id, _ in client.zscan_iter(f"{prefix}leases", count=500):
            found.add(hold_id)
    ids = sorted(found)
    stray = 0
    for start in range(0, len(ids), LEASES_PER_CALL):
        batch = ids[start : start + LEASES_PER_CALL]
        stray += int(await run_script(client, "audit_leases", prefix, 0, *batch))
    return stray


def _row(row: list[Any], last: str) -> CounterRow:
    budget, period_id, spent, held, holds, amounts, unleased, expected_ends = row
    return CounterRow(
        budget=budget,
        period_id=period_id,
        spent_nano_usd=int(spent),
        held_nano_usd=int(held),
        holds=int(holds),
        shares_nano_usd=tuple(int(amount) for amount in amounts),
        unleased=int(unleased),
        expected_ends=int(expected_ends),
        entries_to=last,
    )
