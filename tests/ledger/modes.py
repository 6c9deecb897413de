"""The ledger as a worker uses it, so that the suite can hold each way of use to the same promises.

`Batched` settles and voids by the queue that a worker's requests end through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from budgets.checks import check_counters, check_settlement
from budgets.endings import Endings
from budgets.journal import Journal
from budgets.outage import Outage
from budgets.settlements import Ending, Settled, Settlement, Voiding


class MemoryDisk:
    """A journal's disk in memory. It takes nothing while `full` is set."""

    def __init__(self) -> None:
        self.data = b""
        self.full = False

    def append(self, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.data += data

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def size(self) -> int:
        return len(self.data)

    def clear(self) -> None:
        self.data = b""

    def close(self, *, remove: bool) -> None:
        pass


class Batched:
    """A ledger whose ends go through `Endings`; everything else goes straight to it."""

    def __init__(self, ledger: Any) -> None:
        vars(self)["ledger"] = ledger
        vars(self)["endings"] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.ledger, name, value)

    async def settle(self, settlement: Settlement) -> Settled:
        check_settlement(settlement)
        return await self._end(settlement)

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        check_counters(counters)
        if ahead:
            settled: Settled = await self.ledger.void(hold_id, body, counters, ahead=True)
            return settled
        return await self._end(Voiding(hold_id, body, counters))

    async def _end(self, ending: Ending) -> Settled:
        if self.endings is None:
            outage = Outage(self.ledger, Journal("suite", MemoryDisk()), None)
            vars(self)["endings"] = Endings(self.ledger.write_all, lambda: True, outage)
        told: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        await self.endings.put(ending, lambda _, settled: told.set_result(settled))
        await self.endings.flush()
        return await told
