"""Promises 1, 6 and 7: what is admitted, what is refused, and in which period it counts."""

from __future__ import annotations

import asyncio

import pytest

from budgets.errors import ClockSkew, HoldIdReused, PolicyNotPublished, PolicyOutrun
from budgets.holds import Held, HoldRequest, Refused
from budgets.published import Level
from budgets.settlements import SettleStatus
from tests.ledger.worlds import (
    CENT,
    DAY_MS,
    LEASE_MS,
    USD,
    World,
    all_entries,
    all_events,
    current_period,
    held,
    hold,
    policy,
    refused,
    settle,
    share,
    state,
    today,
)


async def test_twenty_requests_of_five_cents_fit_a_dollar_exactly(world: World) -> None:
    await world.ledger.publish(policy(USD))
    for number in range(20):
        await held(world.ledger, 5 * CENT, f"h{number}")
        await settle(world.ledger, f"h{number}", 5 * CENT)
    answer = await refused(world.ledger, 1)
    assert answer.code == "budget_exceeded"
    assert answer.state.spent_nano_usd == USD
    assert answer.state.remaining_nano_usd == 0


async def test_concurrent_holds_admit_exactly_what_fits(world: World) -> None:
    await world.ledger.publish(policy(22 * CENT))
    answers = await asyncio.gather(*(hold(world.ledger, 11 * CENT // 10) for _ in range(90)))
    assert sum(isinstance(answer, Held) for answer in answers) == 20
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"budget_busy"}
    found = await state(world.ledger)
    assert (found.held_nano_usd, found.holds) == (22 * CENT, 20)


async def test_a_hold_says_where_its_budgets_stand_after_it(world: World) -> None:
    await world.ledger.publish(policy(team=USD, total=2 * USD))
    answer = await held(world.ledger, 7, "h", budgets={"total": 7, "team": 5})
    assert [it.budget for it in answer.states] == ["total", "team"]
    assert [it.held_nano_usd for it in answer.states] == [7, 5]
    assert [it.remaining_nano_usd for it in answer.states] == [2 * USD - 7, USD - 5]
    assert [it.limit_epoch for it in answer.states] == [1, 1]


async def test_one_rule_keeps_a_counter_for_each_value(world: World) -> None:
    await world.ledger.publish(policy(user=10))
    await held(world.ledger, 10, "a", budgets={"user:ann": 10})
    await held(world.ledger, 10, "b", budgets={"user:bob": 10})
    answer = await refused(world.ledger, 1, budgets={"user:ann": 1})
    assert (answer.state.budget, answer.state.rule) == ("user:ann", "user")


async def test_all_budgets_admit_or_none_is_touched(world: World) -> None:
    await world.ledger.publish(policy(wide=USD, narrow=5))
    await refused(world.ledger, 6, budgets={"wide": 6, "narrow": 6})
    for budget in ("wide", "narrow"):
        found = await state(world.ledger, budget)
        assert (found.spent_nano_usd, found.held_nano_usd, found.holds) == (0, 0, 0)
    assert await all_entries(world.ledger) == []


async def test_what_would_fit_once_holds_end_is_busy_with_the_time_of_the_next_end(
    world: World,
) -> None:
    await world.ledger.publish(policy(10))
    await held(world.ledger, 6, "slow", expected_end_ms_in=60_000)
    await held(world.ledger, 2, "quick", expected_end_ms_in=20_000)
    answer = await refused(world.ledger, 5)
    assert answer.code == "budget_busy"
    assert answer.requested_nano_usd == 5
    assert answer.retry_after_ms is not None
    assert 10_000 < answer.retry_after_ms <= 20_000
    assert answer.period_end_ms > answer.time_ms


async def test_retry_after_is_never_in_the_past(world: World) -> None:
    await world.ledger.publish(policy(10))
    await held(world.ledger, 10, "h", expected_end_ms_in=0)
    assert (await refused(world.ledger, 5)).retry_after_ms in (250, 1000)
    world.advance(10)
    assert (await refused(world.ledger, 5)).retry_after_ms == 1000


async def test_exceeded_outweighs_busy_and_the_tightest_budget_is_named(world: World) -> None:
    await world.ledger.publish(policy(busy=10, tight=3, tighter=2))
    await held(world.ledger, 10, "h", budgets={"busy": 10})
    answer = await refused(world.ledger, 5, budgets={"busy": 5, "tight": 5, "tighter": 5})
    assert (answer.code, answer.state.budget) == ("budget_exceeded", "tighter")
    assert answer.retry_after_ms is None
    assert [it.budget for it in answer.states] == ["busy", "tight", "tighter"]


async def test_a_budget_in_shadow_mode_counts_and_never_refuses(world: World) -> None:
    await world.ledger.publish(policy(5))
    answer = await held(world.ledger, 6, "h", enforced=False)
    assert answer.would_refuse == "budget_exceeded"
    assert (await state(world.ledger)).held_nano_usd == 6
    assert (await state(world.ledger)).claimed == ()
    assert (await held(world.ledger, 0, "i", enforced=False)).would_refuse == "budget_busy"


@pytest.mark.parametrize("order", [("busy", "tight"), ("tight", "busy")])
async def test_the_graver_code_of_the_shadow_is_told(world: World, order: list[str]) -> None:
    await world.ledger.publish(policy(busy=10, tight=3))
    await held(world.ledger, 10, "h", budgets={"busy": 10})
    budgets = dict.fromkeys(order, 5)
    answer = await held(world.ledger, 5, "i", budgets=budgets, enforced=False)
    assert answer.would_refuse == "budget_exceeded"


async def test_a_budget_in_shadow_mode_claims_nothing_when_another_refuses(world: World) -> None:
    await world.ledger.publish(policy(real=3, shadow=3))
    period = await current_period(world.ledger)
    asked = (share("shadow", 5, period, enforced=False), share("real", 5, period))
    answer = await world.ledger.hold(
        HoldRequest("h", 5, asked, LEASE_MS, 1000, "{}", "d", "{}", "2026-11")
    )
    assert isinstance(answer, Refused)
    assert [(it.budget, it.level) for it in answer.events] == [("real", Level.EMERGENCY)]
    assert [it.claimed for it in answer.states] == [(), (Level.EMERGENCY,)]


async def test_a_hold_of_nothing_is_a_hold(world: World) -> None:
    await world.ledger.publish(policy(0))
    await held(world.ledger, 0, "h")
    assert (await settle(world.ledger, "h", 0)).status is SettleStatus.SETTLED
    assert (await state(world.ledger)).claimed == ()


async def test_a_hold_without_budgets_still_leaves_an_entry(world: World) -> None:
    await world.ledger.publish(policy(1))
    await held(world.ledger, 5, "h", budgets={})
    await settle(world.ledger, "h", 4)
    (entry,) = await all_entries(world.ledger)
    assert (entry.cost_nano_usd, entry.charges) == (4, {})


async def test_a_repeated_hold_is_the_same_hold(world: World) -> None:
    await world.ledger.publish(policy(10))
    first = await held(world.ledger, 6, "h")
    again = await held(world.ledger, 6, "h")
    assert (first.repeated, again.repeated) == (False, True)
    assert again.states == first.states
    assert (await state(world.ledger)).held_nano_usd == 6


@pytest.mark.parametrize("end", ["settle", "void", "expire"])
async def test_an_ended_hold_is_never_admitted_again(world: World, end: str) -> None:
    await world.ledger.publish(policy(10))
    await held(world.ledger, 6, "h")
    if end == "settle":
        await settle(world.ledger, "h", 1)
    elif end == "void":
        await world.ledger.void("h", "{}", {})
    else:
        world.advance(LEASE_MS + 1)
        await world.ledger.expire(10)
    with pytest.raises(HoldIdReused):
        await hold(world.ledger, 1, hold_id="h")


async def test_a_rule_that_nobody_published_admits_nothing(world: World) -> None:
    await world.ledger.publish(policy(10))
    with pytest.raises(PolicyNotPublished) as caught:
        await hold(world.ledger, 1, budgets={"other": 1})
    assert caught.value.rule == "other"


async def test_a_period_that_has_ended_by_the_stores_clock_is_not_admitted(world: World) -> None:
    await world.ledger.publish(policy(10))
    day = await today(world.ledger)
    world.advance(DAY_MS)
    with pytest.raises(ClockSkew) as caught:
        await hold(world.ledger, 1, period=day)
    assert not day.contains(caught.value.now_ms)
    await held(world.ledger, 1, "h", period=await today(world.ledger))


async def test_a_new_period_starts_with_nothing_spent(world: World) -> None:
    await world.ledger.publish(policy(10))
    first = await today(world.ledger)
    await held(world.ledger, 10, "h1", period=first, lease_ms=3 * DAY_MS)
    await settle(world.ledger, "h1", 10)
    world.advance(DAY_MS)
    second = await today(world.ledger)
    await held(world.ledger, 10, "h2", period=second)
    assert (await state(world.ledger, period_id=first.id)).spent_nano_usd == 10
    assert (await state(world.ledger, period_id=second.id)).spent_nano_usd == 0


async def test_a_settle_belongs_to_the_period_of_its_hold(world: World) -> None:
    await world.ledger.publish(policy(10))
    first = await today(world.ledger)
    await held(world.ledger, 5, "h", period=first, lease_ms=3 * DAY_MS)
    world.advance(DAY_MS)
    await settle(world.ledger, "h", 4)
    second = await today(world.ledger)
    assert (await state(world.ledger, period_id=first.id)).spent_nano_usd == 4
    assert (await state(world.ledger, period_id=second.id)).spent_nano_usd == 0


async def test_a_policy_that_arrives_late_brings_no_old_limit_back(world: World) -> None:
    old, new = policy(10), policy(5)
    first = await world.ledger.publish(old)
    second = await world.ledger.publish(new)
    with pytest.raises(PolicyOutrun) as caught:
        await world.ledger.publish(old, after=first)
    assert caught.value.revision == second
    assert (await state(world.ledger)).limit_nano_usd == 5
    assert await world.ledger.publish(new, after=0) == second
    assert await world.ledger.publish(old, after=second) == second + 1
    assert (await state(world.ledger)).limit_nano_usd == 10


async def test_a_top_up_raises_a_hold_to_its_target(world: World) -> None:
    await world.ledger.publish(policy(team=10, total=20))
    await held(world.ledger, 4, "h", budgets={"team": 4})
    period = await current_period(world.ledger)
    answer = await world.ledger.top_up(
        "h", 8, (share("team", 8, period), share("total", 8, period))
    )
    assert isinstance(answer, Held)
    assert [(it.budget, it.held_nano_usd, it.holds) for it in answer.states] == [
        ("team", 8, 1),
        ("total", 8, 1),
    ]
    assert (await settle(world.ledger, "h", 7)).held_nano_usd == 8
    for budget in ("team", "total"):
        found = await state(world.ledger, budget)
        assert (found.spent_nano_usd, found.held_nano_usd, found.holds) == (7, 0, 0)


async def test_a_top_up_never_lowers_a_hold(world: World) -> None:
    await world.ledger.publish(policy(10))
    await held(world.ledger, 8, "h")
    period = await current_period(world.ledger)
    assert isinstance(await world.ledger.top_up("h", 3, (share("team", 3, period),)), Held)
    assert (await state(world.ledger)).held_nano_usd == 8
    assert (await settle(world.ledger, "h", 1)).held_nano_usd == 8


async def test_a_share_that_need_not_grow_is_not_judged_again(world: World) -> None:
    await world.ledger.publish(policy(team=10, total=20))
    await held(world.ledger, 8, "h", budgets={"team": 8})
    await world.ledger.publish(policy(team=1, total=20))
    period = await current_period(world.ledger)
    shares = (share("team", 8, period), share("total", 9, period))
    assert isinstance(await world.ledger.top_up("h", 9, shares), Held)


async def test_a_top_up_that_does_not_fit_changes_nothing(world: World) -> None:
    await world.ledger.publish(policy(team=10, total=20))
    await held(world.ledger, 4, "h", budgets={"team": 4})
    await held(world.ledger, 4, "other", budgets={"team": 4})
    period = await current_period(world.ledger)
    wider = (share("total", 7, period), share("team", 7, period))
    answer = await world.ledger.top_up("h", 7, wider)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.state.budget) == ("budget_busy", "team")
    exceeded = await world.ledger.top_up("h", 11, (share("team", 11, period),))
    assert isinstance(exceeded, Refused)
    assert exceeded.code == "budget_exceeded"
    assert (await state(world.ledger, "total")).held_nano_usd == 0
    assert (await state(world.ledger, "team")).held_nano_usd == 8
    assert await all_events(world.ledger, "threshold") == []


async def test_only_an_open_hold_is_topped_up(world: World) -> None:
    await world.ledger.publish(policy(10))
    period = await current_period(world.ledger)
    assert await world.ledger.top_up("nobody", 1, (share("team", 1, period),)) is None
    await held(world.ledger, 1, "h")
    await settle(world.ledger, "h", 1)
    assert await world.ledger.top_up("h", 5, (share("team", 5, period),)) is None


async def test_a_budget_joins_a_hold_in_the_period_of_the_hold(world: World) -> None:
    await world.ledger.publish(policy(team=10, total=20))
    first = await today(world.ledger)
    await held(world.ledger, 1, "h", budgets={"team": 1}, period=first, lease_ms=3 * DAY_MS)
    world.advance(DAY_MS)
    second = await today(world.ledger)
    with pytest.raises(ClockSkew) as caught:
        await world.ledger.top_up("h", 2, (share("total", 2, second),))
    assert first.contains(caught.value.now_ms)
    assert isinstance(await world.ledger.top_up("h", 2, (share("total", 2, first),)), Held)


async def test_the_first_exceeded_refusal_claims_the_emergency(world: World) -> None:
    await world.ledger.publish(policy(10))
    first = await refused(world.ledger, 11)
    assert [event.level for event in first.events] == [Level.EMERGENCY]
    assert first.state.claimed == (Level.EMERGENCY,)
    assert (await refused(world.ledger, 11)).events == ()
    assert len(await all_events(world.ledger, "threshold")) == 1


@pytest.mark.parametrize("amount", [-1, 10**16, True])
async def test_amounts_that_would_damage_the_books_are_not_taken(world: World, amount: int) -> None:
    await world.ledger.publish(policy(10))
    with pytest.raises(ValueError, match="amount"):
        await hold(world.ledger, amount)


async def test_the_largest_amounts_stay_exact(world: World) -> None:
    limit = 9_000_000 * USD
    await world.ledger.publish(policy(limit))
    await held(world.ledger, limit - 1, "h")
    await settle(world.ledger, "h", limit - 1)
    assert (await state(world.ledger)).remaining_nano_usd == 1
    assert (await refused(world.ledger, 2)).code == "budget_exceeded"
    await held(world.ledger, 1, "last")
    (entry,) = await all_entries(world.ledger)
    assert entry.charges == {("team", "P1"): limit - 1}
