"""The Redis ledger answers as the model does, whatever is asked of it and in whatever order.

Hypothesis makes up the calls. Each goes to both; every answer must be equal but for the times, and
so must all that can be read at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from budgets.alerts.memory_outbox import MemoryOutbox
from budgets.alerts.outbox import Outbox
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.approvals.types import (
    Answer,
    ApprovalUse,
    MatchBy,
    NewTicket,
    Terms,
    TicketBudget,
    TicketKind,
    Who,
)
from budgets.archived import ArchivedPart, Sums
from budgets.carry import DEBT, Carry, unused_up_to
from budgets.connection import connect
from budgets.errors import ClockSkew, HoldIdReused, LedgerPaused, PolicyNotPublished
from budgets.grants.types import grant_to, transfer_between
from budgets.holds import BudgetHold, HoldRequest
from budgets.ledger import Ledger
from budgets.memory import MemoryLedger
from budgets.period import Period
from budgets.published import Level, PublishedPolicy, PublishedRule, Threshold
from budgets.records import RefusalRecord
from budgets.redis_store import RedisLedger
from budgets.settlements import InputSample, OutputSample, Recovery, Settlement
from budgets.slices import OfflineHold, SliceRequest

BUDGETS = ("team", "total", "user:ann", "user:bob")
RULES = ("team", "total", "user")
ANN, BOB = Who("ann", "ann@x"), Who("bob")
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
LEASE_MS = 60_000
AMOUNTS = st.integers(0, 40)
HOLD_IDS = st.sampled_from([f"h{number}" for number in range(4)])
OWNERS = st.sampled_from(["w1", "w2"])
SHARES = st.lists(
    st.tuples(st.sampled_from(BUDGETS), AMOUNTS, st.sampled_from([True, True, False])),
    max_size=3,
    unique_by=lambda it: it[0],
)
COUNTERS = st.dictionaries(st.sampled_from(["requests", "tokens"]), st.integers(-3, 9), max_size=2)
THRESHOLDS = st.lists(
    st.builds(Threshold, st.sampled_from(list(Level)), st.sampled_from([30, 50, 80, 100, 120])),
    max_size=4,
    unique_by=lambda it: it.level,
).map(tuple)
# Steps are whole hours and leases half hours, so that the milliseconds between the two answers
# never decide which side of an end a call falls on.
LEASES_MS = st.sampled_from([HOUR_MS // 2, 5 * HOUR_MS // 2])
ENDS_MS = st.sampled_from([0, HOUR_MS // 2])


class LedgersAgree(RuleBasedStateMachine):
    """Asks the model and Redis the same."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.client = connect(self.url)
        self.name = uuid.uuid4().hex
        self.redis = RedisLedger(self.client, self.name)
        self.start_ms = self.loop.run_until_complete(self.redis.now_ms())
        self.model_ms = self.start_ms
        self.model = MemoryLedger(lambda: self.model_ms)
        self.numbers = itertools.count()
        self.steps = self.wrong = 0
        self.tickets: list[str] = []
        first = self.policy([40, 60, 30], ())
        self.both(lambda ledger: ledger.publish(first))

    def teardown(self) -> None:
        self.compare_all_that_can_be_read()
        self.loop.run_until_complete(self.client.aclose())
        self.loop.close()

    def both(self, call: Callable[[Ledger], Awaitable[Any]]) -> Any:
        """Ask both and compare; return the model's answer."""
        answers = [
            self.loop.run_until_complete(answer_of(call, ledger))
            for ledger in (self.model, self.redis)
        ]
        assert timeless(answers[1]) == timeless(answers[0])
        return answers[0]

    def policy(self, limits: list[int], thresholds: tuple[Threshold, ...]) -> PublishedPolicy:
        names = zip(RULES, limits, strict=True)
        # `user` carries always, `total` under two policies of three, `team` within bounds.
        number = next(self.numbers)
        bounded = ("none", unused_up_to(15), DEBT, unused_up_to(25, debt=True))
        carries: dict[str, Carry] = {
            "user": "balance",
            "total": "balance" if number % 3 else "none",
            "team": bounded[number % 4],
        }
        rules = tuple(
            PublishedRule(name, limit, thresholds, carries.get(name, "none"))
            for name, limit in names
        )
        return PublishedPolicy(f"digest-{number}", rules)

    def distinct(self, lease_ms: int) -> int:
        """Return a lease that ends at no other's time, so that milliseconds never order them."""
        return lease_ms + 1000 * next(self.numbers)

    def period(self, behind: bool = False) -> Period:
        """Return the 12-hour period of now, or the one before it."""
        return self.period_of(self.period_number() - behind)

    def period_number(self) -> int:
        now = self.loop.run_until_complete(self.model.now_ms())
        return (now - self.start_ms + HOUR_MS // 4) // (12 * HOUR_MS)

    def period_of(self, number: int) -> Period:
        first = self.start_ms - HOUR_MS // 4 + number * 12 * HOUR_MS
        return Period(f"P{number}", first, first + 12 * HOUR_MS)

    def shares(self, wanted: list[tuple[str, int, bool]], period: Period) -> tuple[BudgetHold, ...]:
        return tuple(
            BudgetHold(budget, budget.partition(":")[0], period, amount, enforced)
            for budget, amount, enforced in wanted
        )

    @rule(limits=st.lists(st.integers(0, 90), min_size=3, max_size=3), thresholds=THRESHOLDS)
    def publish(self, limits: list[int], thresholds: tuple[Threshold, ...]) -> None:
        policy = self.policy(limits, thresholds)
        self.both(lambda ledger: ledger.publish(policy))

    @rule(
        hold_id=HOLD_IDS,
        amount=AMOUNTS,
        wanted=SHARES,
        lease_ms=LEASES_MS,
        end_ms=ENDS_MS,
        behind=st.sampled_from([False] * 9 + [True]),
    )
    def hold(
        self,
        hold_id: str,
        amount: int,
        wanted: list[tuple[str, int, bool]],
        lease_ms: int,
        end_ms: int,
        behind: bool,
    ) -> None:
        request = HoldRequest(
            hold_id=hold_id,
            amount_nano_usd=amount,
            budgets=self.shares(wanted, self.period(behind)),
            lease_ms=self.distinct(lease_ms),
            expected_end_ms_in=end_ms,
            facts=f'{{"hold":"{hold_id}"}}',
            decision_id=f"d-{hold_id}",
            decision=f'{{"number":{next(self.numbers)}}}',
            stats_period="S",
        )
        self.both(lambda ledger: ledger.hold(request))

    @rule(hold_id=HOLD_IDS, amount=AMOUNTS, wanted=SHARES)
    def top_up(self, hold_id: str, amount: int, wanted: list[tuple[str, int, bool]]) -> None:
        shares = self.shares(wanted, self.period())
        self.both(lambda ledger: ledger.top_up(hold_id, amount, shares))

    @rule(
        hold_id=HOLD_IDS,
        cost=st.integers(0, 60),
        charges=st.dictionaries(st.sampled_from(BUDGETS), st.integers(0, 60), max_size=2),
        counters=COUNTERS,
        tokens=st.lists(st.integers(0, 5000), max_size=1),
        inputs=st.lists(
            st.builds(
                InputSample,
                st.sampled_from(["group:g", "provider:p"]),
                st.integers(1, 5000),
                st.integers(0, 15000),
                st.sampled_from([0, 64]),
                st.sampled_from([0.8, 1.0]),
                st.sampled_from([1.1, 1.9]),
            ),
            max_size=2,
            unique_by=lambda it: it.key,
        ),
        known=st.none() | st.tuples(SHARES, st.sampled_from([0, 24, 200])),
    )
    def settle(
        self,
        hold_id: str,
        cost: int,
        charges: dict[str, int],
        counters: dict[str, int],
        tokens: list[int],
        inputs: list[InputSample],
        known: tuple[list[tuple[str, int, bool]], int] | None,
    ) -> None:
        samples = tuple(OutputSample("type|group", it) for it in tokens)
        body = json.dumps({"number": next(self.numbers)})
        recovery = None
        if known is not None:
            # Of some hours ago, or of so long ago that ended holds are forgotten since.
            shares, hours = known
            held_at_ms = self.model_ms - hours * HOUR_MS
            budgets = self.shares(shares, self.period())
            recovery = Recovery(cost // 2, budgets, held_at_ms, f"d-{hold_id}", "S")
        settlement = Settlement(
            hold_id, cost, body, charges, counters, samples, tuple(inputs), recovery
        )
        self.both(lambda ledger: ledger.settle(settlement))

    @rule(hold_id=HOLD_IDS, counters=COUNTERS, ahead=st.booleans())
    def void(self, hold_id: str, counters: dict[str, int], ahead: bool) -> None:
        self.both(lambda ledger: ledger.void(hold_id, "{}", counters, ahead=ahead))

    @rule(
        owner=OWNERS,
        allowance=AMOUNTS,
        have=AMOUNTS,
        rules=st.lists(st.sampled_from(RULES), max_size=2, unique=True),
        alone=st.booleans(),
    )
    def slices(self, owner: str, allowance: int, have: int, rules: list[str], alone: bool) -> None:
        period = self.period()
        wanted = [SliceRequest(rule, period, allowance, have, alone) for rule in rules]
        self.both(lambda ledger: ledger.slices(owner, wanted))

    @rule(owner=OWNERS)
    def release_slices(self, owner: str) -> None:
        self.both(lambda ledger: ledger.release_slices(owner))

    @rule(
        hold_id=HOLD_IDS,
        owner=OWNERS,
        amount=AMOUNTS,
        wanted=SHARES,
        cost=st.integers(0, 60),
        counters=COUNTERS,
        state=st.sampled_from(["settled", "voided", "unreconciled"]),
        behind=st.booleans(),
    )
    def replay(
        self,
        hold_id: str,
        owner: str,
        amount: int,
        wanted: list[tuple[str, int, bool]],
        cost: int,
        counters: dict[str, int],
        state: str,
        behind: bool,
    ) -> None:
        number = next(self.numbers)
        offline = OfflineHold(
            hold_id=hold_id,
            amount_nano_usd=amount,
            budgets=self.shares(wanted, self.period(behind)),
            time_ms=self.start_ms,
            facts="{}",
            decision_id=f"d-{hold_id}",
            decision=f'{{"number":{number}}}',
            stats_period="S",
            owner=owner,
        )
        ended = 0 if state == "voided" else cost
        ending = Settlement(hold_id, ended, f'{{"number":{number}}}', counters=counters)
        self.both(lambda ledger: ledger.replay(offline, ending, state))

    @rule(hold_ids=st.lists(HOLD_IDS, max_size=3, unique=True), lease_ms=LEASES_MS)
    def renew(self, hold_ids: list[str], lease_ms: int) -> None:
        distinct_ms = self.distinct(lease_ms)
        self.both(lambda ledger: ledger.renew(hold_ids, distinct_ms))

    @rule(decision=st.sampled_from(["d1", "d2"]), counters=COUNTERS)
    def refuse(self, decision: str, counters: dict[str, int]) -> None:
        record = RefusalRecord(decision, "unknown_price", "{}", '{"r":1}', "S", counters)
        self.both(lambda ledger: ledger.refuse(record))

    @rule(count_max=st.integers(1, 8))
    def expire(self, count_max: int) -> None:
        self.both(lambda ledger: ledger.expire(count_max))

    @rule(ms=st.sampled_from([0, 0, 0, HOUR_MS // 2]))
    def pause(self, ms: int) -> None:
        self.both(lambda ledger: ledger.pause(ms))

    @rule(
        grant_id=st.sampled_from(["g1", "g2", "g3"]),
        budgets=st.lists(st.sampled_from(BUDGETS), min_size=1, max_size=2, unique=True),
        amount=st.integers(1, 40),
        hours=st.sampled_from([None, 1, 5]),
    )
    def grant(self, grant_id: str, budgets: list[str], amount: int, hours: int | None) -> None:
        period = self.period()
        names = [(it, it.partition(":")[0]) for it in budgets]
        # Half an hour off the whole steps of time, as leases are.
        until = period.end_ms if hours is None else self.model_ms + hours * HOUR_MS + HOUR_MS // 2
        until_ms = min(until, period.end_ms)
        said: Any = {"until_ms": until_ms, "actor": "ann", "reason": "r"}
        new = grant_to(grant_id, *names[0], period, amount, **said)
        if len(names) == 2:
            new = transfer_between(grant_id, names[0], names[1], period, amount, **said)
        if period.start_ms < until_ms:
            self.both(lambda ledger: ledger.grant(new))

    @rule(
        budgets=st.lists(st.sampled_from(BUDGETS), min_size=1, max_size=2, unique=True),
        breach=st.sampled_from(["x", "y"]),
        amount=AMOUNTS,
    )
    def open_ticket(self, budgets: list[str], breach: str, amount: int) -> None:
        period = self.period()
        new = NewTicket(
            approval_id=f"a{next(self.numbers)}",
            kind=TicketKind.CALL,
            breach=f"{breach}|{period.id}",
            asker=ANN,
            task_type="chat",
            budgets=tuple(TicketBudget(it, it.partition(":")[0], period.id) for it in budgets),
            requested_nano_usd=amount,
            expires_in_ms=3 * HOUR_MS // 2,
            valid_to_ms=period.end_ms,
        )
        opened = self.both(lambda ledger: ledger.open_ticket(new))
        self.tickets = [*self.tickets, opened.approval_id][-3:]

    @precondition(lambda self: self.tickets)
    @rule(
        which=st.integers(0, 2),
        person=st.sampled_from([BOB, BOB, Who("carol"), ANN]),
        terms=st.none()
        | st.tuples(
            st.integers(1, 60), st.sampled_from([None, 1, 2]), st.sampled_from(list(MatchBy))
        ),
        two=st.sampled_from([False, False, True]),
    )
    def answer_ticket(
        self, which: int, person: Who, terms: tuple[int, int | None, MatchBy] | None, two: bool
    ) -> None:
        allowed = None
        if terms is not None:
            amount, uses, by = terms
            until_ms = min(self.model_ms + 5 * HOUR_MS // 2, self.period().end_ms)
            allowed = Terms(amount, until_ms, uses, by)
        answer = Answer(self.tickets[which % len(self.tickets)], person, "r", allowed, two)
        self.both(lambda ledger: ledger.answer_ticket(answer))

    @precondition(lambda self: self.tickets)
    @rule(
        which=st.integers(0, 2),
        hold_id=HOLD_IDS,
        amount=AMOUNTS,
        budgets=st.lists(st.sampled_from(BUDGETS), min_size=1, max_size=2, unique=True),
        who=st.sampled_from([ANN, ANN, BOB]),
        presented=st.booleans(),
    )
    def hold_by_approval(
        self,
        which: int,
        hold_id: str,
        amount: int,
        budgets: list[str],
        who: Who,
        presented: bool,
    ) -> None:
        period = self.period()
        names = [(it, period.id) for it in budgets]
        self.both(lambda ledger: ledger.find_approval(who, "chat", names, amount))
        request = HoldRequest(
            hold_id=hold_id,
            amount_nano_usd=amount,
            budgets=self.shares([(it, amount, True) for it in budgets], period),
            lease_ms=self.distinct(HOUR_MS // 2),
            expected_end_ms_in=0,
            facts="{}",
            decision_id=f"d-{hold_id}",
            decision="{}",
            stats_period="S",
            approval=ApprovalUse(
                self.tickets[which % len(self.tickets)], who, "chat", presented=presented
            ),
        )
        self.both(lambda ledger: ledger.hold(request))

    @rule(count=st.integers(1, 3))
    def archive(self, count: int) -> None:
        self.both(lambda ledger: trim_oldest(ledger, count))

    @rule(budget=st.sampled_from(BUDGETS), field=st.sampled_from(["spent", "held", "unreconciled"]))
    def damage_and_rebuild(self, budget: str, field: str) -> None:
        period_id = self.period().id
        if (counter := self.model._counters.get((budget, period_id))) is None:
            return
        setattr(counter, field, getattr(counter, field) + 1)
        key = f"{self.redis._prefix}budget:{period_id}:{budget}"
        self.loop.run_until_complete(self.client.hincrby(key, field, 1))
        self.both(lambda ledger: ledger.verify())
        assert self.both(lambda ledger: ledger.rebuild("us", lease_ms=HOUR_MS, pause_ms=1)) != ()

    @precondition(lambda self: self.model_ms - self.start_ms < 48 * HOUR_MS)
    @rule(hours=st.sampled_from([1, 2, 3, 5, 8, 12]))
    def time_passes(self, hours: int) -> None:
        self.move(hours * HOUR_MS)

    # Steps of 7 minutes are waited out. Three of them never meet the ends of leases or periods.
    @precondition(lambda self: self.steps < 3)
    @rule()
    def the_clock_steps_back(self) -> None:
        self.steps += 1
        self.move(-7 * MINUTE_MS)

    # One of three hours is taken over.
    @precondition(lambda self: self.wrong < 2)
    @rule()
    def the_clock_was_wrong(self) -> None:
        self.wrong += 1
        self.move(-3 * HOUR_MS)

    def move(self, ms: int) -> None:
        self.model_ms += ms
        self.redis.clock_offset_ms += ms

    @rule(ago=st.sampled_from([0, 1, 1, 1, 2]), idle=st.sampled_from([(), ("total", "team")]))
    def close_period(self, ago: int, idle: tuple[str, ...]) -> None:
        number = self.period_number() - ago
        period, following = self.period_of(number), self.period_of(number + 1)
        pairs = tuple((name, name) for name in idle)
        self.both(lambda ledger: ledger.close_period(period, following, pairs))

    # Made up step by step, a late end of a hold would come too seldom.
    @precondition(lambda self: self.model_ms - self.start_ms < 48 * HOUR_MS)
    @rule(
        hold_id=HOLD_IDS,
        amount=AMOUNTS,
        wanted=SHARES.filter(bool),
        end=st.sampled_from(["settle", "expire", "void", "top_up", "none"]),
    )
    def period_turns_and_is_closed_over_a_hold(
        self, hold_id: str, amount: int, wanted: list[tuple[str, int, bool]], end: str
    ) -> None:
        self.hold(hold_id, amount, wanted, 5 * HOUR_MS // 2, 0, behind=False)
        self.move(12 * HOUR_MS)
        self.close_period(1, ())
        match end:
            case "settle":
                self.settle(hold_id, amount + 5, {}, {}, [], [], None)
            case "expire":
                self.expire(8)
            case "void":
                self.void(hold_id, {}, ahead=False)
            case "top_up":
                shares = self.shares([(it[0], it[1] + 3, False) for it in wanted], self.period())
                self.both(lambda ledger: ledger.top_up(hold_id, amount + 3, shares))

    @rule(ago=st.sampled_from([0, 1]))
    def open_holds(self, ago: int) -> None:
        period_id = self.period_of(self.period_number() - ago).id

        async def named(ledger: Ledger) -> tuple[int, list[tuple[str, int]]]:
            count, holds = await ledger.open_holds(period_id, 9)
            return count, sorted((it.hold_id, it.amount_nano_usd) for it in holds)

        self.both(named)

    @rule(role=st.sampled_from(["r", "s"]), owner=st.sampled_from(["ann", "bob"]), lease=LEASES_MS)
    def lead(self, role: str, owner: str, lease: int) -> None:
        lease_ms = self.distinct(lease)
        self.both(lambda ledger: ledger.lead(role, owner, lease_ms))

    @rule(role=st.sampled_from(["r", "s"]), owner=st.sampled_from(["ann", "bob"]))
    def resign(self, role: str, owner: str) -> None:
        self.both(lambda ledger: ledger.resign(role, owner))

    def compare_all_that_can_be_read(self) -> None:
        assert self.both(lambda ledger: ledger.verify()) == ()
        self.both(lambda ledger: ledger.leaders())
        periods = [f"P{number}" for number in range(-3, 7)]
        for period_id in periods:
            self.both(lambda ledger, period_id=period_id: ledger.statement(period_id))  # type: ignore[misc] # A default.
            self.both(lambda ledger, period_id=period_id: grants_of(ledger, period_id))  # type: ignore[misc] # A default.
        names = [(it, it.partition(":")[0], period_id) for it in BUDGETS for period_id in periods]
        self.both(lambda ledger: ledger.states(names))
        self.both(lambda ledger: ledger.counters("S"))
        self.both(lambda ledger: ledger.open_tickets())
        self.both(tickets_of)
        self.both(lambda ledger: ledger.learned())
        for decision in ("d1", "d-h0", "d-h1", "d-h2"):
            self.both(lambda ledger, decision=decision: ledger.decision(decision))  # type: ignore[misc] # A default.
        for stream in ("entries", "events", "refusals", "addenda"):
            self.both(lambda ledger, stream=stream: lines(getattr(ledger, stream)()))  # type: ignore[misc] # A default.
        outboxes: list[Outbox] = [MemoryOutbox(self.model), RedisOutbox(self.client, self.name)]
        model, redis = (self.loop.run_until_complete(raised(it)) for it in outboxes)
        assert timeless(redis) == timeless(model)


async def answer_of(call: Callable[[Ledger], Awaitable[Any]], ledger: Ledger) -> Any:
    """Return the answer, or the kind of exception that it was."""
    try:
        return await call(ledger)
    except (ClockSkew, HoldIdReused, LedgerPaused, PolicyNotPublished) as error:
        return type(error)


async def trim_oldest(ledger: Ledger, count: int) -> Any:
    """Archive the oldest entries without a file; return what was done but for the ids."""
    state = await ledger.archive_state()
    taken = [line async for line in ledger.lines(state.to)][:count]
    if not taken:
        return None
    sums = Sums()
    for line in taken:
        sums.add(line)
    first, last = taken[0].id, taken[-1].id
    part = ArchivedPart(len(state.parts) + 1, "f", "0" * 64, state.to, first, last, len(taken))
    return await ledger.trim(part, sums), len(taken), sums


async def grants_of(ledger: Ledger, period_id: str) -> list[Any]:
    """Return a period's grants in an order that milliseconds do not change."""
    found = await ledger.grants(period_id)
    return sorted((it.id, it.kind, it.parts) for it in found)


async def raised(outbox: Outbox) -> list[tuple[str, str]]:
    """Return the alerts that the ledger has raised, in their order."""
    return [(it.kind, it.body) for it in await outbox.take_raised(10_000, LEASE_MS)]


async def tickets_of(ledger: Ledger) -> list[Any]:
    """Return all tickets without their times, in an order that milliseconds do not change."""
    found = [replace(it, opened_ms=0, expires_ms=0, decided_ms=0) for it in await ledger.tickets()]
    return sorted(found, key=lambda it: it.approval_id)


async def lines(stream: Any) -> list[Any]:
    return [line async for line in stream]


def timeless(answer: Any) -> Any:
    """Return an answer without the times and stream ids, which differ by some milliseconds.

    What is left until a time is compared in steps of ten seconds.
    """
    if is_dataclass(answer) and not isinstance(answer, type):
        kept = {it.name: getattr(answer, it.name) for it in fields(answer)}
        for name in ("time_ms", "until_ms", "entry_id"):
            kept.pop(name, None)
        kept.pop("id", None)
        if kept.get("retry_after_ms"):
            kept["retry_after_ms"] = round(kept["retry_after_ms"], -4)
        return type(answer).__name__, {name: timeless(value) for name, value in kept.items()}
    if isinstance(answer, str):
        return re.sub(r'\s+|"(?:time|from|to)_ms": *\d+', "", answer)
    if isinstance(answer, list | tuple):
        return [timeless(it) for it in answer]
    return answer


def test_redis_answers_as_the_model_does(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    LedgersAgree.url = redis_url
    # Redis's clock goes on while the model's stands: seconds of this run must decide nothing.
    for module in ("memory", "redis_store"):
        monkeypatch.setattr(f"budgets.{module}.SLICE_OWNER_ACTIVE_MS", HOUR_MS // 2)
    run_state_machine_as_test(
        LedgersAgree,
        settings=settings(
            max_examples=80,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            # A sequence that fails is shown whole: making it small takes longer than CI has.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
