"""Closed periods: a statement that never changes, addenda for what comes late, and the carry."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from redis.asyncio import Redis

from budgets.carry import DEBT, Carry, unused_up_to
from budgets.errors import PolicyNotPublished
from budgets.holds import Held
from budgets.period import Period
from budgets.published import Level, PublishedPolicy, PublishedRule
from budgets.records import Difference
from budgets.settlements import SettleStatus
from budgets.statements import Addendum, PeriodOpen, Statement, StatementRow
from tests.ledger.worlds import (
    LEASE_MS,
    THRESHOLDS,
    RedisWorld,
    World,
    all_entries,
    all_events,
    held,
    hold,
    policy,
    refused,
    settle,
    share,
    state,
)

HOUR_MS = 3_600_000


class Months:
    """Three periods of an hour one after the other, of which the first is now."""

    def __init__(self, world: World, now_ms: int) -> None:
        self._world = world
        self._start_ms = now_ms - HOUR_MS // 2

    @classmethod
    async def begin(cls, world: World, carry: Carry = "balance", **limits: int) -> Months:
        """Publish rules that all carry the same way."""
        await publish(world, carry, **(limits or {"team": 100}))
        return cls(world, await world.ledger.now_ms())

    def __getitem__(self, number: int) -> Period:
        first = self._start_ms + (number - 1) * HOUR_MS
        return Period(f"M{number}", first, first + HOUR_MS)

    def pass_one(self) -> None:
        self._world.advance(HOUR_MS)

    async def close(self, number: int, **budgets: str) -> Statement:
        pairs = tuple(budgets.items())
        answer = await self._world.ledger.close_period(self[number], self[number + 1], pairs)
        assert isinstance(answer, Statement)
        return answer


async def publish(world: World, carry: Carry, **limits: int) -> None:
    rules = tuple(PublishedRule(name, it, THRESHOLDS, carry) for name, it in limits.items())
    await world.ledger.publish(PublishedPolicy(uuid.uuid4().hex, rules))


async def all_addenda(world: World) -> list[Addendum]:
    return [addendum async for addendum in world.ledger.addenda()]


async def changes(world: World) -> list[tuple[str, str, int, int]]:
    """Return what the addenda say: period, budget, difference, and what of it was handed on."""
    return [
        (it.period_id, it.budget, it.spent_nano_usd, it.carry_nano_usd)
        for it in await all_addenda(world)
    ]


async def test_a_period_is_not_closed_before_it_has_ended(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 7, "h", period=months[1])
    answer = await world.ledger.close_period(months[1], months[2])
    assert isinstance(answer, PeriodOpen)
    assert (answer.period_id, answer.end_ms) == ("M1", months[1].end_ms)
    assert answer.time_ms < answer.end_ms
    assert await world.ledger.statement("M1") is None
    assert await all_events(world.ledger, "period_closed") == []
    await settle(world.ledger, "h", 7)
    assert [entry.addendum for entry in await all_entries(world.ledger)] == [False]


async def test_a_statement_has_a_row_for_every_budget_as_it_stood(world: World) -> None:
    months = await Months.begin(world, "none", team=100, total=200, idle=50)
    for name in ("settled", "lost", "open"):
        await held(world.ledger, 10, name, budgets={"team": 10, "total": 10}, period=months[1])
    await settle(world.ledger, "settled", 4)
    world.advance(LEASE_MS - 1000)
    await world.ledger.renew(["open"], 9 * HOUR_MS)
    world.advance(2000)
    assert len(await world.ledger.expire(9)) == 1
    months.pass_one()
    await held(world.ledger, 1, "elsewhere", period=months[2])
    statement = await months.close(1, idle="idle")
    assert (statement.period_id, statement.following_id) == ("M1", "M2")
    assert (statement.start_ms, statement.end_ms) == (months[1].start_ms, months[1].end_ms)
    assert statement.time_ms >= months[1].end_ms
    assert statement.rows == (
        StatementRow("idle", "idle", 50, 0, 0, 0, 0, 0, None),
        StatementRow("team", "team", 100, 0, 14, 10, 1, 10, None),
        StatementRow("total", "total", 200, 0, 14, 10, 1, 10, None),
    )
    assert len(await all_events(world.ledger, "period_closed")) == 1
    assert await world.ledger.verify() == ()


async def test_closing_a_period_again_returns_the_first_statement(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 10, "h", period=months[1])
    months.pass_one()
    first = await months.close(1)
    await settle(world.ledger, "h", 30)
    await publish(world, "none", team=5000)
    world.advance(HOUR_MS)
    assert await months.close(1, team="team") == first
    assert await world.ledger.statement("M1") == first
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 70
    assert len(await all_events(world.ledger, "period_closed")) == 1


async def test_several_that_close_at_once_close_once(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 10, "h", period=months[1])
    months.pass_one()
    statements = await asyncio.gather(*(months.close(1) for _ in range(5)))
    assert len(set(statements)) == 1
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 90


async def test_what_is_left_is_added_to_the_next_period(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 60, "h", period=months[1])
    await settle(world.ledger, "h", 30)
    months.pass_one()
    statement = await months.close(1)
    assert statement.rows[0].carried_nano_usd == 70
    found = await state(world.ledger, period_id="M2")
    assert (found.limit_nano_usd, found.carry_nano_usd) == (100, 70)
    assert (found.bearable_nano_usd, found.remaining_nano_usd) == (170, 170)
    answer = await held(world.ledger, 170, "all", period=months[2])
    assert answer.states[0].remaining_nano_usd == 0
    assert (await refused(world.ledger, 1, period=months[2])).code == "budget_busy"
    assert await world.ledger.verify() == ()


async def test_what_was_spent_over_the_limit_is_taken_from_the_next_period(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 60, "h", period=months[1])
    await settle(world.ledger, "h", 130)
    months.pass_one()
    await months.close(1)
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == -30
    answer = await refused(world.ledger, 71, period=months[2])
    assert (answer.code, answer.state.remaining_nano_usd) == ("budget_exceeded", 70)
    await held(world.ledger, 70, "rest", period=months[2])
    assert await world.ledger.verify() == ()


async def test_a_rule_that_does_not_carry_hands_nothing_on(world: World) -> None:
    months = await Months.begin(world, "none")
    await held(world.ledger, 60, "h", period=months[1])
    months.pass_one()
    await months.close(1)
    await settle(world.ledger, "h", 130)
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 0
    assert await changes(world) == [("M1", "team", 130, 0)]
    assert await world.ledger.verify() == ()


async def test_what_is_unused_is_handed_on_up_to_its_cap_and_a_debt_is_not(world: World) -> None:
    months = await Months.begin(world, unused_up_to(20), team=100, debtor=100, thrifty=100)
    for budget, cost in (("team", 95), ("debtor", 130), ("thrifty", 1)):
        await held(world.ledger, 60, budget, budgets={budget: 60}, period=months[1])
        await settle(world.ledger, budget, cost)
    months.pass_one()
    statement = await months.close(1)
    assert {it.budget: it.carried_nano_usd for it in statement.rows} == {
        "debtor": 0,
        "team": 5,
        "thrifty": 20,
    }
    assert (await state(world.ledger, "thrifty", "M2")).bearable_nano_usd == 120
    months.pass_one()
    await months.close(2)
    # What was handed on counts as unused once more, and the cap holds again.
    assert (await state(world.ledger, "thrifty", "M3")).carry_nano_usd == 20
    assert await world.ledger.verify() == ()


async def test_a_debt_alone_is_handed_on_and_what_is_left_is_not(world: World) -> None:
    months = await Months.begin(world, DEBT, team=100, debtor=100)
    for budget, cost in (("team", 10), ("debtor", 130)):
        await held(world.ledger, 60, budget, budgets={budget: 60}, period=months[1])
        await settle(world.ledger, budget, cost)
    months.pass_one()
    await months.close(1)
    assert (await state(world.ledger, "team", "M2")).carry_nano_usd == 0
    assert (await state(world.ledger, "debtor", "M2")).carry_nano_usd == -30
    assert await world.ledger.verify() == ()


async def test_a_late_settle_changes_what_is_handed_on_only_within_the_bounds(
    world: World,
) -> None:
    months = await Months.begin(world, unused_up_to(20, debt=True))
    await held(world.ledger, 45, "early", period=months[1])
    await held(world.ledger, 45, "late", period=months[1])
    await settle(world.ledger, "early", 70)
    months.pass_one()
    # 100 - 70 - 45 held is a debt of 15, as long as the hold may still cost all of it.
    (row,) = (await months.close(1)).rows
    assert row.carried_nano_usd == -15
    await settle(world.ledger, "late", 3)
    # 27 are left now, and 20 of them are handed on.
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 20
    assert await changes(world) == [("M1", "team", 3, 35)]
    assert await world.ledger.verify() == ()


async def test_an_edit_of_the_bounds_does_not_change_a_closed_period(world: World) -> None:
    months = await Months.begin(world, unused_up_to(20))
    await held(world.ledger, 10, "late", period=months[1])
    months.pass_one()
    await months.close(1)
    await publish(world, "balance", team=100)
    await settle(world.ledger, "late", 5)
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 20
    assert await world.ledger.verify() == ()


@pytest.mark.parametrize("carry", ["unused", "5", "0:-1", "9:5", ":" + "9" * 17])
async def test_a_carry_that_is_none_is_not_published(world: World, carry: Carry) -> None:
    with pytest.raises(ValueError, match="carry"):
        await publish(world, carry, team=100)


async def test_a_plain_rule_that_nobody_used_hands_its_whole_limit_on(world: World) -> None:
    months = await Months.begin(world)
    months.pass_one()
    await months.close(1, team="team")
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 100
    months.pass_one()
    await months.close(2)
    assert (await state(world.ledger, period_id="M3")).carry_nano_usd == 200
    assert await world.ledger.verify() == ()


async def test_a_late_settle_is_an_addendum_and_gives_back_what_was_held_too_much(
    world: World,
) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 60, "late", period=months[1])
    months.pass_one()
    statement = await months.close(1)
    assert statement.rows[0].carried_nano_usd == 40
    assert (await settle(world.ledger, "late", 25)).status is SettleStatus.SETTLED
    (entry,) = await all_entries(world.ledger)
    assert (entry.kind, entry.addendum, entry.charges) == ("settled", True, {("team", "M1"): 25})
    (addendum,) = await all_addenda(world)
    assert (addendum.hold_id, addendum.entry_id) == ("late", entry.id)
    assert await changes(world) == [("M1", "team", 25, 35)]
    assert (await state(world.ledger, period_id="M1")).spent_nano_usd == 25
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 75
    assert await world.ledger.statement("M1") == statement
    assert await world.ledger.verify() == ()


async def test_a_late_settle_corrects_an_unreconciled_charge_of_a_closed_month(
    world: World,
) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 60, "lost", period=months[1])
    world.advance(LEASE_MS + 1)
    assert len(await world.ledger.expire(9)) == 1
    months.pass_one()
    statement = await months.close(1)
    assert statement.rows[0].unreconciled_nano_usd == 60
    assert (await settle(world.ledger, "lost", 10)).status is SettleStatus.CORRECTED
    entry = (await all_entries(world.ledger))[-1]
    assert (entry.kind, entry.addendum, entry.charges) == ("corrected", True, {("team", "M1"): -50})
    assert await changes(world) == [("M1", "team", -50, 50)]
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 90
    assert await world.ledger.verify() == ()


async def test_a_lease_that_ends_in_a_closed_month_hands_on_nothing_twice(world: World) -> None:
    """What was held counted as spent at the closing already."""
    months = await Months.begin(world)
    await held(world.ledger, 60, "lost", period=months[1])
    months.pass_one()
    await months.close(1)
    (entry,) = await world.ledger.expire(9)
    assert entry.addendum
    assert await changes(world) == [("M1", "team", 60, 0)]
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 40
    await world.ledger.void("lost", "{}", {})
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 100
    assert await world.ledger.verify() == ()


async def test_a_late_void_gives_the_held_money_to_the_next_period(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 60, "late", period=months[1])
    months.pass_one()
    await months.close(1)
    await world.ledger.void("late", "{}", {})
    assert await changes(world) == [("M1", "team", 0, 60)]
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 100
    assert await world.ledger.verify() == ()


async def test_a_late_change_goes_on_through_every_closed_period(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 60, "late", period=months[1], lease_ms=9 * HOUR_MS)
    for number in (1, 2):
        months.pass_one()
        await months.close(number)
    assert (await state(world.ledger, period_id="M3")).carry_nano_usd == 140
    await settle(world.ledger, "late", 75)
    assert await changes(world) == [("M1", "team", 75, -15), ("M2", "team", 0, -15)]
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 25
    assert (await state(world.ledger, period_id="M3")).carry_nano_usd == 125
    assert await world.ledger.verify() == ()


async def test_periods_may_be_closed_in_any_order(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 60, "h", period=months[1])
    await settle(world.ledger, "h", 60)
    months.pass_one()
    months.pass_one()
    await months.close(2, team="team")
    assert (await state(world.ledger, period_id="M3")).carry_nano_usd == 100
    await months.close(1)
    assert await changes(world) == [("M2", "team", 0, 40)]
    assert (await state(world.ledger, period_id="M3")).carry_nano_usd == 140
    assert await world.ledger.verify() == ()


async def test_a_top_up_after_the_closing_takes_from_the_next_period(world: World) -> None:
    months = await Months.begin(world, team=100, total=100)
    await held(world.ledger, 10, "h", period=months[1])
    months.pass_one()
    await months.close(1)
    wanted = (share("team", 30, months[1]), share("total", 30, months[1]))
    assert isinstance(await world.ledger.top_up("h", 30, wanted), Held)
    # `total` had no counter at the closing: it hands nothing on, now or later.
    assert await changes(world) == [("M1", "team", 0, -20)]
    await settle(world.ledger, "h", 30)
    assert (await changes(world))[1:] == [("M1", "team", 30, 0), ("M1", "total", 30, 0)]
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 70
    assert (await state(world.ledger, "total", "M2")).carry_nano_usd == 0
    assert await world.ledger.verify() == ()


async def test_thresholds_look_at_the_limit_with_its_carry(world: World) -> None:
    months = await Months.begin(world)
    months.pass_one()
    await months.close(1, team="team")
    await held(world.ledger, 150, "h", period=months[2])
    assert (await settle(world.ledger, "h", 99)).events == ()
    await held(world.ledger, 1, "i", period=months[2])
    (event,) = (await settle(world.ledger, "i", 1)).events
    assert (event.level, event.limit_nano_usd) == (Level.INFORMATIONAL, 200)
    assert event.spent_nano_usd == 100


async def test_thresholds_round_up_with_a_carry_too_and_survive_a_limit_below_zero(
    world: World,
) -> None:
    months = await Months.begin(world, team=100, debtor=100)
    for budget, cost in (("team", 1), ("debtor", 900)):
        await held(world.ledger, 1, budget, budgets={budget: 1}, period=months[1])
        await settle(world.ledger, budget, cost)
    months.pass_one()
    await months.close(1)
    await held(world.ledger, 199, "h", period=months[2])
    # Half of 199 is 99.5, and half a nanodollar is never spent.
    assert (await settle(world.ledger, "h", 99)).events == ()
    found = await state(world.ledger, "debtor", "M2")
    assert (found.bearable_nano_usd, found.remaining_nano_usd) == (-700, -700)
    await hold(
        world.ledger, 1, hold_id="d", budgets={"debtor": 1}, enforced=False, period=months[2]
    )
    events = (await settle(world.ledger, "d", 1)).events
    assert [event.level for event in events] == list(Level)


async def test_a_unicode_name_and_amounts_beyond_2_to_the_31_are_kept(world: World) -> None:
    await publish(world, "balance", user=10**15 + 1)
    months = Months(world, await world.ledger.now_ms())
    budget = 'user:"ä %s]\\'
    await held(world.ledger, 10**14, "h", budgets={budget: 10**14}, period=months[1])
    months.pass_one()
    (row,) = (await months.close(1)).rows
    assert (row.budget, row.rule) == (budget, "user")
    assert row.carried_nano_usd == 9 * 10**14 + 1
    await settle(world.ledger, "h", 10**14 - 1)
    assert [it[1:] for it in await changes(world)] == [(budget, 10**14 - 1, 1)]
    assert (await state(world.ledger, budget, "M2")).carry_nano_usd == 9 * 10**14 + 2
    assert await world.ledger.verify() == ()


async def test_a_period_without_any_budget_has_an_empty_statement(world: World) -> None:
    months = await Months.begin(world)
    months.pass_one()
    assert (await months.close(1)).rows == ()
    assert await world.ledger.verify() == ()


async def test_nothing_is_closed_where_a_limit_is_not_known(world: World) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 10, "h", period=months[1])
    months.pass_one()
    with pytest.raises(PolicyNotPublished):
        await months.close(1, stranger="stranger")
    assert await world.ledger.statement("M1") is None
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 0


@pytest.mark.parametrize(
    ("period", "following"),
    [
        (Period("a", 0, 9), Period("b", 10, 19)),
        (Period("a", 0, 9), Period("a", 9, 18)),
        (Period("", 0, 9), Period("b", 9, 18)),
        (Period("a:b", 0, 9), Period("b", 9, 18)),
    ],
)
async def test_a_period_is_only_closed_towards_the_one_after_it(
    world: World, period: Period, following: Period
) -> None:
    with pytest.raises(ValueError, match=r"period id|follow"):
        await world.ledger.close_period(period, following)


async def test_a_change_of_carry_alone_is_published(world: World) -> None:
    months = await Months.begin(world, "none")
    await publish(world, "balance", team=100)
    months.pass_one()
    await months.close(1, team="team")
    assert (await state(world.ledger, period_id="M2")).carry_nano_usd == 100


async def test_a_rule_published_without_carry_carries_nothing(world: World) -> None:
    await world.ledger.publish(policy(100))
    months = Months(world, await world.ledger.now_ms())
    months.pass_one()
    (row,) = (await months.close(1, team="team")).rows
    assert row.carried_nano_usd is None


async def test_the_open_holds_of_a_period_are_named_by_the_end_of_their_lease(
    world: World,
) -> None:
    months = await Months.begin(world)
    await held(world.ledger, 7, "long", period=months[1], lease_ms=9 * HOUR_MS)
    await held(world.ledger, 5, "short", period=months[1])
    await held(world.ledger, 1, "ended", period=months[1])
    await settle(world.ledger, "ended", 1)
    count, holds = await world.ledger.open_holds("M1", 9)
    assert (count, [it.hold_id for it in holds]) == (2, ["short", "long"])
    assert (holds[1].amount_nano_usd, holds[1].decision_id) == (7, "decision-long")
    assert holds[1].lease_until_ms - holds[1].time_ms == 9 * HOUR_MS
    count, holds = await world.ledger.open_holds("M1", 1)
    assert (count, len(holds)) == (2, 1)
    assert await world.ledger.open_holds("M2", 9) == (0, ())


# ── verify ───────────────────────────────────────────────────────────────────────────────────────


async def closed_books(world: RedisWorld) -> None:
    months = await Months.begin(world, team=100, total=300)
    for name in ("early", "late"):
        await held(world.ledger, 20, name, budgets={"team": 20, "total": 20}, period=months[1])
    await settle(world.ledger, "early", 5)
    months.pass_one()
    await months.close(1)
    await settle(world.ledger, "late", 30)
    assert await world.ledger.verify() == ()


async def test_a_changed_carry_is_found(redis_world: RedisWorld, redis_client: Redis) -> None:
    await closed_books(redis_world)
    await redis_client.hincrby(f"{redis_world.prefix}budget:M2:team", "carry", 1)
    await redis_client.hset(f"{redis_world.prefix}budget:M1:total", "carry", 4)
    assert await redis_world.ledger.verify() == (
        Difference("carry", "total", "M1", 4, 0),
        Difference("carry", "team", "M2", 66, 65),
        Difference("carried", "total", "M1", 265, 269),
    )


async def test_a_lost_addendum_a_lost_statement_row_and_a_lost_counter_are_found(
    redis_world: RedisWorld, redis_client: Redis
) -> None:
    await closed_books(redis_world)
    first, *_ = await all_addenda(redis_world)
    await redis_client.xdel(f"{redis_world.prefix}addenda", first.id)
    assert await redis_world.ledger.verify() == (Difference("carried", "team", "M1", 65, 75),)
    await redis_client.hdel(f"{redis_world.prefix}closed:M1", "limit:total")
    await redis_client.delete(f"{redis_world.prefix}budget:M2:team")
    assert {(it.counter, it.budget) for it in await redis_world.ledger.verify()} == {
        ("carried", "team"),
        ("carry", "team"),
        ("carried", "total"),
    }


async def test_a_changed_sum_of_unreconciled_charges_is_found(
    redis_world: RedisWorld, redis_client: Redis
) -> None:
    months = await Months.begin(redis_world)
    for name in ("lost", "corrected"):
        await held(redis_world.ledger, 20, name, period=months[1])
    redis_world.advance(LEASE_MS + 1)
    await redis_world.ledger.expire(9)
    await settle(redis_world.ledger, "corrected", 5)
    assert await redis_world.ledger.verify() == ()
    await redis_client.hincrby(f"{redis_world.prefix}budget:M1:team", "unreconciled", 3)
    assert await redis_world.ledger.verify() == (Difference("unreconciled", "team", "M1", 23, 20),)


async def test_late_settles_while_verifying_are_no_difference(redis_world: RedisWorld) -> None:
    months = await Months.begin(redis_world, team=10**9)
    ids = [f"h{number}" for number in range(80)]
    for hold_id in ids:
        await held(redis_world.ledger, 9, hold_id, period=months[1])
    months.pass_one()
    await months.close(1)

    async def settle_all() -> None:
        for number, hold_id in enumerate(ids):
            await settle(redis_world.ledger, hold_id, number % 12)

    settling = asyncio.create_task(settle_all())
    while not settling.done():
        assert await redis_world.ledger.verify() == ()
    await settling
    assert await redis_world.ledger.verify() == ()
    assert (await state(redis_world.ledger, period_id="M2")).carry_nano_usd == 10**9 - sum(
        number % 12 for number in range(80)
    )
