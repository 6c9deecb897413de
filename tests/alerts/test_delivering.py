"""From a threshold to a receiver: signed, once for each channel, again after a failure, quiet."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller

from budgets.alerts import channels as channels_module
from budgets.alerts.channels import ChannelError, Environment, Letter, send
from budgets.alerts.deliverer import BACKOFF_MS_MAX, LEASE_MS, Deliverer, backoff_ms
from budgets.alerts.facts import Facts, NewestCharges
from budgets.alerts.settings import Channel
from budgets.approvals.types import NewTicket, TicketBudget, TicketKind, Who
from budgets.config import BudgetsFile
from budgets.memory import MemoryLedger
from budgets.period import period_at
from budgets.redis_store import RedisLedger
from budgets.settlements import Settlement
from tests.alerts.conftest import Post, memory_post
from tests.ledger.worlds import CENT, USD, held
from tests.support.proxy import free_port
from tests.support.webhook import SECRET, TOKEN, Webhook

HOOK = {"type": "webhook", "url_env": "HOOK_URL", "secret_env": "HOOK_SECRET"}
QUIET_MS = int(datetime(2026, 11, 21, 23, 0, tzinfo=UTC).timestamp() * 1000)
MORNING_MS = int(datetime(2026, 11, 22, 7, 0, tzinfo=UTC).timestamp() * 1000)


def budgets_file(**alerts: Any) -> BudgetsFile:
    """Return a file with one budget, `team`, of a dollar a month."""
    return BudgetsFile.model_validate(
        {
            "version": 1,
            "time_zone": "UTC",
            "budgets": {"team": {"limit_usd": 1, "period": "month"}},
            "alerts": alerts,
        }
    )


class House:
    """A ledger with an outbox, a policy, and workers that deliver."""

    def __init__(self, post: Post, environment: Mapping[str, str], **alerts: Any) -> None:
        self.post, self.file, self.values = post, budgets_file(**alerts), dict(environment)
        self.wall_ms = int(datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp() * 1000)

    def worker(self, send_by: Any = send) -> Deliverer:
        newest = NewestCharges(self.post.ledger)
        facts = Facts(self.post.ledger, self.post.outbox, lambda: self.file, "books", newest)
        return Deliverer(
            self.post.outbox, facts, lambda: self.values, lambda: self.wall_ms, send_by,
            lambda low, high: 0.0,
        )  # fmt: skip

    async def spend(self, amount: int, hold_id: str) -> None:
        await self.post.ledger.publish(self.file.published())
        month = period_at("month", "UTC", await self.post.ledger.now_ms())
        await held(self.post.ledger, amount, hold_id, period=month)
        body = json.dumps({"task_type": "refactoring", "serving_group": "claude-haiku"})
        await self.post.ledger.settle(Settlement(hold_id, amount, body))


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as running:
        yield running


def environment_of(hook: Webhook) -> dict[str, str]:
    return {"HOOK_URL": hook.url, "HOOK_SECRET": SECRET}


def signed(posted: Any) -> str:
    """Return the signature as a receiver computes it, from the page of the documentation."""
    signed_text = posted.headers["x-farebox-timestamp"].encode() + b"." + posted.body
    return "v1=" + hmac.new(SECRET.encode(), signed_text, hashlib.sha256).hexdigest()


# ── a threshold arrives ──────────────────────────────────────────────────────────────────────────


async def test_a_threshold_reaches_a_webhook_signed_and_with_its_figures(
    post: Post, hook: Webhook
) -> None:
    house = House(post, environment_of(hook), channels={"hook": HOOK})
    await house.spend(80 * CENT, "a")
    assert await house.worker().round() > 0
    (posted,) = hook.posted
    assert posted.headers["x-farebox-signature"] == signed(posted)
    assert int(posted.headers["x-farebox-timestamp"]) == house.wall_ms // 1000
    document = posted.document
    assert posted.headers["idempotency-key"] == f"{document['id']}|hook"
    assert (document["kind"], document["level"]) == ("threshold", "warning")
    assert document["title"] == "Warning: team has spent 80 % of $1.00"
    for said in ("Spent: $0.80 of $1.00", "Burn rate:", "Forecast:",
                 "Top task types: refactoring $0.80 (100 %)", "Top models: claude-haiku",
                 "budget_exceeded", "farebox budget show team", "limit_usd of team"):  # fmt: skip
        assert said in document["text"], document["text"]
    assert (document["facts"]["spent"], document["facts"]["limit"]) == (80 * CENT, USD)


async def test_each_channel_gets_the_levels_that_it_asks_for(post: Post, hook: Webhook) -> None:
    channels = {
        "all": HOOK | {"levels": ["informational", "warning", "critical", "emergency"]},
        "pager": HOOK | {"levels": ["emergency"]},
        "others": HOOK | {"kinds": ["forecast"]},
    }
    house = House(post, environment_of(hook), channels=channels)
    await house.spend(USD, "a")
    await house.worker().round()
    keys = [it.headers["idempotency-key"].partition("|")[2] for it in hook.posted]
    assert sorted(keys) == ["all"] * 4 + ["pager"]


async def test_whoever_can_approve_hears_of_a_ticket(post: Post, hook: Webhook) -> None:
    channels = {
        "approvers": HOOK | {"kinds": ["approval_asked"], "budgets": ["team"]},
        "others": HOOK | {"budgets": []},
    }
    house = House(post, environment_of(hook), channels=channels)
    ledger = post.ledger
    assert isinstance(ledger, MemoryLedger | RedisLedger)
    now = await ledger.now_ms()
    new = NewTicket(
        approval_id="a-1",
        kind=TicketKind.CALL,
        breach="b",
        asker=Who(key="k", user="<!here> ann"),
        task_type="refactoring",
        budgets=(TicketBudget("team:x", "team", "2026-11"),),
        requested_nano_usd=12 * CENT,
        expires_in_ms=60_000,
        valid_to_ms=now + 60_000,
    )
    for _ in range(3):
        await ledger.open_ticket(new)
    await house.worker().round()
    (posted,) = hook.posted
    document = posted.document
    assert (document["kind"], document["level"]) == ("approval_asked", "warning")
    assert document["title"] == "Approval wanted: $0.12 for team:x"
    assert "farebox approvals approve a-1" in document["text"]
    assert "<!here>" not in document["text"]


async def test_two_workers_that_race_deliver_each_alert_once(post: Post, hook: Webhook) -> None:
    names = ("one", "two", "three")
    levels = ["informational", "warning", "critical", "emergency"]
    house = House(
        post, environment_of(hook), channels={it: HOOK | {"levels": levels} for it in names}
    )
    await house.spend(USD, "a")
    workers = [house.worker() for _ in range(4)]
    for _ in range(3):
        await asyncio.gather(*(worker.round() for worker in workers))
    keys = [it.headers["idempotency-key"] for it in hook.posted]
    assert len(keys) == len(set(keys)) == 12
    assert (await post.outbox.depths()).delivered == dict.fromkeys(names, 4)


async def test_without_a_channel_nothing_is_sent_and_nothing_waits(post: Post) -> None:
    house = House(post, {})
    await house.spend(USD, "a")
    await house.worker().round()
    depths = await post.outbox.depths()
    assert (depths.raised, depths.waiting, depths.dead) == (0, 0, 0)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_failing_receiver_gets_it_again_with_the_same_key(
    post: Post, hook: Webhook
) -> None:
    answers = iter([503, 500, 204])
    hook.answer = lambda _: next(answers)
    house = House(post, environment_of(hook), channels={"hook": HOOK})
    await house.spend(80 * CENT, "a")
    worker = house.worker()
    for attempt in range(3):
        await worker.round()
        assert len(hook.posted) == attempt + 1
        assert await worker.round() == 0, "it waits"
        post.advance(backoff_ms(attempt) + 1)
    assert len({it.headers["idempotency-key"] for it in hook.posted}) == 1
    depths = await post.outbox.depths()
    assert (depths.failed, depths.delivered) == ({"hook": 2}, {"hook": 1})


def test_pauses_double_up_to_an_hour() -> None:
    assert [backoff_ms(it) // 1000 for it in range(5)] == [15, 30, 60, 120, 240]
    assert backoff_ms(30) == BACKOFF_MS_MAX
    assert backoff_ms(0, 1.0) == 18_000 and backoff_ms(0, -1.0) == 12_000


async def test_what_never_arrives_is_given_up_and_begins_anew_when_asked(
    post: Post, hook: Webhook
) -> None:
    hook.answer = lambda _: 404
    house = House(post, environment_of(hook), channels={"hook": HOOK}, attempts_max=2)
    await house.spend(80 * CENT, "a")
    worker = house.worker()
    for _ in range(3):
        await worker.round()
        post.advance(BACKOFF_MS_MAX)
    assert len(hook.posted) == 2
    (dead,) = await post.outbox.dead()
    assert dead.progress.error == "the webhook answered with status 404"
    hook.answer = lambda _: 200
    assert await post.outbox.retry([f"{dead.alert.id}|hook"]) == 1
    await worker.round()
    assert len(hook.posted) == 3
    assert await post.outbox.dead() == ()


async def test_a_killed_worker_loses_nothing(post: Post, hook: Webhook) -> None:
    """One dies between taking and routing, one between taking and sending."""
    house = House(post, environment_of(hook), channels={"hook": HOOK})
    await house.spend(80 * CENT, "a")

    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    assert len(await post.outbox.take_raised(10, LEASE_MS)) == 2  # The first dies with both.
    assert await house.worker().round() == 0
    for line in await post.outbox.take_raised(10, 0):
        alert, _ = await house.worker().facts.alert(line)
        channels = house.file.alerts.channels_for(alert.kind, alert.level, ["team"])
        await post.outbox.route(line.line, alert, channels)
    second = asyncio.create_task(house.worker(hangs).round())
    await asyncio.sleep(0.05)
    second.cancel()
    await house.worker().round()
    assert hook.posted == []
    post.advance(LEASE_MS + 1)
    await house.worker().round()
    assert len(hook.posted) == 1


async def test_a_channel_that_left_the_file_is_given_up_in_the_end(post: Post) -> None:
    house = House(post, {}, channels={"gone": HOOK}, attempts_max=1)
    await house.spend(80 * CENT, "a")
    await house.worker().route()
    house.file = budgets_file(attempts_max=1)
    await house.worker().deliver()
    (dead,) = await post.outbox.dead()
    assert "no channel of this name" in dead.progress.error


# ── quiet hours ──────────────────────────────────────────────────────────────────────────────────


async def test_quiet_hours_hold_back_all_but_emergencies(hook: Webhook) -> None:
    post = memory_post()
    levels = ["informational", "warning", "critical", "emergency"]
    house = House(
        post,
        environment_of(hook),
        channels={
            "hook": HOOK | {"levels": levels},
            "always": HOOK | {"levels": ["warning"], "quiet_hours": False},
        },
        quiet_hours={"from": "22:00", "to": "07:00"},
    )
    house.wall_ms = QUIET_MS
    await house.spend(USD, "a")
    worker = house.worker()
    await worker.round()
    got = [(it.document["level"], it.headers["idempotency-key"].partition("|")[2])
           for it in hook.posted]  # fmt: skip
    assert sorted(got) == [("emergency", "hook"), ("warning", "always")]
    post.advance(MORNING_MS - QUIET_MS - 1000)
    assert await worker.round() == 0
    post.advance(1000)
    house.wall_ms = MORNING_MS
    await worker.round()
    levels_got = [it.document["level"] for it in hook.posted[2:]]
    assert sorted(levels_got) == ["critical", "informational", "warning"]


# ── e-mail, and what is never shown ──────────────────────────────────────────────────────────────


class Mailbox:
    """Keeps what an SMTP server is handed."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        made = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append(cast(EmailMessage, made))
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    yield box, server.port
    server.stop()


