"""Slices of budgets that workers lease: what the store makes of them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from budgets.connection import AsyncClient
from budgets.errors import ClockSkew, LedgerPaused
from budgets.holds import HoldRequest
from budgets.leases.types import Adopted, Adoption, SliceReturn, SliceState, SliceTake
from budgets.ledger import Ledger
from budgets.period import Period
from budgets.settlements import Recovery, Settled, Settlement, Voiding
from tests.ledger.worlds import (
    CENT,
    LEASE_MS,
    USD,
    RedisWorld,
    World,
    all_entries,
    all_events,
    current_period,
    held,
    policy,
    refused,
    share,
    state,
)

SLICE_LEASE_MS = 10_000


async def take(ledger: Ledger, slice_id: str = "slice", most: int = USD, **more: Any) -> SliceState:
    """Take a slice of `team`: of the 10 dollars that are left, one."""
    return await ledger.take_slice(await wanted(ledger, slice_id, most, **more))


async def wanted(
    ledger: Ledger,
    slice_id: str,
    most: int = USD,
    *,
    budget: str = "team",
    least: int = 1,
    unreported: int = 10 * CENT,
    share_percent: int = 10,
    floor: int = 20,
    period: Period | None = None,
) -> SliceTake:
    return SliceTake(
        slice_id=slice_id,
        budget=budget,
        rule=budget.partition(":")[0],
        period=period or await current_period(ledger),
        most_nano_usd=most,
        least_nano_usd=least,
        unreported_nano_usd=unreported,
        share_percent=share_percent,
        direct_below_percent=floor,
        lease_ms=SLICE_LEASE_MS,
        stats_period="2026-11",
    )


async def adopt(
    ledger: Ledger, hold_id: str, amount: int, slices: dict[str, str] | None = None
) -> Adopted:
    """Adopt a request that came out of these slices, by budget."""
    slices = {"team": "slice"} if slices is None else slices
    period, now = await current_period(ledger), await ledger.now_ms()
    request = HoldRequest(
        hold_id=hold_id,
        amount_nano_usd=amount,
        budgets=tuple(share(budget, amount, period) for budget in slices),
        lease_ms=LEASE_MS,
        expected_end_ms_in=5_000,
        facts='{"v":1,"attempts":[],"status":"open"}',
        decision_id=f"decision-{hold_id}",
        decision='{"winner":"haiku"}',
        stats_period="2026-11",
    )
    named = {budget: it for budget, it in slices.items() if it}
    (done,) = await ledger.write_all([Adoption(request, named, now)])
    assert isinstance(done, Adopted)
    return done


async def give_back(ledger: Ledger, slice_id: str = "slice") -> None:
    assert await ledger.write_all([SliceReturn(slice_id)]) == (None,)


async def figures(ledger: Ledger, budget: str = "team") -> tuple[int, int, int]:
    """Return spent, held, and the number of holds; and see that they can be proved."""
    assert not await ledger.verify(every_hold=True)
    found = await state(ledger, budget)
    return found.spent_nano_usd, found.held_nano_usd, found.holds


@pytest.fixture
async def ledger(world: World) -> Ledger:
    await world.ledger.publish(policy(10 * USD))
    return world.ledger


async def test_a_slice_is_a_share_of_what_is_left_and_one_hold(ledger: Ledger) -> None:
    first = await take(ledger, most=5 * USD)
    assert first.granted_nano_usd == USD
    second = await take(ledger, "other", most=5 * USD)
    assert second.granted_nano_usd == 90 * CENT
    assert await figures(ledger) == (0, 190 * CENT, 2)
    assert second.state is not None and second.state.held_nano_usd == 190 * CENT


async def test_asking_again_takes_no_more(ledger: Ledger) -> None:
    for _ in range(2):
        assert (await take(ledger)).granted_nano_usd == USD
    assert await figures(ledger) == (0, USD, 1)


async def test_near_the_limit_nothing_is_handed_out(ledger: Ledger) -> None:
    await held(ledger, 8 * USD, "h")
    assert (await take(ledger)).granted_nano_usd == 20 * CENT
    await give_back(ledger)
    await held(ledger, CENT, "more")
    assert (await take(ledger, "other")).granted_nano_usd == 0
    assert await figures(ledger) == (0, 8 * USD + CENT, 2)


async def test_a_slice_that_is_too_small_is_none(ledger: Ledger) -> None:
    assert (await take(ledger, least=USD + 1)).granted_nano_usd == 0
    assert (await take(ledger, "other", least=USD)).granted_nano_usd == USD


async def test_an_adopted_request_has_a_hold_like_any_other(world: World, ledger: Ledger) -> None:
    await take(ledger)
    done = await adopt(ledger, "h", 30 * CENT)
    assert (done.repeated, done.unbacked_nano_usd, done.ended) == (False, 0, ())
    assert await figures(ledger) == (0, USD, 2)
    (settled,) = await ledger.write_all([Settlement("h", 20 * CENT, "{}", {}, {"requests": 1})])
    assert isinstance(settled, Settled)
    assert (settled.status, settled.held_nano_usd) == ("settled", 30 * CENT)
    assert await figures(ledger) == (20 * CENT, 70 * CENT, 1)
    await give_back(ledger)
    assert await figures(ledger) == (20 * CENT, 0, 0)
    assert [it.kind for it in await all_entries(ledger)] == ["settled"]
    assert await ledger.decision("decision-h") == '{"winner":"haiku"}'


async def test_an_adopted_request_of_a_worker_that_dies_is_charged_by_its_own_lease(
    world: World, ledger: Ledger
) -> None:
    await take(ledger)
    await adopt(ledger, "h", 30 * CENT)
    await give_back(ledger)
    world.advance(LEASE_MS)
    (entry,) = await ledger.expire(10)
    assert (entry.hold_id, entry.cost_nano_usd) == ("h", 30 * CENT)


async def test_adopting_again_changes_nothing(ledger: Ledger) -> None:
    await take(ledger)
    await adopt(ledger, "h", 30 * CENT)
    assert (await adopt(ledger, "h", 30 * CENT)).repeated
    assert await figures(ledger) == (0, USD, 2)
    await ledger.write_all([Settlement("h", CENT, "{}")])
    assert (await adopt(ledger, "h", 30 * CENT)).repeated
    assert await figures(ledger) == (CENT, 70 * CENT, 1)


async def test_a_request_can_come_out_of_several_slices_and_count_in_others(world: World) -> None:
    ledger = world.ledger
    await ledger.publish(policy(team=10 * USD, key=5 * USD, watched=USD))
    await take(ledger, "of team")
    await take(ledger, "of key", budget="key:a")
    slices = {"team": "of team", "key:a": "of key", "watched": ""}
    done = await adopt(ledger, "h", 30 * CENT, slices)
    assert [it.budget for it in done.states if it] == ["team", "key:a", "watched"]
    assert await figures(ledger) == (0, USD, 2)
    assert await figures(ledger, "key:a") == (0, 50 * CENT, 2)
    assert await figures(ledger, "watched") == (0, 30 * CENT, 1)
    await ledger.write_all([Settlement("h", 5 * CENT, "{}", {"watched": CENT})])
    assert await figures(ledger, "key:a") == (5 * CENT, 20 * CENT, 1)
    assert await figures(ledger, "watched") == (CENT, 0, 0)


async def test_a_killed_workers_slice_is_charged_with_what_it_can_have_admitted_unreported(
    world: World, ledger: Ledger
) -> None:
    """The rest goes back: nobody can have spent it."""
    await take(ledger, unreported=15 * CENT)
    await adopt(ledger, "h", 30 * CENT)
    await ledger.write_all([Settlement("h", 30 * CENT, "{}")])
    world.advance(SLICE_LEASE_MS)
    (entry,) = await ledger.expire(10)
    assert (entry.kind, entry.hold_id, entry.cost_nano_usd) == ("unreconciled", "slice", 15 * CENT)
    assert entry.held_nano_usd == 70 * CENT
    assert await figures(ledger) == (45 * CENT, 0, 0)


async def test_of_a_slice_no_more_is_charged_than_is_left(world: World, ledger: Ledger) -> None:
    await take(ledger, unreported=15 * CENT)
    await adopt(ledger, "h", 95 * CENT)
    world.advance(SLICE_LEASE_MS)
    (entry,) = await ledger.expire(10)
    assert entry.cost_nano_usd == 5 * CENT


async def test_a_renewed_slice_stays(world: World, ledger: Ledger) -> None:
    await take(ledger)
    world.advance(SLICE_LEASE_MS - 2_000)
    (found,) = await ledger.renew_slices([await wanted(ledger, "slice")], SLICE_LEASE_MS)
    assert found.granted_nano_usd == USD
    world.advance(SLICE_LEASE_MS - 2_000)
    assert not await ledger.expire(10)


async def test_a_late_report_corrects_what_the_lease_charged(world: World, ledger: Ledger) -> None:
    await take(ledger, unreported=50 * CENT)
    world.advance(SLICE_LEASE_MS)
    await ledger.expire(10)
    assert await figures(ledger) == (50 * CENT, 0, 0)
    (found,) = await ledger.renew_slices([await wanted(ledger, "slice")], SLICE_LEASE_MS)
    assert found.granted_nano_usd == 0
    done = await adopt(ledger, "h", 30 * CENT)
    assert (done.unbacked_nano_usd, done.ended) == (0, ("slice",))
    # It moved: the budget bears as much as before.
    assert await figures(ledger) == (20 * CENT, 30 * CENT, 1)
    await ledger.write_all([Settlement("h", 4 * CENT, "{}"), SliceReturn("slice")])
    assert await figures(ledger) == (4 * CENT, 0, 0)
    kinds = [(it.kind, it.hold_id) for it in await all_entries(ledger)]
    assert kinds == [
        ("unreconciled", "slice"),
        ("corrected", "slice"),
        ("settled", "h"),
        ("corrected", "slice"),
    ]
    assert sum(sum(it.charges.values()) for it in await all_entries(ledger)) == 4 * CENT


async def test_what_a_lost_slice_does_not_back_is_held_all_the_same(ledger: Ledger) -> None:
    """It has been sent. Only a store that lost its last writes comes to this."""
    done = await adopt(ledger, "h", 30 * CENT)
    assert (done.unbacked_nano_usd, done.ended) == (30 * CENT, ("slice",))
    assert await figures(ledger) == (0, 30 * CENT, 1)


async def test_a_void_before_the_report_keeps_the_hold_from_coming(ledger: Ledger) -> None:
    await take(ledger)
    await ledger.write_all([Voiding("h", "{}", {}, ahead=True)])
    assert (await adopt(ledger, "h", 30 * CENT)).repeated
    await give_back(ledger)
    assert await figures(ledger) == (0, 0, 0)


async def test_a_returned_slice_stays_away(ledger: Ledger) -> None:
    await take(ledger)
    for _ in range(2):
        await give_back(ledger)
    assert await figures(ledger) == (0, 0, 0)
    # So does one whose `take` is slower than its return.
    await give_back(ledger, "slow")
    for slice_id in ("slice", "slow"):
        assert (await take(ledger, slice_id)).granted_nano_usd == 0
    assert await figures(ledger) == (0, 0, 0)
    assert not await all_entries(ledger)


async def test_who_finds_no_room_calls_slices_back(world: World, ledger: Ledger) -> None:
    taken = await take(ledger)
    assert taken.recalled_ms == 0
    assert (await refused(ledger, 950 * CENT)).code == "budget_busy"
    await ledger.recall_slices([("team", "P1"), ("nobody", "P1")])
    (found,) = await ledger.renew_slices([await wanted(ledger, "slice")], SLICE_LEASE_MS)
    assert found.recalled_ms >= taken.time_ms
    done = await adopt(ledger, "h", CENT)
    assert done.recalled_ms == (found.recalled_ms,)
    assert (await take(ledger, "soon")).granted_nano_usd == 0
    world.advance(2_000)
    assert (await take(ledger, "later")).granted_nano_usd > 0


async def test_a_pause_and_a_strange_period_give_no_slice(world: World, ledger: Ledger) -> None:
    now = await ledger.now_ms()
    with pytest.raises(ClockSkew):
        await take(ledger, period=Period("P0", now - 20_000, now - 10_000))
    await ledger.pause(5_000)
    with pytest.raises(LedgerPaused):
        await take(ledger)
    # What was admitted is still reported: it moves money and takes none.
    await ledger.pause(0)
    await take(ledger)
    await ledger.pause(5_000)
    assert not (await adopt(ledger, "h", CENT)).repeated


async def test_thresholds_are_claimed_by_what_is_settled(ledger: Ledger) -> None:
    for number in range(8):
        await take(ledger, f"slice{number}", share_percent=100, unreported=USD)
        await adopt(ledger, f"h{number}", USD, {"team": f"slice{number}"})
        await ledger.write_all([Settlement(f"h{number}", USD, "{}")])
        await give_back(ledger, f"slice{number}")
    assert len(await all_events(ledger, "threshold")) == 2
    assert await figures(ledger) == (8 * USD, 0, 0)


async def test_rebuilding_keeps_slices(ledger: Ledger) -> None:
    await take(ledger)
    await adopt(ledger, uuid.uuid4().hex, 30 * CENT)
    assert not await ledger.rebuild("somebody", lease_ms=LEASE_MS, pause_ms=1_000)
    assert await figures(ledger) == (0, USD, 2)


async def test_a_report_comes_before_its_end_also_where_redis_does_not_know_the_script(
    redis_world: RedisWorld, redis_client: AsyncClient
) -> None:
    """The end of a hold that is not there yet would be charged as one that the store has lost."""
    ledger = redis_world.ledger
    await ledger.publish(policy(10 * USD))
    await take(ledger)
    await redis_client.script_flush()
    await held(ledger, CENT, "other")
    await ledger.settle(Settlement("other", CENT, "{}"))
    period, now = await current_period(ledger), await ledger.now_ms()
    budgets = (share("team", CENT, period),)
    asked = HoldRequest("h", CENT, budgets, LEASE_MS, 5, "{}", "d", "{}", "m")
    recovery = Recovery(CENT, budgets, now, "d", "m")
    _, settled = await ledger.write_all(
        [Adoption(asked, {"team": "slice"}, now), Settlement("h", 5, "{}", recovery=recovery)]
    )
    assert isinstance(settled, Settled)
    assert settled.status == "settled"
