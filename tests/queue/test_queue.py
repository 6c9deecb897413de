"""What every queue does, in memory and in Redis."""

from __future__ import annotations

import asyncio

from budgets.queue.items import BODY_SLACK_MS, Full, Need, Room, State
from tests.queue.conftest import Line
from tests.queue.items import HOUR_MS, LEASE_MS, ROOMY, add, claimed, new_item


async def test_what_was_kept_is_read_as_it_was_given(line: Line) -> None:
    needs = (Need("each-user:alice", "each-user", 5), Need("total", "total", 7))
    texts = {"webhook": "w", "decision_id": "d", "user": "al", "approval_id": "a-1"}
    kept = await add(line.queue, "q-one", needs=needs, priority=7, **texts)
    assert await line.queue.get("q-one") == kept
    assert (kept.needs, kept.priority, kept.state) == (needs, 7, State.WAITING)
    assert (kept.owner, kept.key_name) == ("key1", "alice")
    assert {name: getattr(kept, name) for name in texts} == texts
    assert kept.reason == "budget_exceeded"
    assert kept.expires_ms - kept.queued_ms == HOUR_MS
    assert await line.queue.body("q-one") == "sealed"
    assert await line.queue.answer("q-one") is None
    assert await line.queue.get("another") is None


async def test_the_same_id_is_kept_once(line: Line) -> None:
    first = await add(line.queue, "same")
    again = await line.queue.add(new_item("same", body="another"), ROOMY)
    assert again == first
    assert (await line.queue.totals()).depths[0].requests == 1
    assert await line.queue.body("same") == "sealed"


async def test_priority_comes_before_arrival(line: Line) -> None:
    for item_id, priority in (("a", 5), ("b", 0), ("c", 9), ("d", 5), ("e", 9)):
        await add(line.queue, item_id, priority=priority)
    assert [item.id for item in await line.queue.waiting(10)] == ["c", "e", "a", "d", "b"]
    assert [item.id for item in await line.queue.waiting(2)] == ["c", "e"]


async def test_a_category_s_room_is_bounded_by_number_and_by_bytes(line: Line) -> None:
    room = Room(requests_max=2, bytes_max=250)
    assert not isinstance(await line.queue.add(new_item("a"), room), Full)
    assert not isinstance(await line.queue.add(new_item("b"), room), Full)
    assert await line.queue.add(new_item("c", bytes=1), room) == Full("requests")
    wider = Room(requests_max=3, bytes_max=250)
    assert await line.queue.add(new_item("c", bytes=51), wider) == Full("bytes")
    other = await line.queue.add(new_item("d", category="NORMAL"), room)
    assert not isinstance(other, Full)
    assert await line.queue.get("c") is None


async def test_room_is_free_again_once_a_request_has_ended(line: Line) -> None:
    room = Room(requests_max=1, bytes_max=1_000)
    await line.queue.add(new_item("a"), room)
    await line.queue.claim("a", "me", LEASE_MS)
    assert await line.queue.add(new_item("b"), room) == Full("requests")
    assert await line.queue.finish("a", "me", 200, "sealed answer")
    assert not isinstance(await line.queue.add(new_item("b"), room), Full)


async def test_only_one_of_many_claims_a_request(line: Line) -> None:
    item = await add(line.queue)
    claims = await asyncio.gather(
        *(line.queue.claim(item.id, f"runner{n}", LEASE_MS) for n in range(8))
    )
    (winner,) = [claim for claim in claims if claim is not None]
    assert winner.state is State.RUNNING
    assert await line.queue.waiting(10) == ()


async def test_an_answer_ends_a_request_and_its_body(line: Line) -> None:
    item = await claimed(line.queue)
    assert not await line.queue.finish(item.id, "another", 200, "forged")
    assert await line.queue.finish(item.id, "me", 200, "sealed answer")
    assert not await line.queue.finish(item.id, "me", 200, "twice")
    done = await line.queue.get(item.id)
    assert done is not None and (done.state, done.status, done.reason) == (State.DONE, 200, "")
    assert await line.queue.answer(item.id) == "sealed answer"
    assert await line.queue.body(item.id) is None


async def test_an_answer_is_kept_for_its_time(line: Line) -> None:
    item = await claimed(line.queue)
    await line.queue.finish(item.id, "me", 200, "sealed answer")
    line.advance(HOUR_MS - 1_000)
    assert await line.queue.answer(item.id) == "sealed answer"
    line.advance(2_000)
    assert await line.queue.answer(item.id) is None
    assert await line.queue.get(item.id) is not None


async def test_what_finds_no_budget_waits_again_in_its_old_place(line: Line) -> None:
    first = await claimed(line.queue, "first")
    await add(line.queue, "second")
    state = await line.queue.release(
        first.id, "me", reason="budget_busy", wait_ms=5_000, failed=False, new_run=False
    )
    assert state is State.WAITING
    again, second = await line.queue.waiting(10)
    assert (again.id, second.id) == ("first", "second")
    assert (again.attempts, again.run, again.reason) == (0, 1, "budget_busy")
    assert again.not_before_ms > second.not_before_ms == 0
    assert again.hold_id == first.hold_id


async def test_the_last_attempt_ends_on_the_dead_letter_list(line: Line) -> None:
    item = await add(line.queue, attempts_max=2)
    for expected in (State.WAITING, State.DEAD):
        taken = await line.queue.claim(item.id, "me", LEASE_MS)
        assert taken is not None
        state = await line.queue.release(
            item.id, "me", reason="http_500", wait_ms=0, failed=True, new_run=True
        )
        assert state is expected
    (dead,) = await line.queue.listed(State.DEAD, 10)
    assert (dead.attempts, dead.run, dead.reason) == (2, 3, "http_500")
    assert await line.queue.body(item.id) == "sealed"
    assert (await line.queue.totals()).dead == 1