async def test_services_that_hang_keep_no_thread_of_the_event_loop_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names are resolved in the loop's threads, and requests to providers wait for that."""
    release = threading.Event()
    monkeypatch.setattr(channels_module, "_notify", lambda *_: release.wait(10))
    letter = Letter("k", "1-0", "test", "warning", 0, cast(Any, None), {})
    channel = Channel.model_validate({"url_env": "MAIL"})
    sending = [
        asyncio.create_task(send(channel, letter, lambda: {"MAIL": "mailto://x"}, 0))
        for _ in range(40)
    ]
    try:
        await asyncio.sleep(0.05)
        await asyncio.wait_for(asyncio.to_thread(lambda: None), 2)
        assert not any(it.done() for it in sending)
    finally:
        release.set()
        await asyncio.gather(*sending)


async def test_a_threshold_arrives_as_mail(mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    address = f"mailto://127.0.0.1:{port}?from=farebox@example.com&to=finance@example.com"
    house = House(memory_post(), {"MAIL": address}, channels={"mail": {"url_env": "MAIL"}})
    await house.spend(80 * CENT, "a")
    await house.worker().round()
    (mail,) = box.mails
    assert mail["subject"] == "Warning: team has spent 80 % of $1.00"
    assert "finance@example.com" in mail["to"]
    body = mail.get_body(("plain", "html"))
    assert body is not None and "Spent: $0.80 of $1.00" in body.get_content()


async def test_addresses_and_secrets_are_in_no_error_and_no_log(
    hook: Webhook, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.answer = lambda _: 500
    channels = {
        "hook": HOOK,
        "nowhere": HOOK | {"url_env": "NOWHERE"},
        "slack": {"url_env": "SLACK"},
        "unknown": {"url_env": "UNKNOWN"},
        "json": {"url_env": "JSON"},
    }
    values = environment_of(hook) | {
        "NOWHERE": f"http://127.0.0.1:1/{TOKEN}",
        "SLACK": f"slack://{TOKEN}",
        "UNKNOWN": f"nonsense://{TOKEN}",
        "JSON": hook.url.replace("http://", "json://"),
    }
    house = House(memory_post(), values, channels=channels, attempts_max=1)
    await house.spend(80 * CENT, "a")
    await house.worker().round()
    dead = await house.post.outbox.dead()
    errors = {it.progress.channel: it.progress.error for it in dead}
    assert errors["json"] == "JSON answered with status 500"
    assert "no address that Apprise knows" in errors["unknown"]
    # Apprise's words go nowhere but into its result, although pytest sees them.
    assert not logging.getLogger("apprise").propagate
    logged = [it.getMessage() for it in caplog.records if it.name != "apprise"]
    assert any("left out" in it for it in logged), "what httpx says has the address in it"
    said = "\n".join([*errors.values(), *logged, *capfd.readouterr()])
    assert len(errors) == 5
    assert TOKEN not in said and SECRET not in said


async def test_a_variable_that_is_not_set_says_so(hook: Webhook) -> None:
    letter = Letter("k", "1-0", "test", "warning", 0, cast(Any, None), {})
    empty: Environment = dict
    with pytest.raises(ChannelError, match="HOOK_URL is not set"):
        await send(Channel.model_validate(HOOK), letter, empty, 0)
