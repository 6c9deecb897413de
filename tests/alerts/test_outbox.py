"""The outbox, in memory and in Redis: nothing raised is lost, nothing is delivered by two."""

from __future__ import annotations

import asyncio
import json

from budgets.alerts.outbox import (
    HOUR_MS,
    HOURS_KEPT,
    Alert,
    Delivery,
    Gathered,
    Progress,
    Raised,
    Watched,
)
from budgets.grants.types import Granted, grant_to
from budgets.published import Level
from tests.alerts.conftest import Post
from tests.ledger.worlds import CENT, USD, all_events, current_period, held, policy, settle

LEASE_MS = 60_000
NOW_STALE_MS = 0
"""Lines that another worker took count as left behind at once."""


async def spend(post: Post, amount: int, hold_id: str) -> None:
    await held(post.ledger, amount, hold_id)
    await settle(post.ledger, hold_id, amount)


async def routed(post: Post, *channels: str, body: str = "{}") -> Raised:
    """Raise a test alert and route it to channels."""
    await post.outbox.raise_alert("test", body)
    (raised,) = await post.outbox.take_raised(10, LEASE_MS)
    alert = Alert(raised.id, raised.kind, "warning", raised.time_ms, "{}")
    assert await post.outbox.route(raised.line, alert, channels)
    return raised


async def taken(post: Post) -> Delivery:
    (delivery,) = await post.outbox.take_due(10, LEASE_MS)
    return delivery


async def channel_of(post: Post, raised: Raised) -> Progress:
    found = await post.outbox.progress(raised.id)
    assert found is not None
    (progress,) = found[1]
    return progress


# ── raising ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_claimed_threshold_is_in_the_outbox_with_its_event(post: Post) -> None:
    await post.ledger.publish(policy(USD))
    await spend(post, 85 * CENT, "a")
    raised = await post.outbox.take_raised(10, LEASE_MS)
    assert [json.loads(it.body)["level"] for it in raised] == ["informational", "warning"]
    events = await all_events(post.ledger, "threshold")
    assert [(it.id, it.kind, it.time_ms, it.body) for it in raised] == [
        (it.id, it.kind, it.time_ms, it.body) for it in events
    ]


async def test_a_raised_limit_alone_raises_the_same_level_again(post: Post) -> None:
    await post.ledger.publish(policy(USD))
    await spend(post, 85 * CENT, "a")
    await post.ledger.publish(policy(USD))
    await spend(post, CENT, "b")
    assert len(await post.outbox.take_raised(10, LEASE_MS)) == 2
    await post.ledger.publish(policy(USD + 5 * CENT))
    await spend(post, CENT, "c")
    again = await post.outbox.take_raised(10, LEASE_MS)
    assert [json.loads(it.body)["limit_epoch"] for it in again] == [2, 2]


async def test_a_grant_raises_the_same_level_again_and_lets_a_forecast_be_claimed(
    post: Post,
) -> None:
    await post.ledger.publish(policy(USD))
    period = await current_period(post.ledger)
    watched = Watched("team", "team", period)
    await spend(post, 85 * CENT, "a")
    assert await post.outbox.claim(watched, "forecast", "", 1, "{}")
    assert len(await post.outbox.take_raised(10, LEASE_MS)) == 3
    said = {"actor": "ann", "reason": "the release"}
    answer = await post.ledger.grant(grant_to("g", "team", "team", period, CENT, **said))
    assert isinstance(answer, Granted)
    await spend(post, CENT, "b")
    again = [json.loads(it.body) for it in await post.outbox.take_raised(10, LEASE_MS)]
    assert [(it["level"], it["limit_epoch"]) for it in again] == [
        ("informational", 2),
        ("warning", 2),
    ]
    assert {it["limit_nano_usd"] for it in again} == {USD + CENT}
    assert await post.outbox.claim(watched, "forecast", "", 2, "{}")
    assert not await post.outbox.claim(watched, "forecast", "", 2, "{}")


async def test_other_events_are_not_in_the_outbox(post: Post) -> None:
    await post.outbox.note("recovered", "{}")
    assert await post.outbox.take_raised(10, LEASE_MS) == ()
    assert len(await all_events(post.ledger, "recovered")) == 1


# ── routing ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_raised_alert_is_handed_to_one_worker(post: Post) -> None:
    for _ in range(5):
        await post.outbox.raise_alert("test", "{}")
    taken = await asyncio.gather(*(post.outbox.take_raised(2, LEASE_MS) for _ in range(4)))
    lines = [it.line for some in taken for it in some]
    assert len(lines) == len(set(lines)) == 5
    assert await post.outbox.take_raised(10, LEASE_MS) == ()
    assert (await post.outbox.depths()).raised == 5


