"""Opens the ledger for one process of the proxy: the connection, the journal, what runs on them."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from budgets import embedded
from budgets.connection import AsyncClient, RedisServerError, check_server, connect
from budgets.home import Home
from budgets.inflight import InFlight
from budgets.journal import Journal, JournalError
from budgets.outage import Outage
from budgets.redis_store import RedisLedger
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper

log = structlog.get_logger("farebox.ledger")


async def open_runtime(home: Home, lease_ms: int) -> Runtime:
    """Open the ledger of `home` and return a runtime that is not started yet.

    `lease_ms` is how long a hold lasts without a sign of life from this process. An outside Redis
    that does not answer yet is waited for in the background.

    Raises:
        embedded.EmbeddedRedisError: no embedded Redis can be started.
        budgets.connection.RedisUrlError: `REDIS_URL` cannot be understood.
    """
    url = home.redis_url
    if url is None:
        url = (await asyncio.to_thread(embedded.ensure, home.folder)).url
    client = connect(url)
    ledger = RedisLedger(client, home.ledger)
    folder = home.journals
    try:
        journal = await asyncio.to_thread(Journal.open, folder)
    except JournalError as error:
        log.error("journal_not_written", reason=str(error))
        journal = None
    opened = Runtime(
        ledger,
        InFlight(ledger, lease_ms),
        Sweeper(ledger),
        Outage(ledger, journal, folder),
        client=client,
    )
    try:
        await check_server(client)
    except RedisServerError as error:
        log.error("ledger_not_reached", reason=str(error))
        opened.available = False
        opened.check = partial(_checked, client)
    return opened


async def _checked(client: AsyncClient) -> None:
    await check_server(client)
