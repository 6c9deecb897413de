"""A ledger and its outbox of each kind, with a clock that a test can move."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest

from budgets.alerts.memory_outbox import MemoryOutbox
from budgets.alerts.outbox import Outbox
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.connection import AsyncClient
from budgets.ledger import Ledger
from budgets.memory import MemoryLedger
from budgets.redis_store import RedisLedger
from tests.ledger import conftest as suite
from tests.ledger.worlds import MemoryWorld

redis_socket = suite.redis_socket
redis_url = suite.redis_url
redis_client = suite.redis_client


@dataclass
class Post:
    """A ledger, its outbox, and their clock."""

    ledger: Ledger
    outbox: Outbox
    clock: list[int]

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self.clock[0] += ms
        for store in (self.ledger, self.outbox):
            if isinstance(store, RedisLedger | RedisOutbox):
                store.clock_offset_ms += ms


def memory_post() -> Post:
    clock = MemoryWorld.start_clock()
    ledger = MemoryLedger(lambda: clock[0])
    return Post(ledger, MemoryOutbox(ledger), clock)


def redis_post(client: AsyncClient) -> Post:
    name = uuid.uuid4().hex
    return Post(RedisLedger(client, name), RedisOutbox(client, name), [0])


@pytest.fixture(params=["memory", "redis"])
def post(request: pytest.FixtureRequest) -> Post:
    """A fresh ledger with its outbox, once of each kind."""
    if request.param == "redis":
        client: AsyncClient = request.getfixturevalue("redis_client")
        return redis_post(client)
    return memory_post()
