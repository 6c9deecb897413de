"""Near a limit with leases by their default settings: who would have fitted is not refused.

Several workers spend one budget to its end. What is really committed is counted here, beside the
ledger: a refusal is false where its request would have fitted when it was asked and when it was
refused. Time is made up, so that a run is its seed's and nothing else's; `benchmarks/leases.py`
measures the same on a real Redis.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from budgets.config import LeaseSettings
from budgets.endings import Endings
from budgets.holds import BudgetHold, Held, HoldRequest
from budgets.journal import Journal
from budgets.leases.desk import Desk
from budgets.memory import MemoryLedger
from budgets.outage import Outage
from budgets.period import Period
from budgets.published import PublishedPolicy, PublishedRule
from budgets.settlements import Settlement
from tests.ledger.modes import MemoryDisk
from tests.simulation.loop import VirtualLoop

CENT = 10_000_000
WORKERS = 3
CLIENTS = 30
HOLDS_IN_LIMIT = 1_000
START_MS = 1_795_000_000_000
PERIOD = Period("P", START_MS - 10**9, START_MS + 10**9)
TRIP_S = 0.0005

FALSE_REFUSALS_MAX = 0.005
"""The share of all requests that `docs/explanation/leases.md` says."""


@dataclass
class Spending:
    """Clients of several workers, and the count of what is committed."""

    settings: LeaseSettings | None
    seed: int
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    tasks: list[asyncio.Future[object]] = field(default_factory=list)
    asked: int = 0
    false_refusals: int = 0
    committed: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.limit = HOLDS_IN_LIMIT * CENT
        self.ledger = MemoryLedger(lambda: START_MS + round(self.loop.time() * 1000))
        self.desks: list[Desk] = []

    def run(self) -> None:
        """Spend the budget to its end, and give everything back."""
        self.loop.run(self._run())

    async def _run(self) -> None:
        await self.ledger.publish(
            PublishedPolicy("one", (PublishedRule("team", self.limit, ()),)), 0
        )
        endings = []
        for number in range(WORKERS):
            outage = Outage(self.ledger, Journal(f"w{number}", MemoryDisk()), None)
            endings.append(Endings(self._far(self.ledger.write_all), lambda: True, outage))
            far = _Far(self)
            self.desks.append(
                Desk(far, endings[-1], lambda: self.settings, self._spawn)  # type: ignore[arg-type] # A ledger far away.
            )
        ticking = [asyncio.ensure_future(desk.run()) for desk in self.desks]
        await asyncio.gather(*(self._client(n, endings[n % WORKERS]) for n in range(CLIENTS)))
        for desk in self.desks:
            await desk.give_all_back()
        for it in endings:
            await it.flush()
        for task in ticking:
            task.cancel()

    def _spawn(self, work: Awaitable[object]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    def _far(self, call):  # type: ignore[no-untyped-def] # Any operation of the ledger.
        async def asked(*args: object) -> object:
            await asyncio.sleep(self.chance.uniform(0, 2 * TRIP_S))
            return await call(*args)

        return asked

    async def _client(self, number: int, endings: Endings) -> None:
        desk = self.desks[number % WORKERS]
        while not self.over:
            amount = self.chance.choice((CENT // 2, CENT, CENT * 3 // 2))
            hold_id = f"{self.chance.getrandbits(128):032x}"
            budgets = (BudgetHold("team", "team", PERIOD, amount),)
            request = HoldRequest(hold_id, amount, budgets, 60_000, 50, "{}", hold_id, "{}", "P")
            fitted = self.committed + amount <= self.limit
            self.asked += 1
            answer = await desk.hold(request)
            if isinstance(answer, Held):
                self.committed += amount
                assert self.committed <= self.limit, "an admission passed the limit"
                await asyncio.sleep(self.chance.uniform(0.005, 0.05))
                await endings.put(Settlement(hold_id, amount, "{}"), lambda *_: None)
                continue
            if fitted and self.committed + amount <= self.limit:
                self.false_refusals += 1
            self.over = self.over or self.committed > self.limit - CENT // 2
            await asyncio.sleep(0.1)


class _Far:
    """A ledger at the other end of a network."""

    def __init__(self, spending: Spending) -> None:
        self._spending = spending

    def __getattr__(self, name: str) -> object:
        return self._spending._far(getattr(self._spending.ledger, name))


@pytest.mark.parametrize("seed", range(3))
def test_near_the_limit_nobody_is_refused_who_would_have_fitted(seed: int) -> None:
    """By the default settings the last fifth of a limit is given out without slices."""
    spending = Spending(LeaseSettings(budgets="all"), seed)
    spending.run()
    assert sum(desk.admitted for desk in spending.desks) > spending.asked / 4, "slices were used"
    assert spending.false_refusals <= FALSE_REFUSALS_MAX * spending.asked
    counter = spending.ledger._counters["team", "P"]
    assert (counter.spent, counter.held) == (spending.committed, 0)
    assert spending.committed > spending.limit - CENT // 2, "it is spent to its end"


def test_slices_down_to_the_last_percent_are_what_costs_refusals() -> None:
    """The count sees false refusals where there are some: leases without the last fifth."""
    found = []
    for seed in range(3):
        settings = LeaseSettings(budgets="all", share_percent=50, direct_below_percent=1)
        spending = Spending(settings, seed)
        spending.run()
        found.append(spending.false_refusals)
    assert sum(found) > 0
