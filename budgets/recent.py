"""What this process settled lately, to be told once more when the store comes back from an outage.

    settle answered ─► remember ─► (a minute later) forgotten
                          └── the store was away ─► repeat: already settled, or charged after all

A failover can drop writes that the old master had acknowledged, the settle and its hold together:
then no book has what the request cost. Whoever settled it still knows, and a repeated settle has a
definite result: where nothing was lost it changes nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import structlog

from budgets.ledger import Ledger
from budgets.settlements import Settlement, SettleStatus

log = structlog.get_logger("farebox.ledger")

KEPT_S = 60.0
"""How long a settlement is remembered. A master that is cut off loses what it took since; Sentinel
and Cluster replace one after seconds to half a minute."""

SETTLEMENTS_MAX = 10_000
"""Bound of what is remembered; beyond it the oldest is forgotten."""


class Recent:
    """The last settlements of one process; `clock` returns seconds that never go back."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._kept: deque[tuple[float, Settlement]] = deque(maxlen=SETTLEMENTS_MAX)

    def __len__(self) -> int:
        return len(self._kept)

    def remember(self, settlement: Settlement) -> None:
        """Keep a settlement that was acknowledged; those of long ago are forgotten."""
        now = self._clock()
        self._kept.append((now, settlement))
        while self._kept[0][0] <= now - KEPT_S:
            self._kept.popleft()

    async def repeat(self) -> int:
        """Settle again what was settled before the store went away; return how many were lost.

        Nothing is forgotten here by time: the store may have been away for longer than that. What
        has been repeated is still remembered, since the next failover may lose it again.

        Raises:
            LedgerUnavailable: the store is away again.
        """
        lost = 0
        for _, settlement in tuple(self._kept):
            settled = await self._ledger.settle(settlement)
            lost += settled.status in (
                SettleStatus.SETTLED,
                SettleStatus.CORRECTED,
                SettleStatus.RECOVERED,
            )
        if lost:
            log.warning("settlements_were_lost", charged_again=lost, repeated=len(self._kept))
        return lost
