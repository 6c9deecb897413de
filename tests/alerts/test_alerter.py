"""What a worker runs: rounds of delivery that survive every error, and an outage that is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from budgets.alerts import alerter as module
from budgets.alerts.alerter import Alerter, open_alerter
from budgets.alerts.channels import Letter
from budgets.background import end
from budgets.errors import LedgerUnavailable
from budgets.home import resolve
from tests.alerts.conftest import Post, memory_post
from tests.alerts.test_delivering import HOOK, budgets_file
from tests.ledger.worlds import all_events


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds follow one another without a pause that a test would wait for."""
    for name in ("ROUND_INTERVAL_S", "FAILURE_PAUSE_S", "LOOK_INTERVAL_S"):
        monkeypatch.setattr(module, name, 0.005)


class House:
    """An alerter whose ledger can be away, and which sends into a list."""

    def __init__(self) -> None:
        self.post: Post = memory_post()
        self.available = True
        self.sent: list[Letter] = []
        self.arrived = asyncio.Event()
        file = budgets_file(
            channels={"hook": HOOK | {"levels": ["informational", "warning", "critical"]}}
        )
        self.alerter: Alerter = open_alerter(
            self.post.ledger,
            self.post.outbox,
            resolve(),
            lambda: file,
            lambda: self.available,
            "w1",
        )

        async def keep(_: Any, letter: Letter, *__: Any) -> None:
            self.sent.append(letter)
            self.arrived.set()

        self.alerter.deliverer.send = keep


async def test_a_worker_delivers_what_is_raised() -> None:
    house = House()
    running = asyncio.create_task(house.alerter.deliver())
    await house.post.outbox.raise_alert("test", "{}")

    await asyncio.wait_for(house.arrived.wait(), 5)
    await end(running)
    assert house.sent[0].message.title == "A test message from Farebox"


async def test_that_the_ledger_was_away_is_noted_once_and_told() -> None:
    house = House()
    await house.alerter.watcher.look()
    house.available = False
    tasks = [asyncio.create_task(it()) for it in (house.alerter.deliver, house.alerter.look)]
    await asyncio.sleep(0.03)
    assert await all_events(house.post.ledger, "store_away") == []
    house.available = True

    await asyncio.wait_for(house.arrived.wait(), 5)
    await end(*tasks)
    (event,) = await all_events(house.post.ledger, "store_away")
    assert json.loads(event.body)["worker"] == "w1"
    (letter,) = house.sent
    assert (letter.kind, letter.level) == ("store_away", "critical")
    assert letter.message.title == "The ledger's Redis was away"


async def test_an_error_does_not_end_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    errors: list[Exception] = [LedgerUnavailable("the Redis user may not run this"), ValueError()]
    take = house.post.outbox.take_raised

    async def failing(count_max: int, lease_ms: int) -> Any:
        if errors:
            raise errors.pop()
        return await take(count_max, lease_ms)

    monkeypatch.setattr(house.post.outbox, "take_raised", failing)
    await house.post.outbox.raise_alert("test", "{}")
    running = asyncio.create_task(house.alerter.deliver())

    await asyncio.wait_for(house.arrived.wait(), 5)
    await end(running)
    assert errors == []


async def test_an_alert_of_a_newer_release_is_told_by_its_name() -> None:
    house = House()
    await house.post.outbox.raise_alert("newer_kind", "no JSON")
    await house.alerter.deliverer.round()
    assert [it.message.title for it in house.sent] == ["Farebox: newer_kind (informational)"]
