"""Reads what closed periods have handed on, for `verify`, while others go on using the ledger.

Each period is read at one instant together with the id of the last addendum; `carry_audit` counts
the addenda up to there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from budgets import redis_codec as codec
from budgets.carry_audit import CarryAudit, CarryRow
from budgets.records import Difference
from budgets.redis_scripts import RedisClient, redis_errors, run_script
from budgets.statements import Addendum, Statement


async def carry_differences(
    client: RedisClient, prefix: str, addenda: Callable[[], AsyncIterator[Addendum]]
) -> tuple[Difference, ...]:
    """Return what closed periods should have handed on and did not."""
    closed: list[tuple[Statement, list[CarryRow]]] = []
    for period_id in await _period_ids(client, prefix):
        reply = await run_script(client, "audit_carry", prefix, 0, period_id)
        if reply:
            last, rows, fields = reply
            closed.append((codec.statement(fields), [_carry_row(row, last) for row in rows]))
    sums = CarryAudit(closed)
    if closed:
        async for addendum in addenda():
            sums.add(addendum)
    return sums.differences()


async def _period_ids(client: RedisClient, prefix: str) -> list[str]:
    """Return the periods of all counters; a closed one without a counter handed nothing on."""
    found: set[str] = set()
    with redis_errors():
        async for name in client.sscan_iter(f"{prefix}counters", count=500):
            found.add(name.partition(":")[0])
    return sorted(found)


def _carry_row(row: list[str], last: str) -> CarryRow:
    budget, carried, owed, received = row
    return CarryRow(budget, int(carried), int(owed), int(received), last)
