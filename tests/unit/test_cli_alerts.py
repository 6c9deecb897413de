"""`farebox alerts` against a real ledger and a loopback receiver."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from budgets.alerts.outbox import Alert
from budgets.alerts.redis_outbox import RedisOutbox
from tests.support.webhook import SECRET, TOKEN, Webhook
from tests.unit.test_cli_support import World, new_world

CHANNELS = """\
  channels:
    ops: {type: webhook, url_env: OPS_URL, secret_env: OPS_SECRET}
    nobody: {url_env: NOT_SET}
"""


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


@pytest.fixture
def hook(world: World) -> Iterator[Webhook]:
    with Webhook() as running:
        text = world.budgets_file.read_text(encoding="utf-8")
        before, heading, after = text.partition("\nalerts:\n")
        assert heading
        text = f"{before}{heading}{CHANNELS}{after}"
        world.budgets_file.write_text(text, encoding="utf-8")
        env = f"OPS_URL={running.url}\nOPS_SECRET={SECRET}\n"
        (world.folder / ".env").write_text(env, encoding="utf-8")
        yield running


def _note(world: World, *alerts: tuple[str, dict[str, Any], tuple[str, ...]]) -> None:
    """Raise alerts and route them; what goes to `dead` is given up, the rest is delivered."""

    async def run() -> None:
        async with world.opened() as (_, client):
            outbox = RedisOutbox(client, world.ledger_name)
            for kind, body, channels in alerts:
                await outbox.raise_alert(kind, json.dumps(body))
                (raised,) = await outbox.take_raised(10, 60_000)
                facts = json.dumps({"budget": body.get("budget")})
                alert = Alert(raised.id, kind, "warning", raised.time_ms, facts)
                await outbox.route(raised.line, alert, channels)
                for delivery in await outbox.take_due(10, 60_000):
                    if delivery.channel == "dead":
                        await outbox.failed(delivery, "status 500", None)
                    else:
                        await outbox.delivered(delivery)

    asyncio.run(run())


FORECAST = {
    "budget": "FAST", "rule": "FAST", "period_id": "2026-11", "limit_epoch": 1,
    "limit_nano_usd": 50_000_000_000, "spent_nano_usd": 20_000_000_000, "percent": 100,
    "forecast_nano_usd": 57_000_000_000, "passes_at_ms": 1_795_651_200_000,
}  # fmt: skip
GATHERED = {"of": "overage", "count": 3, "sum_nano_usd": 20_000_000, "since_ms": 1}


def test_tail_shows_alerts_with_their_channels(world: World) -> None:
    assert "No alert yet" in world.run("alerts", "tail")
    _note(world, ("forecast", FORECAST, ("mail", "dead")), ("gathered", GATHERED, ()))
    shown = world.run("alerts", "tail")
    assert "FAST: forecast $57.00, passes 100 % on 2026-11-26" in " ".join(shown.split())
    assert "mail delivered" in shown and "status 500" in " ".join(shown.split())
    assert "overage: 3, $0.02" in shown and "no channel" in shown
    lines = [json.loads(it) for it in world.run("alerts", "tail", "--json").splitlines()]
    assert [it["kind"] for it in lines] == ["forecast", "overage"]
    states = {it["channel"]: it["state"] for it in lines[0]["deliveries"]}
    assert states == {"mail": "delivered", "dead": "dead"}


def test_what_was_given_up_is_listed_and_begins_anew(world: World) -> None:
    assert "Nothing was given up" in world.run("alerts", "dead")
    _note(world, ("forecast", FORECAST, ("mail", "dead")))
    (one,) = world.json("alerts", "dead")["dead"]
    assert (one["channel"], one["error"], one["attempts"]) == ("dead", "status 500", 1)
    assert "status 500" in world.run("alerts", "dead")
    found = world.json("status")["alerts"]
    assert (found["dead"], found["delivered"]) == (1, {"mail": 1})
    assert "1 given up: see farebox alerts dead" in world.run("status")
    assert "Name keys, or --all" in world.run("alerts", "retry", code=2)
    assert world.json("alerts", "retry", one["key"]) == {"begun": 1}
    assert "was not given up" in world.run("alerts", "retry", one["key"], code=1)
    assert world.json("alerts", "retry", "--all") == {"begun": 0}


def test_a_test_message_goes_to_the_channels_and_says_which_failed(
    world: World, hook: Webhook
) -> None:
    assert "ops: delivered" in world.run("alerts", "test", "ops")
    (posted,) = hook.posted
    assert posted.document["title"] == "A test message from Farebox"
    shown = world.run("alerts", "test", "--message", "emergency", code=1)
    assert "ops: delivered" in shown and "NOT_SET is not set" in shown
    assert hook.posted[1].document["level"] == "emergency"
    hook.answer = lambda _: 500
    failed = world.json("alerts", "test", "ops", code=1)["channels"]
    assert failed == [
        {"name": "ops", "delivered": False, "error": "the webhook answered with status 500"}
    ]
    assert TOKEN not in shown and SECRET not in shown


def test_a_message_can_be_looked_at_without_sending_it(world: World, hook: Webhook) -> None:
    shown = world.run("alerts", "test", "--dry-run", "--message", "warning")
    assert "Warning: FAST has spent 80 % of $50.00" in shown
    assert "What happens next: at 100 % new requests" in shown
    assert hook.posted == []


def test_wrong_names_are_told_with_the_right_ones(world: World, hook: Webhook) -> None:
    assert "did you mean `ops`" in world.run("alerts", "test", "opps", code=2)
    wrong = world.run("alerts", "test", "--message", "warnings", code=2)
    assert "did you mean `warning`" in wrong


def test_the_doctor_names_a_variable_that_is_not_set(world: World, hook: Webhook) -> None:
    found = world.json("doctor", "--proxy", "http://127.0.0.1:9")["checks"]
    (doubt,) = (it for it in found if it["name"] == "Alerts")
    assert doubt["state"] == "warn"
    assert doubt["detail"] == "NOT_SET of the channel nobody is not set here"


def test_without_a_channel_a_test_says_where_to_add_one(world: World) -> None:
    assert "There is no channel in" in world.run("alerts", "test", code=2)
