"""Promises 2 to 4: every hold ends once, is charged in full, and survives its owner."""

from __future__ import annotations

import asyncio
import json
import random
from functools import reduce

import pytest

from budgets.errors import HoldIdReused
from budgets.learned import LearnedOutput
from budgets.learning import observe
from budgets.period import Period
from budgets.published import Level
from budgets.records import RefusalRecord
from budgets.settlements import OutputSample, Recovery, Settlement, SettleStatus
from tests.ledger.worlds import (
    DAY_MS,
    LEASE_MS,
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


async def test_a_settle_charges_the_actual_cost_and_frees_the_rest(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 60, "h")
    answer = await settle(world.ledger, "h", 45)
    assert (answer.status, answer.charged_nano_usd) == (SettleStatus.SETTLED, 45)
    assert (answer.held_nano_usd, answer.overage_nano_usd) == (60, 0)
    found = await state(world.ledger)
    assert (found.spent_nano_usd, found.held_nano_usd, found.holds) == (45, 0, 0)
    (entry,) = await all_entries(world.ledger)
    assert (entry.kind, entry.hold_id, entry.cost_nano_usd) == ("settled", "h", 45)
    assert (entry.held_nano_usd, entry.charges) == (60, {("team", "P1"): 45})
    assert (entry.body, entry.time_ms) == ('{"cost":45}', answer.time_ms)


async def test_a_second_settle_changes_nothing(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 60, "h")
    answers = await asyncio.gather(*(settle(world.ledger, "h", 45 + n) for n in range(5)))
    assert sorted(answer.status for answer in answers) == ["already_settled"] * 4 + ["settled"]
    assert len({answer.charged_nano_usd for answer in answers}) == 1
    assert len(await all_entries(world.ledger)) == 1
    assert (await world.ledger.counters("2026-11"))["requests"] == 1


async def test_a_void_releases_without_a_charge(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 60, "h")
    answer = await world.ledger.void("h", '{"status":"not_sent"}', {"requests": 1})
    assert (answer.status, answer.charged_nano_usd) == (SettleStatus.VOIDED, 0)
    found = await state(world.ledger)
    assert (found.spent_nano_usd, found.held_nano_usd) == (0, 0)
    (entry,) = await all_entries(world.ledger)
    assert (entry.kind, entry.charges) == ("voided", {("team", "P1"): 0})


async def test_a_void_claims_no_threshold(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 20, "s")
    await held(world.ledger, 20, "v")
    await settle(world.ledger, "s", 20)
    await world.ledger.publish(policy(30))
    assert (await world.ledger.void("v", "{}", {})).events == ()
    assert (await state(world.ledger)).claimed == ()


async def test_a_hold_that_ended_is_no_longer_waited_for(world: World) -> None:
    await world.ledger.publish(policy(10))
    await held(world.ledger, 4, "quick", expected_end_ms_in=10_000)
    await held(world.ledger, 4, "slow", expected_end_ms_in=60_000)
    await world.ledger.void("quick", "{}", {})
    retry_after_ms = (await refused(world.ledger, 8)).retry_after_ms
    assert retry_after_ms is not None
    assert retry_after_ms > 30_000


async def test_the_first_end_decides(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 10, "v")
    await world.ledger.void("v", "{}", {})
    late = await settle(world.ledger, "v", 9)
    assert (late.status, late.charged_nano_usd) == (SettleStatus.ALREADY_VOIDED, 0)
    await held(world.ledger, 10, "s")
    await settle(world.ledger, "s", 9)
    late = await world.ledger.void("s", "{}", {})
    assert (late.status, late.charged_nano_usd) == (SettleStatus.ALREADY_SETTLED, 9)
    assert (await world.ledger.void("v", "{}", {})).status is SettleStatus.ALREADY_VOIDED


async def test_a_hold_that_nobody_made_is_unknown(world: World) -> None:
    await world.ledger.publish(policy(100))
    assert (await settle(world.ledger, "nobody", 9)).status is SettleStatus.UNKNOWN_HOLD
    assert (await world.ledger.void("nobody", "", {})).status is SettleStatus.UNKNOWN_HOLD
    assert await all_entries(world.ledger) == []


def lost(held_at_ms: int, **budgets: int) -> Recovery:
    """Return what an owner knows of a hold that the store has lost."""
    period = Period("P1", held_at_ms - DAY_MS, held_at_ms + DAY_MS)
    shares = tuple(share(name, amount, period) for name, amount in budgets.items())
    return Recovery(60, shares, held_at_ms, "decision-h", "2026-11")


async def test_a_hold_that_the_store_lost_is_charged_once(world: World) -> None:
    await world.ledger.publish(policy(team=100, model=100))
    recovery = lost(await world.ledger.now_ms(), team=60, model=30)
    settlement = Settlement("h", 55, '{"n":1}', {"model": 20}, {"requests": 1}, recovery=recovery)
    answers = await asyncio.gather(*(world.ledger.settle(settlement) for _ in range(4)))
    assert sorted(it.status for it in answers) == ["already_settled"] * 3 + ["recovered"]
    first = next(it for it in answers if it.status is SettleStatus.RECOVERED)
    assert (first.charged_nano_usd, first.held_nano_usd, first.overage_nano_usd) == (55, 60, 0)
    assert [event.level for event in first.events] == [Level.INFORMATIONAL]
    (entry,) = await all_entries(world.ledger)
    assert (entry.kind, entry.hold_id, entry.cost_nano_usd) == ("recovered", "h", 55)
    assert (entry.body, entry.held_nano_usd) == ('{"n":1}', 60)
    assert entry.charges == {("team", "P1"): 55, ("model", "P1"): 20}
    found = await state(world.ledger)
    assert (found.spent_nano_usd, found.held_nano_usd, found.holds) == (55, 0, 0)
    (event,) = await all_events(world.ledger, "recovered")
    assert json.loads(event.body) == {
        "hold_id": "h",
        "decision_id": "decision-h",
        "charged_nano_usd": 55,
    }
    totals = await world.ledger.counters("2026-11")
    assert totals == {"requests": 1, "recovered_count": 1, "recovered_nano": 55}
    assert await world.ledger.verify() == ()
    with pytest.raises(HoldIdReused):
        await hold(world.ledger, 1, hold_id="h")
    assert (await world.ledger.void("h", "{}", {})).status is SettleStatus.ALREADY_SETTLED


async def test_a_lost_hold_above_its_amount_is_an_overage(world: World) -> None:
    await world.ledger.publish(policy(100))
    recovery = lost(await world.ledger.now_ms(), team=60)
    answer = await world.ledger.settle(Settlement("h", 80, "{}", recovery=recovery))
    assert (answer.charged_nano_usd, answer.overage_nano_usd) == (80, 20)
    assert len(await all_events(world.ledger, "overage")) == 1


async def test_a_lost_hold_is_charged_where_the_limits_are_lost_as_well(world: World) -> None:
    recovery = lost(await world.ledger.now_ms(), team=60)
    answer = await world.ledger.settle(Settlement("h", 9, "{}", recovery=recovery))
    assert answer.status is SettleStatus.RECOVERED
    await world.ledger.publish(policy(100))
    assert (await state(world.ledger)).spent_nano_usd == 9
    assert await world.ledger.verify() == ()


async def test_a_hold_that_the_store_knows_is_settled_and_not_recovered(world: World) -> None:
    await world.ledger.publish(policy(100))
    made = await held(world.ledger, 60, "h")
    recovery = lost(made.time_ms, team=99)
    answer = await world.ledger.settle(Settlement("h", 45, "{}", recovery=recovery))
    assert (answer.status, answer.held_nano_usd) == (SettleStatus.SETTLED, 60)
    assert "recovered_count" not in await world.ledger.counters("2026-11")


async def test_a_hold_so_old_that_it_may_be_forgotten_is_not_charged_again(world: World) -> None:
    await world.ledger.publish(policy(100))
    now_ms = await world.ledger.now_ms()
    old = Settlement("old", 9, "{}", recovery=lost(now_ms - 7 * DAY_MS, team=60))
    assert (await world.ledger.settle(old)).status is SettleStatus.UNKNOWN_HOLD
    young = Settlement("young", 9, "{}", recovery=lost(now_ms - 7 * DAY_MS + 60_000, team=60))
    assert (await world.ledger.settle(young)).status is SettleStatus.RECOVERED
    assert (await state(world.ledger)).spent_nano_usd == 9


async def test_overage_is_charged_in_full_and_recorded(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 10, "h")
    answer = await settle(world.ledger, "h", 250)
    assert (answer.charged_nano_usd, answer.overage_nano_usd) == (250, 240)
    found = await state(world.ledger)
    assert (found.spent_nano_usd, found.remaining_nano_usd) == (250, -150)
    (event,) = await all_events(world.ledger, "overage")
    assert json.loads(event.body) == {
        "hold_id": "h",
        "decision_id": "decision-h",
        "cost_nano_usd": 250,
        "held_nano_usd": 10,
        "overage_nano_usd": 240,
    }
    totals = await world.ledger.counters("2026-11")
    assert (totals["overage_count"], totals["overage_nano"]) == (1, 240)
    assert (await refused(world.ledger, 1)).code == "budget_exceeded"


async def test_a_budget_is_charged_its_own_part_where_one_is_given(world: World) -> None:
    await world.ledger.publish(policy(team=100, model=100))
    await held(world.ledger, 10, "h", budgets={"team": 10, "model": 4})
    answer = await settle(world.ledger, "h", 9, model=6, stranger=50)
    assert (await state(world.ledger, "team")).spent_nano_usd == 9
    assert (await state(world.ledger, "model")).spent_nano_usd == 6
    assert answer.overage_nano_usd == 2
    (entry,) = await all_entries(world.ledger)
    assert entry.charges == {("team", "P1"): 9, ("model", "P1"): 6}


async def test_a_lease_that_ends_charges_the_hold(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 60, "h")
    assert await world.ledger.expire(10) == ()
    world.advance(LEASE_MS + 1)
    (entry,) = await world.ledger.expire(10)
    assert (entry.kind, entry.cost_nano_usd) == ("unreconciled", 60)
    assert entry.body == '{"v":1,"attempts":[],"status":"open"}'
    assert entry.charges == {("team", "P1"): 60}
    assert await world.ledger.expire(10) == ()
    assert await all_entries(world.ledger) == [entry]
    found = await state(world.ledger)
    assert (found.spent_nano_usd, found.held_nano_usd, found.holds) == (60, 0, 0)
    (event,) = await all_events(world.ledger, "unreconciled")
    assert json.loads(event.body)["charged_nano_usd"] == 60
    totals = await world.ledger.counters("2026-11")
    assert totals == {"unreconciled_count": 1, "unreconciled_nano": 60}


async def test_leases_end_in_their_order_and_no_more_than_asked(world: World) -> None:
    await world.ledger.publish(policy(100))
    for number in range(5):
        await held(world.ledger, 1, f"h{number}", lease_ms=LEASE_MS + 1000 * (5 - number))
    world.advance(2 * LEASE_MS)
    assert [entry.hold_id for entry in await world.ledger.expire(3)] == ["h4", "h3", "h2"]
    assert [entry.hold_id for entry in await world.ledger.expire(3)] == ["h1", "h0"]


@pytest.mark.parametrize("cost", [0, 45, 60, 75])
async def test_a_late_settle_corrects_an_expired_hold_once(world: World, cost: int) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 60, "h")
    world.advance(LEASE_MS + 1)
    await world.ledger.expire(10)
    answer = await settle(world.ledger, "h", cost)
    assert (answer.status, answer.charged_nano_usd) == (SettleStatus.CORRECTED, cost)
    assert answer.overage_nano_usd == max(0, cost - 60)
    assert (await state(world.ledger)).spent_nano_usd == cost
    entry = (await all_entries(world.ledger))[-1]
    assert (entry.kind, entry.cost_nano_usd) == ("corrected", cost)
    assert entry.charges == {("team", "P1"): cost - 60}
    assert (await settle(world.ledger, "h", 99)).status is SettleStatus.ALREADY_SETTLED
    assert (await state(world.ledger)).spent_nano_usd == cost
    totals = await world.ledger.counters("2026-11")
    assert (totals["requests"], totals["actual_nano"]) == (1, cost)
    assert (totals["corrected_count"], totals["corrected_nano"]) == (1, 60)
    assert await world.ledger.verify() == ()