async def test_what_a_dead_worker_took_and_never_routed_is_handed_out_again(post: Post) -> None:
    await post.outbox.raise_alert("test", "{}")
    (first,) = await post.outbox.take_raised(10, LEASE_MS)
    (again,) = await post.outbox.take_raised(10, NOW_STALE_MS)
    assert again == first
    alert = Alert(again.id, again.kind, "warning", again.time_ms, "{}")
    assert await post.outbox.route(again.line, alert, ["mail"])
    # The first one was only slow: its routing comes too late to make a second delivery.
    assert not await post.outbox.route(first.line, alert, ["mail", "pager"])
    assert await post.outbox.take_raised(10, NOW_STALE_MS) == ()
    depths = await post.outbox.depths()
    assert (depths.raised, depths.waiting) == (0, 1)


async def test_an_alert_for_no_channel_ends_there(post: Post) -> None:
    raised = await routed(post)
    assert await post.outbox.progress(raised.id) == ("warning", ())
    assert await post.outbox.take_due(10, LEASE_MS) == ()


# ── delivering ───────────────────────────────────────────────────────────────────────────────────


async def test_each_channel_gets_its_own_delivery_once(post: Post) -> None:
    raised = await routed(post, "mail", "pager")
    both = await asyncio.gather(*(post.outbox.take_due(10, LEASE_MS) for _ in range(5)))
    deliveries = [it for some in both for it in some]
    assert sorted(it.key for it in deliveries) == [f"{raised.id}|mail", f"{raised.id}|pager"]
    for delivery in deliveries:
        assert await post.outbox.delivered(delivery)
        assert not await post.outbox.delivered(delivery)
    found = await post.outbox.progress(raised.id)
    assert found is not None and [it.state for it in found[1]] == ["delivered", "delivered"]
    depths = await post.outbox.depths()
    assert (depths.waiting, depths.delivered) == (0, {"mail": 1, "pager": 1})


async def test_a_delivery_comes_back_when_its_holder_died(post: Post) -> None:
    await routed(post, "mail")
    first = await taken(post)
    assert await post.outbox.take_due(10, LEASE_MS) == ()
    post.advance(LEASE_MS + 1)
    second = await taken(post)
    assert (second.key, second.taken) == (first.key, 2)
    # It was not dead after all: its failure is no news, its success is.
    assert not await post.outbox.failed(first, "too late", 10)
    assert not await post.outbox.postpone(first, 10)
    assert await post.outbox.delivered(first)
    assert not await post.outbox.delivered(second)


async def test_a_failure_is_due_again_after_its_pause_and_counted(post: Post) -> None:
    raised = await routed(post, "mail")
    assert await post.outbox.failed(await taken(post), "status 503", 30_000)
    assert await post.outbox.take_due(10, LEASE_MS) == ()
    post.advance(30_001)
    again = await taken(post)
    assert again.attempts == 1
    assert (await channel_of(post, raised)).error == "status 503"
    assert await post.outbox.delivered(again)
    assert (await channel_of(post, raised)).error == ""
    assert (await post.outbox.depths()).failed == {"mail": 1}


async def test_quiet_hours_put_a_delivery_off_without_an_attempt(post: Post) -> None:
    await routed(post, "mail")
    assert await post.outbox.postpone(await taken(post), HOUR_MS)
    post.advance(HOUR_MS + 1)
    assert (await taken(post)).attempts == 0


async def test_what_is_given_up_is_kept_and_can_begin_anew(post: Post) -> None:
    raised = await routed(post, "mail")
    await post.outbox.failed(await taken(post), "status 500", 0)
    assert await post.outbox.failed(await taken(post), "status 410", None)
    (dead,) = await post.outbox.dead()
    assert (dead.alert.id, dead.progress.attempts, dead.progress.error) == (
        raised.id,
        2,
        "status 410",
    )
    assert (await post.outbox.depths()).dead == 1
    key = f"{raised.id}|mail"
    assert await post.outbox.retry(["nonsense", "1-1|mail", key]) == 1
    assert await post.outbox.retry([key]) == 0
    again = await taken(post)
    assert (again.key, again.attempts) == (key, 0)
    assert await post.outbox.delivered(again)
    assert await post.outbox.dead() == ()
    assert (await post.outbox.depths()).given_up == {"mail": 1}


# ── sums of the hours, forecast and rate ─────────────────────────────────────────────────────────


