"""The days of the running totals, on real Redis: one worker writes, old days are forgotten."""

from __future__ import annotations

import uuid

from budgets import daily
from budgets.connection import AsyncClient
from budgets.daily import DAYS_KEPT, DailyWriter
from budgets.redis_store import RedisLedger


async def test_one_worker_writes_today_and_old_days_are_forgotten(
    redis_client: AsyncClient,
) -> None:
    name = uuid.uuid4().hex
    ledger = RedisLedger(redis_client, name)
    key = f"farebox:{{{name}}}:daily"
    for number in range(DAYS_KEPT + 5):
        await redis_client.hset(key, f"2020-{1 + number // 28:02}-{1 + number % 28:02}", "{}")
    first, second = (
        DailyWriter(redis_client, ledger, name, lambda: "UTC", worker) for worker in ("a", "b")
    )
    assert await first.write() is True
    assert await second.write() is False
    days = await daily.read(redis_client, name)
    assert len(days) == DAYS_KEPT
    assert days[0].date == "2020-01-07"
    assert days[-1].date > "2026"