async def test_a_late_void_corrects_an_expired_hold_to_nothing(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 60, "h")
    world.advance(LEASE_MS + 1)
    await world.ledger.expire(10)
    answer = await world.ledger.void("h", "{}", {})
    assert (answer.status, answer.charged_nano_usd) == (SettleStatus.CORRECTED, 0)
    assert (await state(world.ledger)).spent_nano_usd == 0
    assert (await settle(world.ledger, "h", 5)).status is SettleStatus.ALREADY_VOIDED


async def test_a_renewed_lease_does_not_end(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 1, "kept")
    await held(world.ledger, 1, "left")
    await held(world.ledger, 1, "ended")
    await settle(world.ledger, "ended", 1)
    world.advance(LEASE_MS // 2)
    assert await world.ledger.renew(["kept", "ended", "nobody"], LEASE_MS) == 1
    world.advance(LEASE_MS // 2 + 1000)
    assert [entry.hold_id for entry in await world.ledger.expire(10)] == ["left"]


async def test_a_renewal_never_shortens_a_lease(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 1, "h")
    assert await world.ledger.renew(["h"], 1) == 1
    world.advance(1000)
    assert await world.ledger.expire(10) == ()


async def test_a_hold_keeps_its_decision(world: World) -> None:
    await world.ledger.publish(policy(100))
    await held(world.ledger, 1, "h")
    assert await world.ledger.decision("decision-h") == '{"winner":"haiku"}'
    assert await world.ledger.decision("nobody") is None


async def test_a_refusal_is_recorded_once_with_its_decision(world: World) -> None:
    record = RefusalRecord("d1", "unknown_price", '{"model":"x"}', '{"no":1}', "2026-11", {"n": 1})
    await world.ledger.refuse(record)
    await world.ledger.refuse(record)
    (line,) = [line async for line in world.ledger.refusals()]
    assert (line.kind, line.body) == ("unknown_price", '{"model":"x"}')
    assert await world.ledger.decision("d1") == '{"no":1}'
    assert await world.ledger.counters("2026-11") == {"n": 1}


async def test_streams_are_read_in_either_direction_and_go_on_where_they_stopped(
    world: World,
) -> None:
    await world.ledger.publish(policy(10_000))
    for number in range(7):
        await held(world.ledger, 1, f"h{number}")
        await settle(world.ledger, f"h{number}", 1)
    oldest_first = await all_entries(world.ledger)
    newest_first = [entry async for entry in world.ledger.entries(newest_first=True)]
    assert [entry.hold_id for entry in oldest_first] == [f"h{number}" for number in range(7)]
    assert newest_first == oldest_first[::-1]
    middle = oldest_first[3].id
    assert [it async for it in world.ledger.entries(after=middle)] == oldest_first[4:]
    older = [it async for it in world.ledger.entries(after=middle, newest_first=True)]
    assert older == oldest_first[2::-1]


async def test_output_lengths_are_learned_from_the_first_observation_on(world: World) -> None:
    await world.ledger.publish(policy(100))
    for number, tokens in enumerate([100, 200, 150]):
        await held(world.ledger, 0, f"h{number}")
        sample = OutputSample("refactoring|haiku", tokens)
        await world.ledger.settle(Settlement(f"h{number}", 0, "{}", samples=(sample,)))
        await world.ledger.settle(Settlement(f"h{number}", 0, "{}", samples=(sample,)))
    learned = (await world.ledger.learned()).outputs["refactoring|haiku"]
    assert learned.count == 3
    # 100, then 100 + 0.1 × 100 = 110, then 110 + 0.1 × 40 = 114.
    assert learned.mean_tokens == pytest.approx(114)
    assert learned.quantile95_tokens > learned.mean_tokens


async def test_every_store_learns_by_the_same_arithmetic(world: World) -> None:
    await world.ledger.publish(policy(100))
    chance = random.Random(7)
    lengths = [chance.randrange(10, 4000) for _ in range(40)]
    for number, tokens in enumerate(lengths):
        await held(world.ledger, 0, f"h{number}")
        samples = (OutputSample("a", tokens), OutputSample("b:c", 2 * tokens))
        await world.ledger.settle(Settlement(f"h{number}", 0, "{}", samples=samples))
    expected = reduce(observe, lengths, None)
    assert expected is not None
    learned = (await world.ledger.learned()).outputs
    assert learned.keys() == {"a", "b:c"}
    assert learned["a"] == LearnedOutput(expected.mean, expected.quantile95, 40)


async def test_an_expired_hold_charges_each_budget_its_own_share(world: World) -> None:
    await world.ledger.publish(policy(team=100, model=100))
    await held(world.ledger, 10, "h", budgets={"team": 10, "model": 4})
    world.advance(LEASE_MS + 1)
    (entry,) = await world.ledger.expire(1)
    assert entry.charges == {("team", "P1"): 10, ("model", "P1"): 4}


async def test_texts_come_back_as_they_went_in(world: World) -> None:
    text = '{"empty":[],"text":"ü 💶 \\" \\n","number":12345678901234567890}'
    await world.ledger.publish(policy(100))
    asked = await hold(world.ledger, 0, hold_id="h")
    assert asked
    await world.ledger.settle(Settlement("h", 0, text))
    (entry,) = await all_entries(world.ledger)
    assert entry.body == text
