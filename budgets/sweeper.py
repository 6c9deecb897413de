"""Ends the holds of workers that died: charges them when their lease has run out.

Every worker may run one. No leader is needed, since `expire` is atomic: of several sweepers each
gets other holds, or none.
"""

from __future__ import annotations

import asyncio

import structlog

from budgets.ledger import Ledger, LedgerEntry, LedgerUnavailable

log = structlog.get_logger(__name__)


class Sweeper:
    """A background task that calls `expire`.

    Args:
        ledger: where the holds are.
        interval_s: the pause between two sweeps, in seconds.
        count_max: the most holds that one call ends; a sweep calls until there are fewer.
    """

    def __init__(self, ledger: Ledger, interval_s: float = 5.0, count_max: int = 100) -> None:
        if interval_s <= 0 or count_max < 1:
            raise ValueError("a sweeper needs a pause above 0 s and at least one hold a call")
        self._ledger = ledger
        self._interval_s = interval_s
        self._count_max = count_max
        self._task: asyncio.Task[None] | None = None

    async def sweep(self) -> list[LedgerEntry]:
        """End every hold whose lease has run out; return their entries.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        ended: list[LedgerEntry] = []
        while True:
            entries = await self._ledger.expire(self._count_max)
            ended += entries
            for entry in entries:
                log.warning(
                    "hold_unreconciled", hold_id=entry.hold_id, charged_nano_usd=entry.cost_nano_usd
                )
            if len(entries) < self._count_max:
                return ended

    def start(self) -> None:
        """Start sweeping in the background of the running event loop; once is enough."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="farebox-sweeper")

    async def stop(self) -> None:
        """Stop sweeping."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except LedgerUnavailable as error:
                log.warning("leases_not_swept", reason=str(error))
            except Exception:
                # Without a sweeper the money of dead workers stays held for ever.
                log.exception("leases_not_swept")
            await asyncio.sleep(self._interval_s)
