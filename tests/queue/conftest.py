"""A queue of each kind, with a clock that a test can move."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from budgets.connection import AsyncClient
from budgets.queue.items import RequestQueue
from budgets.queue.memory_queue import MemoryQueue
from budgets.queue.redis_queue import RedisQueue
from tests.ledger.conftest import redis_client, redis_socket, redis_url  # Fixtures.

__all__ = ["redis_client", "redis_socket", "redis_url"]


@dataclass(frozen=True)
class Line:
    """A queue and the way to let time pass for it."""

    queue: RequestQueue
    advance: Callable[[int], None]


@pytest.fixture(params=["memory", "redis"])
def line(request: pytest.FixtureRequest) -> Line:
    """Return a fresh queue, once of each kind."""
    if request.param == "memory":
        clock = [time.time_ns() // 1_000_000]

        def tick(ms: int) -> None:
            clock[0] += ms

        return Line(MemoryQueue(lambda: clock[0]), tick)
    client: AsyncClient = request.getfixturevalue("redis_client")
    queue = RedisQueue(client, uuid.uuid4().hex)

    def advance(ms: int) -> None:
        queue.clock_offset_ms += ms

    return Line(queue, advance)
