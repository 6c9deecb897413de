"""Keeps the leases of this worker's open holds alive, so that only a dead worker's holds expire.

    hold ─► add ─► renewed every third of a lease ─► remove ◄─ settle, void

Nothing here is needed for correctness: a hold that is not renewed is charged when its lease ends,
and corrected when its settle comes. So the registry may be bounded, and may forget.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from budgets.background import end
from budgets.errors import LedgerUnavailable
from budgets.ledger import Ledger

log = structlog.get_logger(__name__)


class InFlight:
    """The open holds of one worker, and the task that renews them.

    Args:
        ledger: where the holds are.
        lease_ms: how long a renewed lease lasts, in ms; renewals come every third of it.
        holds_max: how many holds are kept alive; `add` refuses more.
        age_s_max: a hold that nobody removed for so long is left to its lease: its request is lost,
            and its money must not be held for ever.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        ledger: Ledger,
        lease_ms: int,
        *,
        holds_max: int = 10_000,
        age_s_max: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._lease_ms = lease_ms
        self._holds_max = holds_max
        self._age_s_max = age_s_max
        self._clock = clock
        self._since: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._since)

    def add(self, hold_id: str) -> bool:
        """Keep a hold alive from now on; False where the registry is full."""
        if hold_id not in self._since and len(self._since) >= self._holds_max:
            log.warning("hold_not_renewed", reason="registry full", holds_max=self._holds_max)
            return False
        self._since[hold_id] = self._clock()
        return True

    def remove(self, hold_id: str) -> None:
        """Keep a hold alive no longer; a hold that is not here is no error."""
        self._since.pop(hold_id, None)

    async def renew(self) -> int:
        """Renew every lease once; return how many holds were open.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        oldest = self._clock() - self._age_s_max
        for hold_id in [it for it, since in self._since.items() if since <= oldest]:
            log.warning("hold_forgotten", hold_id=hold_id, age_s_max=self._age_s_max)
            self.remove(hold_id)
        if not self._since:
            return 0
        return await self._ledger.renew(list(self._since), self._lease_ms)

    def start(self) -> None:
        """Start renewing in the background of the running event loop; once is enough."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="farebox-inflight")

    async def stop(self) -> None:
        """Stop renewing. Holds that are open still have the rest of their lease."""
        task, self._task = self._task, None
        await end(task)

    async def _run(self) -> None:
        interval_s = self._lease_ms / 3000
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.renew()
            except LedgerUnavailable as error:
                log.warning("leases_not_renewed", reason=str(error), holds=len(self))
            except Exception:
                # A worker that stopped renewing would let every later hold expire.
                log.exception("leases_not_renewed", holds=len(self))
