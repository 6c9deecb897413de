"""Ends the holds of workers that died: charges them when their lease has run out.

Every worker runs one, and one of them leads: it takes the role `sweeper` in the ledger and keeps it
while it lives. When it dies, another takes the role within its lease. Where no worker lives,
nothing is swept, and nothing need be: the first one that starts ends all that has run out, in
batches. Two leaders at once, for a moment, would do no harm: `expire` is atomic, and each gets
other holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Callable

import structlog

from budgets.background import end
from budgets.errors import LedgerUnavailable
from budgets.ledger import Ledger
from budgets.records import LedgerEntry
from budgets.traced import expired

log = structlog.get_logger(__name__)

ROLE = "sweeper"
LEASE_INTERVALS = 3
"""How many pauses a leader may miss before another takes its place."""
RESIGN_S_MAX = 1.0
"""How long a sweeper that stops waits for the store to hear of it, in seconds."""


class Sweeper:
    """A background task that calls `expire`.

    Args:
        ledger: where the holds are.
        interval_s: the pause between two sweeps, in seconds.
        count_max: the most holds that one call ends; a sweep calls until there are fewer.
        owner: the name under which it leads; each sweeper needs its own.

    `may_sweep` is asked before each sweep in the background: after an outage, the workers that
    live renew the leases that have run out meanwhile before anybody charges them as lost.
    """

    def __init__(
        self,
        ledger: Ledger,
        interval_s: float = 5.0,
        count_max: int = 100,
        *,
        owner: str | None = None,
    ) -> None:
        if interval_s <= 0 or count_max < 1:
            raise ValueError("a sweeper needs a pause above 0 s and at least one hold a call")
        self._ledger = ledger
        self._interval_s = interval_s
        self._count_max = count_max
        self._lease_ms = max(1, int(interval_s * 1000 * LEASE_INTERVALS))
        self._task: asyncio.Task[None] | None = None
        self.may_sweep: Callable[[], bool] = lambda: True
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    async def lead(self) -> bool:
        """Take or keep the role; say whether this is the sweeper that leads."""
        return await self._ledger.lead(ROLE, self.owner, self._lease_ms)

    async def sweep_if_leading(self) -> list[LedgerEntry]:
        """Sweep while this sweeper leads, which it renews before every batch.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        ended: list[LedgerEntry] = []
        while await self.lead():
            entries = await self._expire()
            ended += entries
            if len(entries) < self._count_max:
                break
        return ended

    async def sweep(self) -> list[LedgerEntry]:
        """End every hold whose lease has run out, leading or not; return their entries.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        ended: list[LedgerEntry] = []
        while True:
            entries = await self._expire()
            ended += entries
            if len(entries) < self._count_max:
                return ended

    async def _expire(self) -> tuple[LedgerEntry, ...]:
        entries = await self._ledger.expire(self._count_max)
        for entry in entries:
            log.warning(
                "hold_unreconciled", hold_id=entry.hold_id, charged_nano_usd=entry.cost_nano_usd
            )
            expired(entry)
        return entries

    def start(self) -> None:
        """Start sweeping in the background of the running event loop; once is enough."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="farebox-sweeper")

    async def stop(self) -> None:
        """Stop sweeping, and leave the role to another at once."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)
            with contextlib.suppress(LedgerUnavailable, TimeoutError):
                async with asyncio.timeout(RESIGN_S_MAX):
                    await self._ledger.resign(ROLE, self.owner)

    async def _run(self) -> None:
        while True:
            try:
                if self.may_sweep():
                    await self.sweep_if_leading()
            except LedgerUnavailable as error:
                log.warning("leases_not_swept", reason=str(error))
            except Exception:
                # Without a sweeper the money of dead workers stays held for ever.
                log.exception("leases_not_swept")
            await asyncio.sleep(self._interval_s)
