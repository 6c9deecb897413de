"""The running totals as they stood at the end of each day, so that a day can be told from a month.

    farebox:{NAME}:daily   hash   DAY (such as 2026-11-21) = JSON of the month's totals up to then

The ledger's running totals count a calendar month. One worker (role `daily`) writes them down once
a minute under today's date; what a day had is the difference to the day before. The last minute of
a day counts for the next one, and a day in which no worker ran has nothing. No money depends on it:
the entries have every request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import structlog

from budgets.connection import AsyncClient
from budgets.errors import LedgerUnavailable
from budgets.ledger import Ledger
from budgets.period import period_at
from budgets.redis_scripts import redis_errors

log = structlog.get_logger("farebox.daily")

ROLE = "daily"
INTERVAL_S = 60.0
LEASE_MS = 180_000
DAYS_KEPT = 62
KEPT = ("model", "category")
"""The subjects of the totals that are written down, with two measures of each."""
MEASURES = ("requests", "actual_nano")


@dataclass(frozen=True, slots=True)
class Day:
    """One day: `counted` maps a total's name, such as `model:claude-haiku:requests`, to its number.

    `is_whole` is false where the day before was not written down, so that the number is that of
    the month up to this day.
    """

    date: str
    counted: Mapping[str, int]
    is_whole: bool


@dataclass(slots=True)
class DailyWriter:
    """Writes today's totals down, in whichever worker leads; `zone` is that of the policy."""

    client: AsyncClient
    ledger: Ledger
    name: str
    zone: Callable[[], str]
    worker: str

    async def run(self) -> None:
        """Write once a minute; never ends by itself."""
        while True:
            try:
                await self.write()
            except LedgerUnavailable as error:
                log.warning("day_not_written", reason=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def write(self) -> bool:
        """Write today's totals; False where another worker leads."""
        if not await self.ledger.lead(ROLE, self.worker, LEASE_MS):
            return False
        now_ms = await self.ledger.now_ms()
        day = period_at("day", self.zone(), now_ms).id
        totals = await self.ledger.counters(period_at("month", self.zone(), now_ms).id)
        text = json.dumps(kept_of(totals), separators=(",", ":"))
        client: Any = cast(Any, self.client)
        key = _key(self.name)
        with redis_errors():
            await client.hset(key, day, text)
            days = sorted(await client.hkeys(key))
            if old := days[:-DAYS_KEPT]:
                await client.hdel(key, *old)
        return True


def kept_of(totals: Mapping[str, int]) -> dict[str, int]:
    """Return what is written down of the running totals."""
    return {
        name: number
        for name, number in totals.items()
        if name.partition(":")[0] in KEPT and name.rpartition(":")[2] in MEASURES
    }


async def read(client: AsyncClient, name: str) -> tuple[Day, ...]:
    """Return the days that were written down, the oldest first.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    with redis_errors():
        rows = await cast(Awaitable[dict[str, str]], client.hgetall(_key(name)))
    return days_of({day: json.loads(text) for day, text in rows.items()})


def days_of(kept: Mapping[str, Mapping[str, int]]) -> tuple[Day, ...]:
    """Return each day by itself, from the month's totals at the end of each."""
    if not kept:
        return ()
    first, *_ = dates = sorted(kept)
    found = [Day(first, dict(kept[first]), first.endswith("-01"))]
    for before, date in pairwise(dates):
        if before[:7] != date[:7]:
            # The totals begin anew with the month.
            found.append(Day(date, dict(kept[date]), date.endswith("-01")))
            continue
        base = kept[before]
        counted = {
            name: number - base.get(name, 0)
            for name, number in kept[date].items()
            if number > base.get(name, 0)
        }
        found.append(Day(date, counted, True))
    return tuple(found)


def _key(name: str) -> str:
    return f"farebox:{{{name}}}:daily"
