"""The ledger's time never goes back, but for a step so large that the time before it was wrong."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from budgets.clock import STEP_MS_MAX, Guard, StepWatch
from budgets.errors import ClockSkew
from budgets.ledger import Leader
from budgets.period import Period
from tests.ledger.worlds import (
    LEASE_MS,
    RedisWorld,
    World,
    all_entries,
    all_events,
    held,
    hold,
    policy,
    refused,
    settle,
    state,
)

HOUR_MS = 3_600_000
BEHIND_MS = 30 * 60_000
"""A step back that is waited out."""
SLACK_MS = 20_000
"""Redis's clock goes on while a test runs."""


async def test_time_stands_still_while_the_clock_catches_up(world: World) -> None:
    await world.ledger.publish(policy(100))
    before = (await held(world.ledger, 1, "before")).time_ms
    world.advance(-BEHIND_MS)
    assert (await held(world.ledger, 1, "during")).time_ms == before
    assert (await settle(world.ledger, "before", 1)).time_ms == before
    assert await world.ledger.now_ms() == before
    world.advance(BEHIND_MS + 1000)
    after = (await held(world.ledger, 1, "after")).time_ms
    assert before + 1000 <= after < before + 1000 + SLACK_MS
    assert await all_events(world.ledger, "clock_stepped") == []


async def test_a_period_that_has_ended_does_not_come_back(world: World) -> None:
    await world.ledger.publish(policy(100))
    turn = await world.ledger.now_ms() + 1000
    old, new = Period("old", turn - HOUR_MS, turn), Period("new", turn, turn + 24 * HOUR_MS)
    world.advance(1500)
    await held(world.ledger, 1, "h", period=new)
    world.advance(-BEHIND_MS)
    with pytest.raises(ClockSkew) as skew:
        await hold(world.ledger, 1, period=old)
    assert new.contains(skew.value.now_ms)
    await held(world.ledger, 1, "i", period=new)


async def test_no_lease_ends_early_and_none_begins_anew_when_the_clock_steps_back(
    world: World,
) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 1, "h")
    world.advance(-BEHIND_MS)
    assert await world.ledger.renew(["h"], LEASE_MS) == 1
    world.advance(BEHIND_MS + LEASE_MS - SLACK_MS)
    assert await world.ledger.expire(9) == ()
    world.advance(2 * SLACK_MS)
    assert [entry.hold_id for entry in await world.ledger.expire(9)] == ["h"]


async def test_a_clock_that_went_far_back_is_taken_over_with_an_event(world: World) -> None:
    await world.ledger.publish(policy(100))
    wrong = (await held(world.ledger, 1, "wrong")).time_ms
    world.advance(-48 * HOUR_MS)
    right = (await held(world.ledger, 1, "right")).time_ms
    assert right < wrong - 47 * HOUR_MS
    (event,) = await all_events(world.ledger, "clock_stepped")
    assert event.time_ms == right
    assert json.loads(event.body) == {"from_ms": wrong, "to_ms": right}
    assert (await held(world.ledger, 1, "later")).time_ms >= right
    assert len(await all_events(world.ledger, "clock_stepped")) == 1
    assert await world.ledger.verify() == ()


async def test_a_dead_worker_s_hold_made_under_a_wrong_time_ends_after_its_lease(
    world: World,
) -> None:
    """Without that it would hold its money until the wrong time has come."""
    await world.ledger.publish(policy(100))
    world.advance(365 * 24 * HOUR_MS)
    await held(world.ledger, 7, "dead")
    world.advance(-365 * 24 * HOUR_MS)
    assert await world.ledger.expire(9) == ()
    world.advance(LEASE_MS - SLACK_MS)
    assert await world.ledger.expire(9) == ()
    world.advance(2 * SLACK_MS)
    assert [entry.hold_id for entry in await world.ledger.expire(9)] == ["dead"]
    assert await world.ledger.verify() == ()


async def test_a_hold_that_a_jump_ahead_ended_is_corrected_by_its_settle(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 7, "h")
    world.advance(24 * HOUR_MS)
    assert len(await world.ledger.expire(9)) == 1
    world.advance(-24 * HOUR_MS)
    assert (await settle(world.ledger, "h", 3)).status == "corrected"
    assert [entry.kind for entry in await all_entries(world.ledger)] == [
        "unreconciled",
        "corrected",
    ]
    assert (await state(world.ledger)).spent_nano_usd == 3
    assert await world.ledger.verify() == ()


async def test_a_leader_by_a_wrong_time_is_replaced_within_its_lease(world: World) -> None:
    world.advance(365 * 24 * HOUR_MS)
    assert await world.ledger.lead("sweeper", "ann", LEASE_MS)
    world.advance(-365 * 24 * HOUR_MS)
    assert not await world.ledger.lead("sweeper", "bob", LEASE_MS)
    (leader,) = await world.ledger.leaders()
    now = await world.ledger.now_ms()
    assert leader == Leader("sweeper", "ann", leader.until_ms)
    assert 0 < leader.until_ms - now <= LEASE_MS
    world.advance(LEASE_MS + 1)
    assert await world.ledger.lead("sweeper", "bob", LEASE_MS)


async def test_retry_after_is_bounded_whatever_the_clock_did(world: World) -> None:
    await world.ledger.publish(policy(10))
    world.advance(48 * HOUR_MS)
    await held(world.ledger, 10, "h")
    world.advance(-48 * HOUR_MS)
    assert (await refused(world.ledger, 5)).retry_after_ms == HOUR_MS


async def test_each_process_that_sees_a_step_logs_it_once(redis_world: RedisWorld) -> None:
    with capture_logs() as logs:
        for offset_ms in (0, BEHIND_MS, -BEHIND_MS, -3 * HOUR_MS, 1000):
            redis_world.advance(offset_ms)
            await redis_world.ledger.lead("sweeper", "ann", LEASE_MS)
    (line,) = [line for line in logs if line["event"] == "ledger_clock_stepped"]
    step_ms = 3 * HOUR_MS + BEHIND_MS
    assert step_ms - SLACK_MS < line["from_ms"] - line["to_ms"] <= step_ms


async def test_reading_the_time_remembers_nothing(world: World) -> None:
    """A question is not an operation: only what was written by a time binds the ledger to it."""
    start = await world.ledger.now_ms()
    world.advance(20 * 60_000)
    assert await world.ledger.now_ms() >= start + 20 * 60_000
    world.advance(-20 * 60_000)
    assert await world.ledger.now_ms() < start + SLACK_MS


def test_the_bound_itself_is_waited_out_and_a_millisecond_more_is_not() -> None:
    clock, steps = [STEP_MS_MAX + 1], []
    guard = Guard(lambda: clock[0], lambda before, now: steps.append((before, now)))
    assert guard.now_ms() == STEP_MS_MAX + 1
    clock[0] = 1
    assert (guard.now_ms(), steps) == (STEP_MS_MAX + 1, [])
    clock[0] = 0
    assert guard.peek_ms() == 0
    assert (guard.now_ms(), steps) == (0, [(STEP_MS_MAX + 1, 0)])
    assert guard.now_ms() == 0
    assert len(steps) == 1


def test_answers_that_overtake_each_other_are_no_step() -> None:
    watch = StepWatch()
    with capture_logs() as logs:
        for time_ms in (10**12, 10**12 - 500, 10**12 - STEP_MS_MAX):
            watch.saw(time_ms)
    assert logs == []
