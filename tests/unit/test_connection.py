"""Clients for each kind of Redis: a real server of each, and addresses that people get wrong."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from budgets.connection import (
    AsyncClient,
    RedisServerError,
    RedisUrlError,
    check_server,
    check_server_sync,
    connect,
    judge,
    redacted,
)
from budgets.embedded import find_server

ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def free_port() -> int:
    """Find a port that is free, as is the port 10,000 above it: a cluster node takes both."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


class Server:
    """A redis-server of the tests, in a folder of its own."""

    def __init__(self, folder: Path, *lines: str, sentinel: bool = False) -> None:
        folder.mkdir()
        self.port = free_port()
        config = folder / "redis.conf"
        config.write_text(
            "\n".join(["bind 127.0.0.1", f"port {self.port}", f"dir {folder}", *lines, ""])
        )
        command = [find_server().path, str(config), *(["--sentinel"] if sentinel else [])]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until(self.answers)
        except AssertionError:
            self.stop()
            raise

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("single") / "redis"
    server = Server(folder, 'save ""', f"unixsocket {folder}/redis.sock")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cluster") / "redis"
    server = Server(
        folder, 'save ""', "cluster-enabled yes", "cluster-node-timeout 500", "requirepass s3cret"
    )
    try:
        with redis.Redis(port=server.port, password="s3cret", decode_responses=True) as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(16384))
            until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory, single: Server) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sentinel") / "redis"
    watch = f"sentinel monitor mymaster 127.0.0.1 {single.port} 1"
    server = Server(folder, watch, sentinel=True)
    yield server
    server.stop()


async def works(client: AsyncClient, key: str) -> None:
    """Use the client as the ledger does: a script, text replies, a check of the server."""
    try:
        facts = await check_server(client)
        assert facts.product in ("Redis", "Valkey")
        assert await client.register_script(ADD)(keys=[f"farebox:{{{key}}}:n"], args=[5]) == 5
        assert await client.get(f"farebox:{{{key}}}:n") == "5"
    finally:
        await client.aclose()


def works_sync(client: redis.Redis | redis.RedisCluster, key: str) -> None:
    try:
        check_server_sync(client)
        assert client.register_script(ADD)(keys=[f"farebox:{{{key}}}:n"], args=[5]) == 5
        assert client.get(f"farebox:{{{key}}}:n") == "5"
    finally:
        client.close()


async def test_one_server_by_tcp_and_by_socket(single: Server, tmp_path: Path) -> None:
    await works(connect(f"redis://127.0.0.1:{single.port}/3"), "a")
    works_sync(connect(f"redis://127.0.0.1:{single.port}/3", sync=True), "b")
    path = str(single.process.args[1]).replace("redis.conf", "redis.sock")  # type: ignore[index]  # A list.
    await works(connect(f"unix://{path}"), "c")
    works_sync(connect(f"unix://{path}", sync=True), "d")


async def test_a_cluster(cluster: Server) -> None:
    url = f"redis+cluster://:s3cret@127.0.0.1:{cluster.port}"
    await works(connect(url), "a")
    works_sync(connect(url, sync=True), "b")


async def test_sentinel_finds_the_master_past_a_dead_sentinel(sentinel: Server) -> None:
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/mymaster/1"
    await works(connect(url), "a")
    works_sync(connect(url, sync=True), "b")


async def test_a_dead_server_fails_at_once_and_names_no_password() -> None:
    client = connect(f"redis://me:s3cret@127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(RedisServerError, match="cannot be used") as caught:
        await check_server(client)
    assert time.monotonic() - started < 1.0
    assert "s3cret" not in str(caught.value)


async def test_a_server_that_never_answers_is_given_up_after_its_timeout() -> None:
    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    client = connect(f"redis://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(RedisServerError):
        await check_server(client)
    assert time.monotonic() - started < 3.5, "a time-out must not be tried again"
    await client.aclose()
    silent.close()


async def test_a_closed_connection_is_opened_again(single: Server) -> None:
    client = connect(f"redis://127.0.0.1:{single.port}")
    await client.set("x", "1")
    with redis.Redis(port=single.port) as other:
        other.execute_command("CLIENT KILL TYPE normal SKIPME yes")
    assert await client.get("x") == "1"
    await client.aclose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "must begin with one of redis://"),
        ("http://me:s3cret@host", "must begin with one of redis://"),
        ("redis://host:s3cret@host:port", "not a host with an optional port"),
        ("redis+sentinel://:s3cret@host:26379", "names no service"),
        ("redis+sentinel://host/mymaster/one", "must be one number"),
        ("redis+cluster://host:6379/2", "database 0 only"),
        ("redis+cluster://a:6379,:7000", "not a host with an optional port"),
        ("redis://host:70000", "not a host with an optional port"),
        ("redis://me:s3cret/1@host", "must be percent-encoded"),
        ("redis+sentinel://me:?s3cret@host/m", "must be percent-encoded"),
        ("redis://host?pasword=s3cret", "'pasword' is no parameter of this kind"),
        ("redis+cluster://host?sentinel_password=s3cret", "is no parameter of this kind"),
        ("redis://host?ssl_certfile=client.pem", "needs TLS: write rediss"),
        ("rediss://host?ssl_cert_reqs=maybe", "must be one of required, optional, none"),
        ("rediss://host?ssl_check_hostname=maybe", "must be yes or no"),
        ("redis://host?wait_replicas=many", "must be 0 to 16"),
        ("redis+cluster://host?wait_replicas=1", "min-replicas-to-write"),
        ("redis://host?db=1&db=2", "given twice"),
        ("unix://", "names no socket"),
    ],
)
def test_a_wrong_address_is_refused_with_the_reason(url: str, message: str) -> None:
    with pytest.raises(RedisUrlError, match=message) as caught:
        connect(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@host:6379/0",
        "rediss://me:s3c@s3cret@host/0",
        "redis://host/0?password=s3cret",
        "redis+sentinel://me:s3cret@a,b/m?sentinel_password=s3cret",
        "redis://me:s3c/ret?s3c#s3c@host",
        "rediss://host?ssl_password=s3cret",
    ],
)
def test_a_redacted_address_keeps_the_host_and_drops_the_password(url: str) -> None:
    assert "s3c" not in redacted(url)
    assert "host" in redacted(url) or "a,b" in redacted(url)


def test_an_address_without_secrets_stays_as_it_is() -> None:
    assert redacted("redis://host:6379/0") == "redis://host:6379/0"
    assert redacted("unix:///a%20b/redis.sock") == "unix:///a%20b/redis.sock"


def test_an_old_server_is_refused() -> None:
    with pytest.raises(RedisServerError, match=r"needs Redis 6.2 or newer.*Redis 6\.0\.9"):
        judge({"redis_version": "6.0.9"})


def test_valkey_is_known_by_its_own_version() -> None:
    facts = judge({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0"})
    assert (facts.product, facts.version, facts.warnings) == ("Valkey", "8.1.0", ())


def test_a_server_that_evicts_or_forgets_is_warned_about() -> None:
    facts = judge({"redis_version": "7.2.4", "maxmemory_policy": "allkeys-lru", "aof_enabled": 0})
    assert len(facts.warnings) == 2
