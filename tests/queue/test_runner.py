"""When queued requests run, and what becomes of those whose worker died. On real Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from budgets.approvals.types import (
    Answer,
    AnswerStatus,
    MatchBy,
    NewTicket,
    Terms,
    TicketBudget,
    TicketKind,
    Who,
)
from budgets.connection import AsyncClient
from budgets.grants.types import Granted, grant_to
from budgets.holds import BudgetHold, Held, HoldRequest
from budgets.period import period_at
from budgets.queue.items import Item, Need, Room, State
from budgets.queue.redis_queue import RedisQueue
from budgets.queue.seal import Sealer
from budgets.redis_store import RedisLedger
from budgets.settlements import Settlement
from hooks.arrival import Run
from hooks.queue_desk import QueueDesk, StoredRequest
from hooks.queue_outcome import Reply
from hooks.queue_runner import LEAD_MS, LEASE_MS, QueueRunner
from hooks.routing import QueueSettings
from tests.queue.items import new_item
from tests.support.policies import default_policy

USD = 1_000_000_000
DAY_MS = 86_400_000
OK = Reply(200, {"x-farebox-category": "FAST"}, b'{"choices": []}')
ROUTING = default_policy().routing.model_copy(
    update={"queue": QueueSettings(webhook_origins=("https://hooks.example.org",))}
)
POLICY = replace(default_policy(), routing=ROUTING)
REQUEST = StoredRequest("/v1/chat/completions", {}, b'{"model": "auto"}')


@dataclass
class House:
    """A ledger, a queue and a runner, around a proxy that a test plays by `replies`."""

    ledger: RedisLedger
    queue: RedisQueue
    replies: list[Reply] = field(default_factory=list)
    sent: list[Run] = field(default_factory=list)
    requests: list[StoredRequest] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tasks: list[asyncio.Future[object]] = field(default_factory=list)
    sealing: Sealer = field(default_factory=lambda: Sealer((bytes(32),)))

    def __post_init__(self) -> None:
        self.desk = QueueDesk(self.queue, self.sealing)
        self.runner = self.new_runner("me")

    def new_runner(self, owner: str) -> QueueRunner:
        return QueueRunner(
            self.ledger,
            self.desk,
            policy=lambda: POLICY,
            send=self.send,
            spawn=self.spawn,
            tell=self.tell,
            owner=owner,
        )

    async def send(self, run: Run, request: StoredRequest) -> Reply:
        assert (request.path, request.body) == (REQUEST.path, REQUEST.body)
        self.sent.append(run)
        self.requests.append(request)
        return self.replies.pop(0) if self.replies else OK

    def spawn(self, work: Awaitable[object]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def tell(self, address: str, content: dict[str, Any]) -> bool:
        self.told.append((address, content))
        return True

    async def look(self) -> int:
        """Let the runner look once, and wait until what it started has ended."""
        started = await self.runner.look()
        while self.tasks:
            await self.tasks.pop(0)
        return started

    def advance(self, ms: int) -> None:
        self.ledger.clock_offset_ms += ms
        self.queue.clock_offset_ms += ms

    async def add(self, usd: float = 1, **changes: Any) -> Item:
        """Queue a request that needs so much of the budget FAST."""
        item_id = f"q{uuid.uuid4().hex}"
        new = new_item(
            item_id,
            needs=(Need("FAST", "FAST", int(usd * USD)),),
            body=self.desk.seal_request(REQUEST, item_id),
            sealed_by=self.sealing.name,
            expires_in_ms=40 * DAY_MS,
            **changes,
        )
        kept = await self.queue.add(new, Room(100, 10**9))
        assert isinstance(kept, Item)
        return kept

    async def hold(self, usd: float, hold_id: str = "", lease_ms: int = 60_000) -> str:
        """Take so much of FAST, whose limit is $50 a month."""
        hold_id = hold_id or uuid.uuid4().hex
        period = period_at("month", "UTC", await self.ledger.now_ms())
        amount = int(usd * USD)
        held = await self.ledger.hold(
            HoldRequest(
                hold_id=hold_id,
                amount_nano_usd=amount,
                budgets=(BudgetHold("FAST", "FAST", period, amount),),
                lease_ms=lease_ms,
                expected_end_ms_in=1_000,
                facts="{}",
                decision_id=f"d-{hold_id}",
                decision="{}",
                stats_period="2026-11",
            )
        )
        assert isinstance(held, Held)
        return hold_id

    async def spend(self, usd: float) -> None:
        await self.ledger.settle(Settlement(await self.hold(usd), int(usd * USD), "{}"))

    async def now(self, item: Item) -> Item:
        found = await self.queue.get(item.id)
        assert found is not None
        return found


@pytest.fixture
async def house(redis_client: AsyncClient) -> House:
    name = uuid.uuid4().hex
    ledger = RedisLedger(redis_client, name)
    await ledger.publish(default_policy().budgets.published())
    return House(ledger, RedisQueue(redis_client, name))


# ── when there is budget again ───────────────────────────────────────────────────────────────────


async def test_the_turn_of_the_month_lets_what_waits_run(house: House) -> None:
    await house.spend(50)
    item = await house.add()
    assert await house.look() == 0
    house.advance(32 * DAY_MS)
    assert await house.look() == 1
    done = await house.now(item)
    assert (done.state, done.status) == (State.DONE, 200)
    answer = await house.desk.answer_of(done)
    assert answer is not None and answer.body == {"choices": []}


async def test_a_released_hold_lets_what_waits_run(house: House) -> None:
    other = await house.hold(49.5)
    await house.add()
    assert await house.look() == 0
    await house.ledger.void(other, "{}", {})
    assert await house.look() == 1


async def test_a_raised_limit_lets_what_waits_run(house: House) -> None:
    await house.spend(50)
    await house.add()
    assert await house.look() == 0
    budgets = default_policy().budgets
    raised = budgets.budgets["FAST"].model_copy(update={"limit_nano_usd": 60 * USD})
    more = budgets.model_copy(update={"budgets": {**budgets.budgets, "FAST": raised}})
    await house.ledger.publish(more.published())
    assert await house.look() == 1


async def test_a_grant_lets_what_waits_run(house: House) -> None:
    await house.spend(50)
    await house.add()
    assert await house.look() == 0
    period = period_at("month", "UTC", await house.ledger.now_ms())
    grant = grant_to("g1", "FAST", "FAST", period, 2 * USD, actor="bob", reason="a launch")
    assert isinstance(await house.ledger.grant(grant), Granted)
    assert await house.look() == 1


async def asked_for(house: House, by: MatchBy) -> tuple[Item, list[str]]:
    """Return a request that lacks budget and has a ticket, once somebody has approved it."""
    await house.spend(50)
    period = period_at("month", "UTC", await house.ledger.now_ms())
    opened = await house.ledger.open_ticket(
        NewTicket(
            approval_id="a-1",
            kind=TicketKind.CALL,
            breach="b",
            asker=Who("alice"),
            task_type="lookup",
            budgets=(TicketBudget("FAST", "FAST", period.id),),
            requested_nano_usd=USD,
            expires_in_ms=DAY_MS,
            valid_to_ms=period.end_ms,
        )
    )
    item = await house.add(approval_id=opened.approval_id if by is MatchBy.HEADER else "")
    assert await house.look() == 0
    until_ms = min(await house.ledger.now_ms() + DAY_MS, period.end_ms)
    answer = Answer(opened.approval_id, Who("bob"), "worth it", Terms(USD, until_ms, 1, by))
    assert await house.ledger.answer_ticket(answer) is AnswerStatus.APPROVED
    assert await house.look() == 1
    (request,) = house.requests
    return item, list(request.headers)


async def test_an_approval_lets_what_was_asked_for_run_and_is_named(house: House) -> None:
    item, headers = await asked_for(house, MatchBy.HEADER)
    assert (await house.now(item)).state is State.DONE
    assert headers == ["x-farebox-approval"]


async def test_an_approval_that_matches_by_itself_need_not_be_named(house: House) -> None:
    theirs = await house.add(key_name="somebody else")
    item, headers = await asked_for(house, MatchBy.KEY)
    assert (await house.now(item)).state is State.DONE
    assert headers == []
    assert (await house.now(theirs)).state is State.WAITING


async def test_no_more_run_at_once_than_the_policy_says(house: House) -> None:
    for _ in range(6):
        await house.add(0.01)
    at_once = default_policy().routing.queue.at_once
    assert await house.look() == at_once
    assert await house.look() == 6 - at_once


async def test_only_the_worker_that_leads_runs_anything(house: House) -> None:
    assert await house.look() == 0
    item = await house.add()
    other = house.new_runner("another")
    assert await other.look() == 0
    house.advance(LEAD_MS + 1)
    assert await other.look() == 1
    while house.tasks:
        await house.tasks.pop(0)
    assert (await house.now(item)).state is State.DONE


# ── what an answer does ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", ["budget_exceeded", "budget_busy", "approval_required"])
async def test_a_hold_that_is_refused_after_all_is_no_attempt(house: House, code: str) -> None:
    item = await house.add()
    house.replies = [Reply(402, {"x-farebox-code": code}, b"{}")]
    await house.look()
    waiting = await house.now(item)
    assert (waiting.state, waiting.attempts, waiting.run) == (State.WAITING, 0, 1)
    assert waiting.reason == code
    assert await house.look() == 0
    house.advance(5_001)
    assert await house.look() == 1


async def test_vain_tries_become_rarer_the_longer_a_request_waits(house: House) -> None:
    item = await house.add()
    house.advance(400_000)
    house.replies = [Reply(402, {"x-farebox-code": "budget_exceeded"}, b"{}")]
    await house.look()
    waiting = await house.now(item)
    assert 20_000 <= waiting.not_before_ms - waiting.changed_ms < 21_000


async def test_a_webhook_whose_origin_is_no_longer_listed_is_not_called(house: House) -> None:
    item_id = f"q{uuid.uuid4().hex}"
    address = house.sealing.seal(b"https://hooks.example.net/x", item_id, "webhook")
    await house.queue.add(new_item(item_id, webhook=address, expires_in_ms=1_000), Room(100, 10**9))
    house.advance(1_001)
    await house.look()
    assert (await house.queue.get(item_id)).reason == "expired"  # type: ignore[union-attr]  # kept
    assert house.told == []


async def test_a_failed_attempt_is_repeated_under_a_new_id_after_a_growing_pause(
    house: House,
) -> None:
    item = await house.add()
    house.replies = [Reply(500, {}, b""), Reply(429, {}, b"")]
    await house.look()
    assert await house.look() == 0
    house.advance(5_001)
    await house.look()
    house.advance(5_001)
    assert await house.look() == 0
    house.advance(5_001)
    await house.look()
    done = await house.now(item)
    assert (done.state, done.attempts) == (State.DONE, 2)
    assert [run.hold_id for run in house.sent] == [f"{item.id}.{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(401, {"x-farebox-code": "revoked_key"}, b"{}"), "revoked_key"),
        (Reply(422, {"x-farebox-code": "no_feasible_model"}, b"{}"), "no_feasible_model"),
        (Reply(400, {}, b"{}"), "http_400"),
    ],
)
async def test_what_can_never_be_answered_is_not_tried_again(
    house: House, reply: Reply, reason: str
) -> None:
    webhook = "https://hooks.example.org/x"
    sealed = house.sealing.seal(webhook.encode(), "other", "webhook")
    item = await house.add(webhook=sealed)
    house.replies = [reply]
    await house.look()
    dead = await house.now(item)
    assert (dead.state, dead.reason, dead.attempts) == (State.DEAD, reason, 0)
    assert house.told == []  # The address is sealed for another request.


async def test_the_ledger_being_away_is_no_attempt_and_uses_the_id_up(house: House) -> None:
    item = await house.add()
    house.replies = [Reply(503, {"x-farebox-code": "ledger_unavailable"}, b"{}")]
    await house.look()
    waiting = await house.now(item)
    assert (waiting.state, waiting.attempts, waiting.run) == (State.WAITING, 0, 2)


async def test_texts_sealed_with_another_key_are_left_to_who_has_it(house: House) -> None:
    item = await house.add()
    theirs = QueueDesk(house.queue, Sealer((bytes(range(32)),)))
    house.desk = theirs
    house.runner = house.new_runner("me")
    assert await house.look() == 0
    assert (await house.now(item)).state is State.WAITING


async def test_what_expires_while_it_waits_is_told_and_forgotten(house: House) -> None:
    await house.spend(50)
    item_id = f"q{uuid.uuid4().hex}"
    address = house.sealing.seal(b"https://hooks.example.org/x", item_id, "webhook")
    new = new_item(
        item_id, needs=(Need("FAST", "FAST", USD),), webhook=address, expires_in_ms=60_000
    )
    await house.queue.add(new, Room(100, 10**9))
    house.advance(60_001)
    await house.look()
    told = {"queue_id": item_id, "state": "dead", "reason": "expired"}
    assert house.told == [("https://hooks.example.org/x", told)]
    assert await house.queue.body(item_id) is None


# ── a worker that died ───────────────────────────────────────────────────────────────────────────


async def died_with(house: House, state: str) -> Item:
    """Return a request whose worker died in its run, leaving its hold in a state."""
    item = await house.add()
    claimed = await house.queue.claim(item.id, "the dead", LEASE_MS)
    assert claimed is not None
    if state != "none":
        await house.hold(1, claimed.hold_id, lease_ms=10 if state == "unreconciled" else 10**9)
    if state == "voided":
        await house.ledger.void(claimed.hold_id, "{}", {})
    elif state == "settled":
        await house.ledger.settle(Settlement(claimed.hold_id, USD // 10, "{}"))
    house.advance(LEASE_MS + 1)
    if state == "unreconciled":
        assert len(await house.ledger.expire(10)) == 1
    return claimed


@pytest.mark.parametrize(("state", "run"), [("none", 1), ("voided", 2), ("unreconciled", 1)])
async def test_what_was_not_answered_runs_again(house: House, state: str, run: int) -> None:
    item = await died_with(house, state)
    await house.look()
    await house.look()
    done = await house.now(item)
    assert (done.state, done.attempts, done.run) == (State.DONE, 1, run)
    (sent,) = house.sent
    assert (sent.hold_id, sent.lost) == (f"{item.id}.{run}", int(state == "unreconciled"))


async def test_each_send_that_a_worker_died_in_is_counted(house: House) -> None:
    item = await died_with(house, "unreconciled")
    await house.runner._take_over((await house.queue.orphans(10))[0])
    assert await house.queue.claim(item.id, "the next to die", LEASE_MS)
    house.advance(LEASE_MS + LEAD_MS)
    await house.look()
    house.replies = [Reply(503, {"x-farebox-code": "ledger_unavailable"}, b"{}")]
    await house.look()
    house.advance(2_001)
    await house.look()
    assert [(run.hold_id, run.lost) for run in house.sent] == [(f"{item.id}.1", 2)] * 2
    assert (await house.now(item)).state is State.DONE


async def test_an_interrupted_request_needs_no_second_budget(house: House) -> None:
    """Its hold is charged already, so it runs although the budget has no room for another."""
    item = await died_with(house, "unreconciled")
    await house.spend(48.5)
    await house.look()
    await house.look()
    assert (await house.now(item)).state is State.DONE


async def test_what_was_answered_and_charged_is_not_sent_again_by_itself(house: House) -> None:
    item = await died_with(house, "settled")
    await house.look()
    dead = await house.now(item)
    assert (dead.state, dead.reason) == (State.DEAD, "answer_lost")
    assert house.sent == []
    assert await house.queue.retry(item.id)
    await house.look()
    assert house.sent[0].hold_id == f"{item.id}.2" and not house.sent[0].lost


async def test_a_hold_that_may_still_end_is_waited_for(house: House) -> None:
    item = await died_with(house, "open")
    await house.look()
    assert (await house.now(item)).state is State.RUNNING
    await house.ledger.void(item.hold_id, "{}", {})
    await house.look()
    await house.look()
    assert (await house.now(item)).state is State.DONE


async def test_a_request_that_kills_its_workers_ends_on_the_dead_letter_list(house: House) -> None:
    item = await house.add(attempts_max=2)
    for _ in range(2):
        assert await house.queue.claim(item.id, "the dead", LEASE_MS)
        house.advance(LEASE_MS + LEAD_MS)
        for orphan in await house.queue.orphans(10):
            await house.runner._take_over(orphan)
    dead = await house.now(item)
    assert (dead.state, dead.reason, dead.attempts) == (State.DEAD, "runner_died", 2)
