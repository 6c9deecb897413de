"""What a worker of the proxy runs for alerts: rounds of delivery, and the look at the budgets.

Every worker delivers, one of them looks. While the ledger is away nothing is done; when it is back,
that it was away is noted in its events, and told like any other.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from budgets.alerts.deliverer import Deliverer
from budgets.alerts.facts import Facts, NewestCharges
from budgets.alerts.outbox import Outbox
from budgets.alerts.watcher import LOOK_INTERVAL_S, Watcher
from budgets.config import BudgetsFile
from budgets.errors import LedgerUnavailable
from budgets.home import Home, environment_beside
from budgets.ledger import Ledger

log = structlog.get_logger("farebox.alerts")

ROUND_INTERVAL_S = 1.0
FAILURE_PAUSE_S = 10.0
"""The pause after an error that repeats itself, such as a right that the Redis user lacks."""


def open_alerter(
    ledger: Ledger,
    outbox: Outbox,
    home: Home,
    budgets: Callable[[], BudgetsFile],
    available: Callable[[], bool],
    worker: str,
) -> Alerter:
    """Return the alerts of one worker of the ledger of `home`, by the policy in force."""

    def clock() -> int:
        return time.time_ns() // 1_000_000

    facts = Facts(ledger, outbox, budgets, home.ledger, NewestCharges(ledger))
    deliverer = Deliverer(outbox, facts, lambda: environment_beside(home.config), clock)
    return Alerter(deliverer, Watcher(ledger, outbox, budgets, worker), available, clock)


@dataclass(slots=True)
class Alerter:
    """The alerts of one worker. `available` says whether the ledger is there."""

    deliverer: Deliverer
    watcher: Watcher
    available: Callable[[], bool]
    clock: Callable[[], int]
    _away_since_ms: int | None = None

    async def deliver(self) -> None:
        """Route and deliver, round after round; never ends by itself."""
        while True:
            pause_s = ROUND_INTERVAL_S
            try:
                if await self._notice_outage():
                    await self._round()
            except LedgerUnavailable as error:
                pause_s = await self._pause_after(error)
            except Exception:
                log.exception("alerts_not_delivered")
                pause_s = FAILURE_PAUSE_S
            await asyncio.sleep(pause_s)

    async def look(self) -> None:
        """Look at the budgets now and then; never ends by itself."""
        while True:
            try:
                if self.available():
                    await self.watcher.look()
            except LedgerUnavailable as error:
                await self._pause_after(error)
            except Exception:
                log.exception("budgets_not_watched")
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _round(self) -> None:
        # A full round means that there is more.
        while await self.deliverer.round():
            pass

    async def _pause_after(self, error: LedgerUnavailable) -> float:
        if not self.available():
            return ROUND_INTERVAL_S
        # Redis is there and does not take this: the user's rights, or its memory.
        log.error("alerts_not_possible", reason=str(error))
        return FAILURE_PAUSE_S

    async def _notice_outage(self) -> bool:
        """Say whether the ledger is there; note that it was away once it is back."""
        if not self.available():
            self._away_since_ms = self._away_since_ms or self.clock()
            return False
        if self._away_since_ms is not None:
            seconds = (self.clock() - self._away_since_ms) // 1000
            body = json.dumps({"worker": self.watcher.worker, "seconds": seconds})
            await self.watcher.outbox.note("store_away", body)
            self._away_since_ms = None
        return True
