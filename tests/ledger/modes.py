"""The ledger as a worker uses it, so that the suite can hold each way of use to the same promises.

`Batched` settles and voids by the queue that a worker's requests end through. `Leased` does so too,
and admits from leased slices what it can; before it is asked anything else it reports everything
and gives its slices back, so that the books at rest can be compared with those of a plain ledger.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from budgets.checks import check_counters, check_hold, check_settlement
from budgets.endings import Endings
from budgets.holds import Held, HoldRequest, Refused
from budgets.journal import Journal
from budgets.leases.desk import Desk
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

    def _open(self) -> None:
        if self.endings is None:
            outage = Outage(self.ledger, Journal("suite", MemoryDisk()), None)
            vars(self)["endings"] = Endings(self.ledger.write_all, lambda: True, outage)

    async def _end(self, ending: Ending) -> Settled:
        self._open()
        told: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        await self.endings.put(ending, lambda _, settled: told.set_result(settled))
        await self.endings.flush()
        return await told


def plain(ledger: Any) -> Any:
    """Return the ledger behind these ways to use it: for tests that bring a desk of their own."""
    return ledger.ledger if isinstance(ledger, Batched) else ledger


@dataclass(frozen=True)
class Everything:
    """Leases of every budget, as large as they can be, down to the last nanodollar."""

    share_percent: int = 100
    direct_below_percent: int = 0

    def leased(self, rule: str) -> bool:
        return True


class Leased(Batched):
    """A ledger behind a desk that leases slices of every budget it meets."""

    def __init__(self, ledger: Any) -> None:
        super().__init__(ledger)
        vars(self)["desk"] = None
        vars(self)["seen"] = set()
        vars(self)["tasks"] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.ledger, name)
        if not callable(found) or name.startswith("_"):
            return found
        if inspect.isasyncgenfunction(found):
            return partial(self._read, found)
        return partial(self._at_rest, found)

    async def _at_rest(self, call: Any, *args: Any, **named: Any) -> Any:
        await self._rest()
        done = call(*args, **named)
        return await done if inspect.isawaitable(done) else done

    async def _read(self, call: Any, *args: Any, **named: Any) -> AsyncIterator[Any]:
        await self._rest()
        async for line in call(*args, **named):
            yield line

    async def hold(self, request: HoldRequest) -> Held | Refused:
        self._open()
        if self.desk is None:
            vars(self)["desk"] = Desk(self.ledger, self.endings, Everything, self._spawn)
        if request.hold_id in self.seen:
            held: Held | Refused = await self._at_rest(self.ledger.hold, request)
            return held
        check_hold(request)
        # The desk reckons with time as it heard it last; here the suite moves time by hand.
        time_ms = await self.ledger.now_ms()
        self.desk._heard(time_ms, asyncio.get_running_loop().time())
        # As if others had been here before: what it wants is there when it comes.
        admitted = self.desk.admit(request)
        if admitted is not None:
            time_ms = admitted.time_ms
        else:
            for counter in self.desk._counters.values():
                counter.not_before_s = 0.0
            while self.tasks:
                await asyncio.gather(*self.tasks)
            answer: Held | Refused = await self.desk.hold(request)
            if not self.desk.is_unreported(request.hold_id):
                await self._rest()
                return answer
            time_ms = answer.time_ms
        self.seen.add(request.hold_id)
        return await self._reported(request, time_ms)

    async def _reported(self, request: HoldRequest, time_ms: int) -> Held:
        """Return what a plain ledger would have said of a hold that stands."""
        await self._rest()
        states = await self.ledger.states(
            [(it.budget, it.rule, it.period.id) for it in request.budgets]
        )
        return Held(request.hold_id, min(time_ms, await self.ledger.now_ms()), states)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def settle(self, settlement: Settlement) -> Settled:
        self.seen.add(settlement.hold_id)
        return await super().settle(settlement)

    async def void(
        self, hold_id: str, body: str, counters: Mapping[str, int], *, ahead: bool = False
    ) -> Settled:
        self.seen.add(hold_id)
        await self._rest()
        return await super().void(hold_id, body, counters, ahead=ahead)

    async def _rest(self) -> None:
        while self.tasks:
            await asyncio.gather(*self.tasks)
        if self.desk is not None:
            await self.desk.give_all_back()
