"""A ledger on a topology, and patience with it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from budgets.connection import connect
from budgets.errors import LedgerUnavailable
from budgets.redis_store import RedisLedger


@asynccontextmanager
async def ledger_at(url: str, name: str = "") -> AsyncIterator[RedisLedger]:
    """Open a ledger at an address."""
    client = connect(url)
    try:
        yield RedisLedger(client, name or uuid.uuid4().hex)
    finally:
        await client.aclose()


async def at_last(call: Callable[[], Awaitable[object]], seconds: float = 20.0) -> float:
    """Repeat an operation until the store answers; return the seconds that it took."""
    started = time.monotonic()
    while True:
        try:
            await call()
            return time.monotonic() - started
        except LedgerUnavailable:
            assert time.monotonic() - started < seconds, "the store did not come back"
            await asyncio.sleep(0.02)
