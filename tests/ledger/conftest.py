"""A ledger of each kind, with a clock that a test can move, and a Redis server of the suite's own.

The server listens on a Unix socket in a short temporary folder and is stopped with the session.
With `FAREBOX_TEST_REDIS_URL` the suite runs against that Redis instead, of whatever topology. It
leaves ledgers with random names behind, and makes the servers forget their scripts.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from budgets.connection import AsyncClient, connect
from budgets.embedded import find_server
from budgets.memory import MemoryLedger
from budgets.redis_store import RedisLedger
from tests.ledger.modes import Batched, Leased
from tests.ledger.worlds import MemoryWorld, RedisWorld, World


def redis_server_binary() -> str:
    """Return the `redis-server` that Farebox itself would start."""
    return find_server().path


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    """Return the Unix socket of a Redis server that lives as long as the session."""
    # The path of a Unix socket has room for about a hundred characters: pytest's are longer.
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        socket = f"{folder}/redis.sock"
        command = [redis_server_binary(), "--port", "0", "--unixsocket", socket]
        command += ["--dir", folder, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_until_it_answers(socket)
            yield socket
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait_until_it_answers(socket: str) -> None:
    until = time.monotonic() + 10
    with Redis(unix_socket_path=socket) as client:
        while True:
            try:
                client.ping()
                return
            except (RedisConnectionError, FileNotFoundError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """Return the address of the Redis that the suite runs against."""
    given = os.environ.get("FAREBOX_TEST_REDIS_URL")
    if given:
        return given
    socket: str = request.getfixturevalue("redis_socket")
    return f"unix://{socket}"


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[AsyncClient]:
    """Return an asynchronous client of that Redis."""
    client = connect(redis_url)
    # A worker looks at its server before it asks it anything, and a cluster's client learns the
    # nodes by that.
    await client.ping()
    yield client
    await client.aclose()


@pytest.fixture
def redis_world(redis_client: AsyncClient) -> RedisWorld:
    """Return a fresh ledger in Redis; its name is its own, so that nothing need be flushed."""
    name = uuid.uuid4().hex
    return RedisWorld(RedisLedger(redis_client, name), name)


KINDS = os.environ.get("FAREBOX_TEST_LEDGERS", "memory redis").split()
"""Which ledgers the suite runs against. `batched-memory` and `batched-redis` settle as a worker
does, by its queue; `leased-memory` and `leased-redis` admit from leased slices as well."""


TO_THE_MILLISECOND = {
    "test_a_clock_that_went_far_back_is_taken_over_with_an_event",
    "test_time_stands_still_while_the_clock_catches_up",
    "test_the_open_holds_of_a_period_are_named_by_the_end_of_their_lease",
}
"""Tests that need an admission to be the last thing that the ledger did, or a lease to begin with
it."""


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> World:
    """Return a fresh ledger, once of each kind."""
    mode, _, store = request.param.rpartition("-")
    if mode == "leased" and request.node.originalname in TO_THE_MILLISECOND:
        pytest.skip("a report that follows an admission moves the ledger's time on")
    found: RedisWorld | MemoryWorld
    if store == "redis":
        found = request.getfixturevalue("redis_world")
    else:
        clock = MemoryWorld.start_clock()
        found = MemoryWorld(MemoryLedger(lambda: clock[0]), clock)
    if mode:
        ledger: Any = {"batched": Batched, "leased": Leased}[mode](found.ledger)
        found.ledger = ledger
    return found