async def test_samples_add_up_what_each_hour_spent(post: Post) -> None:
    await post.ledger.publish(policy(USD))
    await spend(post, 10 * CENT, "before")
    watched = Watched("team", "team", await current_period(post.ledger))
    (first,) = await post.outbox.sample([watched])
    assert first.hours == {}, "when that was spent is not known"
    await spend(post, 3 * CENT, "a")
    (second,) = await post.outbox.sample([watched])
    assert list(second.hours.values()) == [3 * CENT]
    assert second.state.spent_nano_usd == 13 * CENT
    post.advance(HOUR_MS)
    await spend(post, 4 * CENT, "b")
    await asyncio.gather(*(post.outbox.sample([watched]) for _ in range(5)))
    (third,) = await post.outbox.sample([watched])
    assert [third.hours[it] for it in sorted(third.hours)] == [3 * CENT, 4 * CENT]
    assert third.since_ms == first.since_ms <= first.time_ms
    post.advance(HOURS_KEPT * HOUR_MS)
    (last,) = await post.outbox.sample([watched])
    assert list(last.hours.values()) == [4 * CENT]


async def test_a_new_periods_first_sample_counts_all_that_it_has_spent(post: Post) -> None:
    await post.ledger.publish(policy(USD))
    period = await current_period(post.ledger)
    await post.outbox.sample([Watched("team", "team", period)])
    later = type(period)("P2", period.start_ms, period.end_ms)
    await held(post.ledger, 5 * CENT, "h", period=later)
    await settle(post.ledger, "h", 5 * CENT)
    (sample,) = await post.outbox.sample([Watched("team", "team", later)])
    assert list(sample.hours.values()) == [5 * CENT]


async def test_a_budget_that_nobody_published_is_left_out(post: Post) -> None:
    watched = Watched("team", "team", await current_period(post.ledger))
    assert await post.outbox.sample([watched]) == ()
    assert not await post.outbox.claim(watched, "forecast", "", 1, "{}")


async def test_a_forecast_is_claimed_once_and_again_with_a_raised_limit(post: Post) -> None:
    await post.ledger.publish(policy(USD))
    watched = Watched("team", "team", await current_period(post.ledger))
    won = await asyncio.gather(
        *(post.outbox.claim(watched, "forecast", "", 1, "{}") for _ in range(5))
    )
    assert sum(won) == 1
    await post.ledger.publish(policy(USD - 1))
    assert not await post.outbox.claim(watched, "forecast", "", 1, "{}")
    await post.ledger.publish(policy(USD))
    assert not await post.outbox.claim(watched, "forecast", "", 1, "{}"), "judged by an old limit"
    assert await post.outbox.claim(watched, "forecast", "", 2, "{}")
    assert [it.kind for it in await post.outbox.take_raised(10, LEASE_MS)] == ["forecast"] * 2


async def test_a_rate_is_claimed_once_a_day(post: Post) -> None:
    await post.ledger.publish(policy(USD))
    watched = Watched("team", "team", await current_period(post.ledger))
    days = ["2026-11-21", "2026-11-21", "2026-11-22"]
    won = [await post.outbox.claim(watched, "rate", day, 1, "{}") for day in days]
    assert won == [True, False, True]


# ── events that are told together ────────────────────────────────────────────────────────────────


async def test_events_are_told_at_once_and_then_together(post: Post) -> None:
    async def gather(after: str, to: str, *found: Gathered) -> bool:
        kinds = {it.kind: it for it in found}
        return await post.outbox.gather(
            after, to, [kinds.get(it, Gathered(it)) for it in ("lost", "overage")], HOUR_MS
        )

    async def told() -> list[tuple[str, int, int]]:
        raised = await post.outbox.take_raised(10, 10 * HOUR_MS)
        bodies = [json.loads(it.body) for it in raised]
        return [(it["of"], it["count"], it["sum_nano_usd"]) for it in bodies]

    assert await post.outbox.gathered_to() == ""
    assert await gather("", "1-0")
    assert await told() == []
    assert await gather("1-0", "2-0", Gathered("overage", 3, 30))
    assert not await gather("1-0", "2-0", Gathered("overage", 3, 30)), "somebody else was first"
    assert await told() == [("overage", 3, 30)]
    assert await gather("2-0", "3-0", Gathered("overage", 2, 5), Gathered("lost", 1))
    assert await told() == [("lost", 1, 0)]
    assert await gather("3-0", "4-0", Gathered("overage", 1, 1))
    post.advance(HOUR_MS + 1)
    assert await gather("4-0", "4-0")
    assert await told() == [("overage", 3, 6)]
    assert await post.outbox.gathered_to() == "4-0"


# ── levels that nobody was told of ───────────────────────────────────────────────────────────────


async def test_every_level_of_a_budget_is_raised(post: Post) -> None:
    await post.ledger.publish(policy(USD))
    await spend(post, USD, "a")
    raised = await post.outbox.take_raised(10, LEASE_MS)
    assert [json.loads(it.body)["level"] for it in raised] == [level.value for level in Level]
