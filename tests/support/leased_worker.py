"""A worker that is there to be killed: it admits from slices, and says what it sent.

    python -m tests.support.leased_worker REDIS_URL LEDGER FOLDER REQUESTS

Each line of its output is a request's id and what the provider bills for it. After so many requests
it reports no more: the rest is sent while its event loop stands still, and then it stands still.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from pathlib import Path

from budgets.config import LeaseSettings
from budgets.connection import connect
from budgets.holds import BudgetHold, HoldRequest
from budgets.inflight import InFlight
from budgets.journal import Journal
from budgets.jsontext import compact
from budgets.outage import Outage
from budgets.period import period_at
from budgets.redis_store import RedisLedger
from budgets.runtime import Runtime
from budgets.settlements import Settlement
from budgets.sweeper import Sweeper

CENT = 10_000_000
LEASE_MS = 60_000
BUDGETS = ("team", "key")


async def main(url: str, name: str, folder: Path, count: int) -> None:
    """Send requests, the last ones without a word to the ledger."""
    client = connect(url)
    ledger = RedisLedger(client, name)
    runtime = Runtime(
        ledger,
        InFlight(ledger, LEASE_MS),
        Sweeper(ledger, interval_s=1000),
        Outage(ledger, Journal.open(folder), folder),
        client=client,
        lease_settings=lambda: LeaseSettings(budgets="all", share_percent=50),
    )
    runtime.start()
    for number in range(count):
        hold_id = await _admit(runtime)
        _send(hold_id)
        if number % 3:
            settlement = Settlement(hold_id, CENT, "{}", {}, {})
            await runtime.endings.put(settlement, lambda *_: None)
        await asyncio.sleep(0.01)
    await runtime.endings.flush()
    # No await from here on: nothing of this is ever told.
    while (held := runtime.desk.admit(_request())) is not None:
        _send(held.hold_id)
    print("still", flush=True)
    time.sleep(600)  # noqa: ASYNC251 (nothing may run any more)


async def _admit(runtime: Runtime) -> str:
    request = _request()
    await runtime.hold(request, offline=False, time_ms=0)
    return request.hold_id


def _request() -> HoldRequest:
    period = period_at("month", "UTC", time.time_ns() // 1_000_000)
    hold_id = uuid.uuid4().hex
    budgets = tuple(BudgetHold(it, it, period, CENT) for it in BUDGETS)
    facts = compact({"v": 1, "request_id": hold_id, "status": "open"})
    return HoldRequest(hold_id, CENT, budgets, LEASE_MS, 10, facts, hold_id, "{}", period.id)


def _send(hold_id: str) -> None:
    print(hold_id, CENT, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
