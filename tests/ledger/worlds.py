"""What a ledger's test needs around it: time that can be moved, and short ways to say a thing."""

from __future__ import annotations

import time
import uuid
from typing import Protocol

from budgets.holds import BudgetHold, BudgetState, Held, HoldRequest, Refused
from budgets.ledger import Ledger
from budgets.memory import MemoryLedger
from budgets.money import NANO_PER_USD
from budgets.period import Period, period_at
from budgets.published import Level, PublishedPolicy, PublishedRule, Threshold
from budgets.records import LedgerEntry, LedgerEvent
from budgets.redis_store import RedisLedger
from budgets.settlements import Settled, Settlement

USD = NANO_PER_USD
CENT = USD // 100
DAY_MS = 86_400_000
LEASE_MS = 60_000

THRESHOLDS = (
    Threshold(Level.INFORMATIONAL, 50),
    Threshold(Level.WARNING, 80),
    Threshold(Level.CRITICAL, 95),
    Threshold(Level.EMERGENCY, 100),
)


class World(Protocol):
    """A ledger and its clock."""

    @property
    def ledger(self) -> Ledger: ...

    def advance(self, ms: int) -> None:
        """Let time pass."""


class MemoryWorld:
    """The model, with a clock that stands still unless it is moved."""

    def __init__(self, ledger: MemoryLedger, clock: list[int]) -> None:
        self.ledger = ledger
        self._clock = clock

    @staticmethod
    def start_clock() -> list[int]:
        return [time.time_ns() // 1_000_000]

    def advance(self, ms: int) -> None:
        self._clock[0] += ms


class RedisWorld:
    """Redis, whose real clock goes on by itself and can be moved ahead."""

    def __init__(self, ledger: RedisLedger, name: str) -> None:
        self.ledger = ledger
        self.prefix = f"farebox:{{{name}}}:"

    def advance(self, ms: int) -> None:
        self.ledger.clock_offset_ms += ms


def policy(*limits: int, digest: str = "", **named: int) -> PublishedPolicy:
    """Return a policy of rules: one limit is the rule `team`; more go by their names."""
    rules = {"team": limits[0]} if limits else named
    return PublishedPolicy(
        digest=digest or uuid.uuid4().hex,
        rules=tuple(PublishedRule(rule, limit, THRESHOLDS) for rule, limit in rules.items()),
    )


async def current_period(ledger: Ledger) -> Period:
    """Return a period of a year around the store's time: no test crosses it unawares."""
    now = await ledger.now_ms()
    return Period("P1", now - 180 * DAY_MS, now + 180 * DAY_MS)


async def today(ledger: Ledger) -> Period:
    """Return the calendar day by the store's time."""
    return period_at("day", "UTC", await ledger.now_ms())


async def hold(
    ledger: Ledger,
    amount: int,
    *,
    hold_id: str = "",
    budgets: dict[str, int] | None = None,
    period: Period | None = None,
    enforced: bool = True,
    lease_ms: int = LEASE_MS,
    expected_end_ms_in: int = 5_000,
) -> Held | Refused:
    """Hold an amount against `team`, or each budget's own amount. A budget `r:x` has the rule r."""
    if period is None:
        period = await current_period(ledger)
    shares = {"team": amount} if budgets is None else budgets
    hold_id = hold_id or uuid.uuid4().hex
    return await ledger.hold(
        HoldRequest(
            hold_id=hold_id,
            amount_nano_usd=amount,
            budgets=tuple(share(name, part, period, enforced) for name, part in shares.items()),
            lease_ms=lease_ms,
            expected_end_ms_in=expected_end_ms_in,
            facts='{"v":1,"attempts":[],"status":"open"}',
            decision_id=f"decision-{hold_id}",
            decision='{"winner":"haiku"}',
            stats_period="2026-11",
        )
    )


def share(budget: str, amount: int, period: Period, enforced: bool = True) -> BudgetHold:
    """Return one budget's share."""
    return BudgetHold(budget, budget.partition(":")[0], period, amount, enforced)


async def held(ledger: Ledger, amount: int, hold_id: str, **more: object) -> Held:
    """Hold an amount that must be admitted."""
    answer = await hold(ledger, amount, hold_id=hold_id, **more)  # type: ignore[arg-type] # As hold.
    assert isinstance(answer, Held)
    return answer


async def refused(ledger: Ledger, amount: int, **more: object) -> Refused:
    """Hold an amount that must be refused."""
    answer = await hold(ledger, amount, **more)  # type: ignore[arg-type] # As hold.
    assert isinstance(answer, Refused)
    return answer


async def settle(ledger: Ledger, hold_id: str, cost: int, **charges: int) -> Settled:
    """Settle a hold at a cost, with a body that tells the call."""
    body = f'{{"cost":{cost}}}'
    counters = {"requests": 1, "actual_nano": cost}
    return await ledger.settle(Settlement(hold_id, cost, body, charges, counters))


async def state(ledger: Ledger, budget: str = "team", period_id: str = "P1") -> BudgetState:
    """Return one budget as it stands."""
    (found,) = await ledger.states([(budget, budget.partition(":")[0], period_id)])
    return found


async def all_entries(ledger: Ledger) -> list[LedgerEntry]:
    """Return every entry, the oldest first."""
    return [entry async for entry in ledger.entries()]


async def all_events(ledger: Ledger, kind: str) -> list[LedgerEvent]:
    """Return every event of a kind, the oldest first."""
    return [event async for event in ledger.events() if event.kind == kind]