async def test_sends_that_a_worker_died_in_are_counted_for_each_run(line: Line) -> None:
    item = await claimed(line.queue, attempts_max=9)
    for lost, new_run, expected in ((True, False, 1), (True, False, 2), (False, False, 2)):
        await line.queue.release(
            item.id, "me", reason="interrupted", wait_ms=0, failed=True, new_run=new_run, lost=lost
        )
        taken = await line.queue.claim(item.id, "me", LEASE_MS)
        assert taken is not None and (taken.lost, taken.charged) == (expected, True)
    await line.queue.release(item.id, "me", reason="http_500", wait_ms=0, failed=True, new_run=True)
    again = await line.queue.get(item.id)
    assert again is not None and (again.lost, again.run, again.charged) == (0, 2, False)


async def test_a_dead_request_can_be_tried_again_under_a_new_id(line: Line) -> None:
    item = await claimed(line.queue)
    assert not await line.queue.retry(item.id)
    assert await line.queue.bury(item.id, "me", "key_revoked")
    assert await line.queue.retry(item.id)
    assert not await line.queue.retry(item.id)
    (again,) = await line.queue.waiting(10)
    assert again.attempts == 0
    assert again.hold_id != item.hold_id
    assert (await line.queue.totals()).depths[0].requests == 1


async def test_a_waiting_request_expires_with_its_body(line: Line) -> None:
    late = await add(line.queue, expires_in_ms=2 * HOUR_MS)
    item = await add(line.queue)
    assert await line.queue.expire(10) == ()
    line.advance(HOUR_MS + 1)
    assert await line.queue.claim(item.id, "me", LEASE_MS) is None
    assert await line.queue.expire(10) == (item.id,)
    (dead,) = await line.queue.listed(State.DEAD, 10)
    assert (dead.id, dead.reason) == (item.id, "expired")
    assert await line.queue.body(item.id) is None
    assert not await line.queue.retry(item.id)
    assert [it.id for it in await line.queue.waiting(10)] == [late.id]


async def test_a_dead_request_s_body_goes_with_its_expiry(line: Line) -> None:
    item = await claimed(line.queue)
    await line.queue.bury(item.id, "me", "http_400")
    line.advance(HOUR_MS + 1)
    assert not await line.queue.retry(item.id)
    line.advance(BODY_SLACK_MS)
    assert await line.queue.body(item.id) is None


async def test_cancelling_ends_what_waits_or_is_dead_and_nothing_else(line: Line) -> None:
    waiting = await add(line.queue)
    running = await claimed(line.queue)
    assert await line.queue.cancel(waiting.id)
    assert not await line.queue.cancel(waiting.id)
    assert not await line.queue.cancel(running.id)
    assert not await line.queue.cancel("unknown")
    assert await line.queue.body(waiting.id) is None
    (ended,) = await line.queue.listed(State.CANCELLED, 10)
    assert ended.id == waiting.id
    assert (await line.queue.totals()).depths[0].requests == 1
    await line.queue.bury(running.id, "me", "http_400")
    assert await line.queue.cancel(running.id)


async def test_a_lease_that_is_not_renewed_makes_an_orphan(line: Line) -> None:
    item = await claimed(line.queue)
    line.advance(LEASE_MS - 1_000)
    assert await line.queue.renew(item.id, "me", LEASE_MS)
    assert not await line.queue.renew(item.id, "another", LEASE_MS)
    line.advance(LEASE_MS - 1_000)
    assert await line.queue.orphans(10) == ()
    assert not await line.queue.adopt(item.id, "me", "heir", LEASE_MS)
    line.advance(2_000)
    (orphan,) = await line.queue.orphans(10)
    assert (orphan.id, orphan.runner, orphan.hold_id) == (item.id, "me", item.hold_id)
    assert await line.queue.adopt(item.id, "me", "heir", LEASE_MS)
    assert not await line.queue.adopt(item.id, "me", "second heir", LEASE_MS)
    assert not await line.queue.finish(item.id, "me", 200, "from the grave")
    assert await line.queue.orphans(10) == ()
    assert await line.queue.finish(item.id, "heir", 200, "answer")


async def test_hurrying_ends_every_pause(line: Line) -> None:
    item = await claimed(line.queue)
    await line.queue.release(
        item.id, "me", reason="http_500", wait_ms=60_000, failed=True, new_run=True
    )
    assert await line.queue.hurry() == 1
    assert await line.queue.hurry() == 0
    (again,) = await line.queue.waiting(10)
    assert again.not_before_ms == 0


async def test_the_totals_say_what_waits_and_what_it_will_cost(line: Line) -> None:
    empty = await line.queue.totals()
    assert (empty.depths, empty.oldest_ms, empty.age_ms()) == ((), None, 0)
    await add(line.queue)
    line.advance(60_000)
    await claimed(line.queue, category="NORMAL", estimate_nano_usd=10**15, bytes=3)
    totals = await line.queue.totals()
    assert [(d.category, d.requests, d.bytes) for d in totals.depths] == [
        ("FAST", 1, 100),
        ("NORMAL", 1, 3),
    ]
    assert totals.estimate_nano_usd == 4_000_000 + 10**15
    assert (totals.waiting, totals.running, totals.dead) == (1, 1, 0)
    assert totals.age_ms() >= 60_000
