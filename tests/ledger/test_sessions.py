"""What is promised of sessions, on the model in memory and on real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from budgets.connection import AsyncClient
from budgets.sessions.memory import MemorySessions
from budgets.sessions.redis import RedisSessions
from budgets.sessions.types import Bounds, SessionBook, SessionState, session_id

LOW, HIGH = SessionState("FAST", 0, "a"), SessionState("COMPLEX", 2, "b")
BOUNDS = Bounds(expires_ms=60_000, per_key_max=3)


@dataclass
class Kept:
    """Sessions of one kind, and what lets time pass for them."""

    book: SessionBook
    advance: Callable[[int], None]


@pytest.fixture(params=["memory", "redis"])
def kept(request: pytest.FixtureRequest) -> Kept:
    if request.param == "memory":
        clock = [1_000_000]

        def pass_time(ms: int) -> None:
            clock[0] += ms

        return Kept(MemorySessions(lambda: clock[0]), pass_time)
    client: AsyncClient = request.getfixturevalue("redis_client")
    book = RedisSessions(client, uuid.uuid4().hex)

    def move(ms: int) -> None:
        book.clock_offset_ms += ms

    return Kept(book, move)


async def test_an_unknown_session_has_no_state(kept: Kept) -> None:
    assert await kept.book.read(session_id("k", "s")) is None


async def test_a_session_rises_and_does_not_fall(kept: Kept) -> None:
    session = session_id("k", "s")
    for state, wanted in ((LOW, LOW), (HIGH, HIGH), (LOW, HIGH)):
        await kept.book.note(session, state, BOUNDS)
        assert await kept.book.read(session) == wanted
    assert await kept.book.read(session_id("other", "s")) is None


async def test_the_group_changes_within_a_category(kept: Kept) -> None:
    session, other = session_id("k", "s"), SessionState("COMPLEX", 2, "c")
    await kept.book.note(session, HIGH, BOUNDS)
    await kept.book.note(session, other, BOUNDS)
    assert await kept.book.read(session) == other


async def test_a_session_ends_some_time_after_its_last_request(kept: Kept) -> None:
    session = session_id("k", "s")
    await kept.book.note(session, HIGH, BOUNDS)
    kept.advance(50_000)
    await kept.book.note(session, LOW, BOUNDS)
    kept.advance(50_000)
    assert await kept.book.read(session) == HIGH
    kept.advance(10_001)
    assert await kept.book.read(session) is None
    await kept.book.note(session, LOW, BOUNDS)
    assert await kept.book.read(session) == LOW


async def test_a_keys_sessions_are_bounded_and_no_other_keys_are_touched(kept: Kept) -> None:
    mine = session_id("other", "s")
    await kept.book.note(mine, HIGH, BOUNDS)
    many = [session_id("k", str(number)) for number in range(6)]
    for session in many:
        kept.advance(1)
        await kept.book.note(session, HIGH, BOUNDS)
    alive = [await kept.book.read(session) is not None for session in many]
    assert alive == [False] * 3 + [True] * 3
    assert await kept.book.read(mine) == HIGH


async def test_nothing_is_kept_in_redis_without_an_end(redis_client: AsyncClient) -> None:
    name = uuid.uuid4().hex
    await RedisSessions(redis_client, name).note(session_id("k", "s"), HIGH, BOUNDS)
    keys = [key async for key in redis_client.scan_iter(match=f"farebox:{{{name}}}:sessions*")]
    assert len(keys) == 2
    for key in keys:
        assert 0 < await redis_client.ttl(key) <= 60
