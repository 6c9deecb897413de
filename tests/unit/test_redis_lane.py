"""The quick way to Redis: replies in order, errors by their class, and nothing lost with it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis

from budgets.connection import connect
from budgets.embedded import find_server
from budgets.redis_clients import Client
from budgets.redis_lane import PENDING_MAX, Lane, LaneAddress, Wire

ECHO = "return {KEYS[1], ARGV[1], 7, false}"


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        await asyncio.sleep(0.01)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server with a password, whose lane is open."""
    path = tmp_path / "redis.sock"
    command = [find_server().path, "--port", "0", "--unixsocket", str(path), "--save", ""]
    command += ["--requirepass", "s3cret", "--dir", str(tmp_path)]
    process = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.DEVNULL)
    made = connect(f"unix://:s3cret@{path}?db=3")
    assert isinstance(made, Client)
    try:
        await until(path.exists)
        await opened(made)
        yield made
    finally:
        await made.aclose()
        process.kill()
        process.wait()


async def opened(client: Client) -> Wire:
    """Wait until the client's lane is open."""
    lane = client.lane
    assert lane is not None
    await until(lambda: lane.wire() is not None)
    wire = lane.wire()
    assert wire is not None
    return wire


async def test_replies_come_to_who_asked_in_any_number(client: Client) -> None:
    wire = await opened(client)
    digest = await client.script_load(ECHO)
    asked = [client.execute_command("EVALSHA", digest, 1, f"k{i}", i) for i in range(200)]
    assert await asyncio.gather(*asked) == [[f"k{i}", str(i), 7, None] for i in range(200)]
    assert client.lane is not None and client.lane.wire() is wire


async def test_it_reads_the_same_database_as_the_client(client: Client) -> None:
    digest = await client.script_load("return redis.call('INCR', KEYS[1])")
    await client.execute_command("EVALSHA", digest, 1, "there")
    assert await client.get("there") == "1"


async def test_an_error_reply_has_redis_pys_class_and_is_for_its_asker_alone(
    client: Client,
) -> None:
    digest = await client.script_load(ECHO)
    asked = (
        client.execute_command("EVALSHA", "0" * 40, 0),
        client.execute_command("EVALSHA", digest, 1, "k", "v"),
    )
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], redis.exceptions.NoScriptError)
    assert answers[1] == ["k", "v", 7, None]


async def test_who_gives_up_waiting_does_not_shift_the_replies_of_others(client: Client) -> None:
    wire = await opened(client)
    digest = await client.script_load(ECHO)
    first, second = wire.ask("EVALSHA", digest, 1, "a", 1), wire.ask("EVALSHA", digest, 1, "b", 2)
    first.cancel()
    assert (await second)[0] == "b"


async def test_a_command_on_a_lost_connection_is_sent_once_more(client: Client) -> None:
    wire = await opened(client)
    digest = await client.script_load("return redis.call('INCR', KEYS[1])")
    wire.close()
    assert await client.execute_command("EVALSHA", digest, 1, "n") == 1
    assert await opened(client) is not wire
    assert await client.execute_command("EVALSHA", digest, 1, "n") == 2


async def test_a_server_that_hangs_is_given_up_in_time_and_by_all_who_wait(client: Client) -> None:
    assert client.lane is not None
    await client.lane.aclose()
    client.lane = Lane(client.lane._address, 0.1)
    wire = await opened(client)
    await client.execute_command("CLIENT", "PAUSE", 400, "ALL")
    asked = [client.execute_command("EVALSHA", "0" * 40, 0) for _ in range(3)]
    started = time.monotonic()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(it, redis.TimeoutError) for it in answers), "a time-out is not repeated"
    assert time.monotonic() - started < 2 and wire.closed


async def test_beyond_its_bound_the_pool_takes_over(client: Client) -> None:
    wire = await opened(client)
    digest = await client.script_load(ECHO)
    asked = [wire.ask("EVALSHA", digest, 1, "k", i) for i in range(PENDING_MAX)]
    assert client.lane is not None and client.lane.wire() is None
    assert await client.execute_command("EVALSHA", digest, 1, "k", "v") == ["k", "v", 7, None]
    await asyncio.gather(*asked)
    assert client.lane.wire() is wire


async def test_a_wrong_password_is_redis_pys_to_tell(client: Client) -> None:
    assert client.lane is not None
    wrong = LaneAddress(path=client.lane._address.path, password="wrong")
    lane = Lane(wrong, 1.0)
    assert lane.wire() is None
    opening = lane._opening
    assert opening is not None
    await opening
    assert lane.wire() is None, "the next try waits a while"
    await lane.aclose()
