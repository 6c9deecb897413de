"""What workers say about themselves, on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis import asyncio as redis_asyncio

from budgets.workers import STALE_AFTER_MS, WorkerStatus, publish, read, withdraw
from tests.ledger import conftest as suite

redis_socket = suite.redis_socket

NOW = 1_790_000_000_000
STATUS = WorkerStatus(
    worker="w1", host="here", pid=7, time_ms=NOW, started_ms=NOW - 5_000, mode="enforce",
    policy_digest="abc", policy_loaded_ms=NOW - 4_000, policy_errors=("budgets.yaml:3: x",),
    simulated_groups=("minimax",), open_requests=2,
)  # fmt: skip


@pytest.fixture
async def client(redis_socket: str) -> AsyncIterator[redis_asyncio.Redis]:
    made = redis_asyncio.Redis(unix_socket_path=redis_socket, decode_responses=True)
    await made.flushall()
    yield made
    await made.aclose()


async def test_a_worker_is_read_as_it_described_itself(client: redis_asyncio.Redis) -> None:
    await publish(client, "books", STATUS)
    assert await read(client, "books", NOW) == (STATUS,)
    assert await read(client, "other", NOW) == ()


async def test_a_newer_word_replaces_the_older_and_workers_come_by_name(
    client: redis_asyncio.Redis,
) -> None:
    await publish(client, "books", replace(STATUS, worker="w2"))
    await publish(client, "books", STATUS)
    await publish(client, "books", replace(STATUS, open_requests=9))
    first, second = await read(client, "books", NOW)
    assert (first.worker, first.open_requests, second.worker) == ("w1", 9, "w2")


async def test_a_worker_that_goes_quiet_or_withdraws_is_forgotten(
    client: redis_asyncio.Redis,
) -> None:
    await publish(client, "books", STATUS)
    assert await read(client, "books", NOW + STALE_AFTER_MS) == (STATUS,)
    assert await read(client, "books", NOW + STALE_AFTER_MS + 1) == ()
    assert await read(client, "books", NOW) == (), "it was removed, not only left out"
    await publish(client, "books", STATUS)
    await withdraw(client, "books", "w1")
    assert await read(client, "books", NOW) == ()


@pytest.mark.parametrize("text", ["", "{", "5", "[]", "null", "{}", '{"worker": "w9"}'])
async def test_what_is_no_status_is_dropped(client: redis_asyncio.Redis, text: str) -> None:
    await client.hset("farebox:{books}:workers", "w9", text)
    await publish(client, "books", STATUS)
    assert await read(client, "books", NOW) == (STATUS,)
    assert await client.hkeys("farebox:{books}:workers") == ["w1"]


async def test_fields_of_a_newer_release_are_ignored(client: redis_asyncio.Redis) -> None:
    await publish(client, "books", STATUS)
    text = await client.hget("farebox:{books}:workers", "w1")
    assert isinstance(text, str)
    await client.hset("farebox:{books}:workers", "w1", text[:-1] + ',"mood":"fine"}')
    assert await read(client, "books", NOW) == (STATUS,)
