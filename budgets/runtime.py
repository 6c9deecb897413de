"""What one process of the proxy holds of the ledger: the connection and the requests under way.

One `Runtime` a process, shared by the hook before a call and the callback after it. It ends what
cannot wait for a request: renewing the leases of what is under way, ending leases that nobody
renewed, repeating a settle while the store is away, and finding out when the store is back (no
user's request is used as a probe).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog

from budgets import embedded
from budgets.connection import AsyncClient, check_server, connect
from budgets.home import Home
from budgets.inflight import InFlight
from budgets.ledger import (
    Ledger,
    LedgerUnavailable,
    RefusalRecord,
    Settled,
    Settlement,
    ThresholdEvent,
)
from budgets.open_requests import OpenRequest, OpenRequests
from budgets.redis_store import RedisLedger
from budgets.sweeper import Sweeper

log = structlog.get_logger("farebox.ledger")

PROBE_INTERVAL_S = 0.25
SETTLE_BACKOFF_MAX_S = 5.0
PENDING_MAX = 20_000
"""Bound of the writes that wait for the store in memory. Beyond it a hold is left to its lease, and
a refusal is lost."""


@dataclass(slots=True)
class Runtime:
    """The ledger's side of one process. Made by `open_runtime`, on the event loop that uses it."""

    home: Home
    client: AsyncClient
    ledger: Ledger
    leases: InFlight
    sweeper: Sweeper
    requests: OpenRequests = field(default_factory=OpenRequests)
    available: bool = True
    pending: set[str] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> None:
        """Start the background work; it runs until `stop`."""
        self.leases.start()
        self.sweeper.start()
        self.spawn(self._probe())

    async def stop(self) -> None:
        """Stop the background work and close the connection."""
        await self.leases.stop()
        await self.sweeper.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.aclose()

    def spawn(self, work: Awaitable[None]) -> None:
        """Run `work` in the background; a failure is logged and never lost silently."""
        task = asyncio.ensure_future(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def lost(self, error: LedgerUnavailable) -> None:
        """Note that the store does not answer; it counts as away until the probe reaches it."""
        if self.available:
            log.warning("ledger_unavailable", reason=str(error))
        self.available = False

    # ── the end of a request ─────────────────────────────────────────────────────────────────────

    async def settle(self, request: OpenRequest, settlement: Settlement) -> Settled | None:
        """Charge a request; None while the store is away: it is then repeated until it is told."""
        return await self._end(request, lambda: self.ledger.settle(settlement))

    async def void(
        self, request: OpenRequest, body: str, counters: Mapping[str, int]
    ) -> Settled | None:
        """Release a request that cost nothing; repeated like `settle` while the store is away."""
        return await self._end(
            request, lambda: self.ledger.void(request.request_id, body, counters)
        )

    async def refuse(self, record: RefusalRecord) -> None:
        """Record a refusal; while the store is away, as soon as it is back."""
        call = partial(self.ledger.refuse, record)
        if self.available:
            try:
                await call()
                return
            except LedgerUnavailable as error:
                self.lost(error)
        self.spawn(self._repeat(record.decision_id, call))

    async def _end(
        self, request: OpenRequest, call: Callable[[], Awaitable[Settled]]
    ) -> Settled | None:
        self.requests.remove(request.request_id)
        self.leases.remove(request.request_id)
        try:
            settled = await call()
        except LedgerUnavailable as error:
            self.lost(error)
            self.spawn(self._repeat(request.request_id, call))
            return None
        announce(settled.events)
        return settled

    async def _repeat(self, request_id: str, call: Callable[[], Awaitable[object]]) -> None:
        if len(self.pending) >= PENDING_MAX:
            log.error("ledger_write_given_up", request_id=request_id)
            return
        self.pending.add(request_id)
        try:
            pause_s = PROBE_INTERVAL_S
            while True:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, SETTLE_BACKOFF_MAX_S) if not self.available else 0.05
                if not self.available:
                    continue
                try:
                    await call()
                    return
                except LedgerUnavailable as error:
                    self.lost(error)
        finally:
            self.pending.discard(request_id)

    # ── background work ──────────────────────────────────────────────────────────────────────────

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            if self.available:
                continue
            with contextlib.suppress(LedgerUnavailable):
                await self.ledger.now_ms()
                self.available = True
                log.warning("ledger_back")


def announce(events: Iterable[ThresholdEvent]) -> None:
    """Log the thresholds that a call has claimed; the ledger's event stream has them already."""
    for event in events:
        log.warning(
            "threshold_reached",
            level=event.level.value,
            percent=event.percent,
            budget=event.budget,
            period=event.period_id,
            spent_nano_usd=event.spent_nano_usd,
            limit_nano_usd=event.limit_nano_usd,
        )


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.error("background_work_failed", error=type(error).__name__, detail=str(error)[:200])


_current: Runtime | None = None


def _no_traces() -> tuple[int, int]:
    return (0, 0)


trace_counts: Callable[[], tuple[int, int]] = _no_traces
"""Traces sent and lost in this process, for its status; the tracing side replaces it."""


async def open_runtime(home: Home, lease_ms: int) -> Runtime:
    """Connect to the ledger of `home` and return a runtime that is not started yet.

    `lease_ms` is how long a hold lasts without a sign of life from this process.

    Raises:
        embedded.EmbeddedRedisError: no embedded Redis can be started.
        budgets.connection.RedisUrlError, RedisServerError: `REDIS_URL` is of no use.
    """
    url = home.redis_url
    if url is None:
        url = (await asyncio.to_thread(embedded.ensure, home.folder)).url
    client = connect(url)
    await check_server(client)
    ledger = RedisLedger(client, home.ledger)
    return Runtime(home, client, ledger, InFlight(ledger, lease_ms), Sweeper(ledger))


def install(runtime: Runtime | None) -> None:
    """Make `runtime` the one of this process."""
    global _current
    _current = runtime


def current() -> Runtime | None:
    """Return this process's runtime, or None before it has been started."""
    return _current
