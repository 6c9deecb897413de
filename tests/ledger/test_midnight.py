"""Promise 7 at the edges of a period: a request that begins on one side and ends on the other.

A clock that steps back makes the ledger's time stand still, so that a test can meet a millisecond
exactly, on Redis too.
"""

from __future__ import annotations

import pytest

from budgets.errors import ClockSkew
from budgets.holds import Held
from budgets.period import Period
from tests.ledger.worlds import (
    LEASE_MS,
    World,
    all_entries,
    held,
    hold,
    policy,
    refused,
    settle,
    share,
    state,
)

HOUR_MS = 3_600_000


async def stand_still(world: World) -> int:
    """Stop the ledger's time and return it."""
    now = (await held(world.ledger, 0, "clock", budgets={})).time_ms
    world.advance(-HOUR_MS // 2)
    assert await world.ledger.now_ms() == now
    return now


async def evening(world: World) -> tuple[Period, Period]:
    """Return a day that ends in half an hour, and the one after it."""
    midnight = await world.ledger.now_ms() + HOUR_MS // 2
    days = (midnight - 24 * HOUR_MS, midnight, midnight + 24 * HOUR_MS)
    return Period("2026-11-21", days[0], days[1]), Period("2026-11-22", days[1], days[2])


async def test_a_hold_at_the_last_millisecond_belongs_to_the_old_period(world: World) -> None:
    await world.ledger.publish(policy(10))
    now = await stand_still(world)
    old = Period("old", now - HOUR_MS, now + 1)
    assert (await held(world.ledger, 10, "h", period=old)).time_ms == old.end_ms - 1
    assert (await state(world.ledger, period_id="old")).held_nano_usd == 10


async def test_a_hold_at_the_first_millisecond_belongs_to_the_new_period(world: World) -> None:
    await world.ledger.publish(policy(10))
    now = await stand_still(world)
    old, new = Period("old", now - HOUR_MS, now), Period("new", now, now + HOUR_MS)
    with pytest.raises(ClockSkew) as skew:
        await hold(world.ledger, 1, period=old)
    assert skew.value.now_ms == now
    await held(world.ledger, 10, "h", period=new)
    assert (await state(world.ledger, period_id="old")).held_nano_usd == 0


async def test_a_period_ends_with_its_last_millisecond_for_closing_too(world: World) -> None:
    await world.ledger.publish(policy(10))
    now = await stand_still(world)
    early = Period("early", now - HOUR_MS, now + 1), Period("next", now + 1, now + HOUR_MS)
    assert type(await world.ledger.close_period(*early)).__name__ == "PeriodOpen"
    ended = Period("ended", now - HOUR_MS, now), Period("after", now, now + HOUR_MS)
    assert type(await world.ledger.close_period(*ended)).__name__ == "Statement"


async def test_a_request_over_midnight_is_charged_to_the_day_on_which_it_began(
    world: World,
) -> None:
    await world.ledger.publish(policy(10))
    today, tomorrow = await evening(world)
    await held(world.ledger, 8, "h", period=today, lease_ms=24 * HOUR_MS)
    world.advance(HOUR_MS)
    assert (await refused(world.ledger, 11, period=tomorrow)).code == "budget_exceeded"
    await held(world.ledger, 10, "morning", period=tomorrow)
    await settle(world.ledger, "h", 6)
    (entry,) = await all_entries(world.ledger)
    assert entry.charges == {("team", "2026-11-21"): 6}
    assert not today.contains(entry.time_ms)
    assert (await state(world.ledger, period_id=today.id)).spent_nano_usd == 6
    assert (await state(world.ledger, period_id=tomorrow.id)).spent_nano_usd == 0


async def test_a_lease_that_ends_after_midnight_is_charged_to_the_day_of_its_hold(
    world: World,
) -> None:
    await world.ledger.publish(policy(10))
    today, tomorrow = await evening(world)
    await held(world.ledger, 8, "h", period=today, lease_ms=HOUR_MS // 2 + LEASE_MS)
    world.advance(HOUR_MS // 2 + 2 * LEASE_MS)
    (entry,) = await world.ledger.expire(9)
    assert entry.charges == {("team", today.id): 8}
    await held(world.ledger, 10, "morning", period=tomorrow)


async def test_a_top_up_after_midnight_raises_the_hold_in_the_day_of_the_hold(
    world: World,
) -> None:
    """A budget that joins then must be named in the period of the hold, not in today's."""
    await world.ledger.publish(policy(team=10, total=10))
    today, tomorrow = await evening(world)
    first = await held(world.ledger, 4, "h", period=today, lease_ms=24 * HOUR_MS)
    world.advance(HOUR_MS)
    with pytest.raises(ClockSkew) as skew:
        await world.ledger.top_up("h", 6, (share("team", 6, tomorrow), share("total", 6, tomorrow)))
    assert skew.value.now_ms == first.time_ms
    raised = await world.ledger.top_up(
        "h", 6, (share("team", 6, tomorrow), share("total", 6, today))
    )
    assert isinstance(raised, Held)
    assert {it.period_id for it in raised.states} == {today.id}
    await settle(world.ledger, "h", 5)
    for budget in ("team", "total"):
        assert (await state(world.ledger, budget, today.id)).spent_nano_usd == 5
        assert (await state(world.ledger, budget, tomorrow.id)).spent_nano_usd == 0
    assert await world.ledger.verify() == ()
