"""The look at the budgets: forecasts and rates once, crowds of events together, one leader."""

from __future__ import annotations

import asyncio
import json

from budgets.alerts.outbox import HOUR_MS, Raised
from budgets.alerts.watcher import EACH_INTERVAL_MS, LEASE_MS, Watcher
from budgets.config import BudgetsFile
from budgets.period import period_at
from tests.alerts.conftest import Post
from tests.ledger.worlds import CENT, USD, held, settle

RULE = {"limit_usd": 10, "period": "day"}
NO_LEVELS = {"informational": None, "warning": None, "critical": None, "emergency": None}


def budgets_file(**rules: object) -> BudgetsFile:
    return BudgetsFile.model_validate(
        {
            "version": 1,
            "time_zone": "UTC",
            "thresholds": NO_LEVELS,
            "budgets": rules or {"team": RULE},
        }
    )


class House:
    """A ledger, a policy, and those who look at it."""

    def __init__(self, post: Post, file: BudgetsFile) -> None:
        self.post, self.file = post, file
        self._holds = 0

    async def begin(self) -> None:
        """Publish, and start at four in the morning of a day: nothing turns while a test runs."""
        await self.post.ledger.publish(self.file.published())
        now = await self.post.ledger.now_ms()
        day = period_at("day", "UTC", now)
        self.post.advance(day.end_ms + 4 * HOUR_MS - now)

    def watcher(self, worker: str = "w") -> Watcher:
        return Watcher(self.post.ledger, self.post.outbox, lambda: self.file, worker)

    async def spend(self, amount: int, budget: str = "team") -> None:
        self._holds += 1
        day = period_at("day", "UTC", await self.post.ledger.now_ms())
        hold_id = f"h{self._holds}"
        await held(self.post.ledger, amount, hold_id, budgets={budget: amount}, period=day)
        await settle(self.post.ledger, hold_id, amount)

    async def raised(self) -> list[Raised]:
        return list(await self.post.outbox.take_raised(100, 10_000 * HOUR_MS))


async def test_a_forecast_is_told_once_with_the_time_of_the_end(post: Post) -> None:
    house = House(post, budgets_file())
    await house.begin()
    await house.watcher().judge()
    told = []
    for _ in range(5):
        # At eighty cents an hour from four o'clock on, the fourth makes it 3.20 in seven hours.
        await house.spend(80 * CENT)
        told.append(await house.watcher().judge())
        post.advance(HOUR_MS)
    assert told == [0, 0, 0, 1, 0]
    (alert,) = await house.raised()
    body = json.loads(alert.body)
    assert (alert.kind, body["budget"], body["percent"]) == ("forecast", "team", 100)
    assert body["forecast_nano_usd"] >= 10 * USD > body["spent_nano_usd"]
    assert await post.ledger.now_ms() < body["passes_at_ms"]


async def test_many_that_look_at_once_tell_one_forecast(post: Post) -> None:
    house = House(post, budgets_file())
    await house.begin()
    await house.spend(9 * USD)
    told = await asyncio.gather(*(house.watcher(f"w{it}").judge() for it in range(5)))
    assert sum(told) == 1
    # An edit that is no raise arms nothing; a raise does.
    house.file = budgets_file(team={**RULE, "limit_usd": 9.5, "description": "edited"})
    await post.ledger.publish(house.file.published())
    assert await house.watcher().judge() == 0
    house.file = budgets_file(team={**RULE, "limit_usd": 11})
    await post.ledger.publish(house.file.published())
    assert await house.watcher().judge() == 1


async def test_an_unusual_hour_is_told_once_a_day(post: Post) -> None:
    rule = {"limit_usd": 1000, "period": "day"}
    house = House(post, budgets_file(team=rule))
    await house.begin()
    watcher = house.watcher()
    await watcher.judge()
    for _ in range(14):
        await house.spend(3 * USD)
        assert await watcher.judge() == 0
        post.advance(HOUR_MS)
    await house.spend(14 * USD)
    assert await watcher.judge() == 0, "not five times as much yet"
    await house.spend(2 * USD)
    assert await watcher.judge() == 1
    await house.spend(20 * USD)
    assert await watcher.judge() == 0
    (alert,) = await house.raised()
    body = json.loads(alert.body)
    assert (alert.kind, body["times"]) == ("rate", 5.3)
    assert (body["hour_nano_usd"], body["usual_hour_nano_usd"]) == (16 * USD, 3 * USD)


async def test_every_value_of_a_rule_with_each_is_watched(post: Post) -> None:
    house = House(post, budgets_file(user={**RULE, "each": "user"}))
    await house.begin()
    watcher = house.watcher()
    assert await watcher.judge() == 0
    await house.spend(9 * USD, "user:ann")
    await house.spend(10 * CENT, "user:bob")
    post.advance(EACH_INTERVAL_MS)
    assert await watcher.judge() == 1
    (alert,) = await house.raised()
    assert json.loads(alert.body)["budget"] == "user:ann"


async def test_what_is_switched_off_is_not_told(post: Post) -> None:
    off = {"thresholds": {**NO_LEVELS, "forecast": None, "rate": None}}
    house = House(post, budgets_file(team={**RULE, **off}))
    await house.begin()
    await house.spend(9 * USD)
    assert await house.watcher().judge() == 0


async def test_a_crowd_of_events_is_one_alert(post: Post) -> None:
    house = House(post, budgets_file())
    await house.begin()
    await post.outbox.note("unreconciled", '{"charged_nano_usd":5}')
    watcher = house.watcher()
    await watcher.gather()
    assert await house.raised() == [], "what was before the first look is history"
    for _ in range(7):
        await post.outbox.note("unreconciled", '{"charged_nano_usd":10}')
    await post.outbox.note("store_away", '{"seconds":4}')
    await post.outbox.note("something_else", "no JSON")
    await asyncio.gather(*(house.watcher(f"w{it}").gather() for it in range(4)))
    told = [json.loads(it.body) for it in await house.raised()]
    assert [(it["of"], it["count"], it["sum_nano_usd"]) for it in told] == [
        ("unreconciled", 7, 70),
        ("store_away", 1, 0),
    ]
    await post.outbox.note("unreconciled", '{"charged_nano_usd":10}')
    await watcher.gather()
    assert await house.raised() == []
    post.advance(HOUR_MS + 1)
    await watcher.gather()
    (late,) = await house.raised()
    assert json.loads(late.body)["count"] == 1


async def test_one_worker_looks_and_another_when_it_is_gone(post: Post) -> None:
    house = House(post, budgets_file())
    await house.begin()
    assert await house.watcher("one").look()
    assert not await house.watcher("two").look()
    post.advance(LEASE_MS + 1)
    assert await house.watcher("two").look()
