"""Clients for the ledger's Redis: one server, Sentinel or Cluster, asynchronous or not.

The address decides which, so that nothing else in Farebox has to know; `redis_address` says how
addresses look.

A client fails fast: a request waits for the ledger, and a client that keeps trying would hold it
up while the ledger is down (`redis_clients` has the bounds). After a lost connection a command is
sent once more, since the server closes idle connections; every script of the ledger gives a
repeated call the first one's answer. A time-out is never repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, overload

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.backoff
import redis.cluster
import redis.retry
import redis.sentinel

from budgets.redis_address import Address, RedisUrlError, parse, redacted
from budgets.redis_clients import (
    CONNECTIONS_MAX,
    STORE_ERRORS,
    Client,
    ClusterClient,
    MasterPool,
    TlsConnection,
    TlsMasterConnection,
)
from budgets.redis_lane import Lane, LaneAddress

__all__ = [
    "AsyncClient",
    "RedisServerError",
    "RedisUrlError",
    "ServerFacts",
    "SyncClient",
    "check_server",
    "check_server_sync",
    "connect",
    "judge",
    "redacted",
]

CONNECT_TIMEOUT_S = 1.0
SOCKET_TIMEOUT_S = 2.0
SENTINEL_TIMEOUT_S = 0.5
"""For a sentinel to connect and to answer. They are asked one after the other, so that two that
hang must leave time for a third and for the master."""

VERSION_MIN = (6, 2)

AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
SyncClient = redis.Redis | redis.RedisCluster


class RedisServerError(RuntimeError):
    """The server cannot be reached or is too old; the text says how to mend it."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a checked server says about itself."""

    product: str
    version: str
    warnings: tuple[str, ...]
    """Settings that put the ledger at risk, as whole sentences."""


@overload
def connect(url: str, *, sync: Literal[False] = False) -> AsyncClient: ...
@overload
def connect(url: str, *, sync: Literal[True]) -> SyncClient: ...
def connect(url: str, *, sync: bool = False) -> AsyncClient | SyncClient:
    """Return a client for `url`; it connects on first use and answers in `str`.

    Raises `RedisUrlError` for an address that cannot be understood.
    """
    address = parse(url)
    options = _options(sync) | {"username": address.username, "password": address.password}
    if address.tls is not None:
        options |= {"ssl": True, **address.tls}
    match address.kind:
        case "cluster":
            return _cluster(address, options, sync)
        case "sentinel":
            return _sentinel(address, options, sync)
    return _single(address, options, sync)


async def check_server(client: AsyncClient) -> ServerFacts:
    """Ask the server what it is. Raises `RedisServerError` unless the ledger can live there."""
    try:
        return judge(await cast(Any, client).info())
    except STORE_ERRORS as error:
        raise _unreachable(error) from error


def check_server_sync(client: SyncClient) -> ServerFacts:
    """Do what `check_server` does, with a client that is not asynchronous."""
    try:
        return judge(cast(Any, client).info())
    except STORE_ERRORS as error:
        raise _unreachable(error) from error


def _options(sync: bool) -> dict[str, Any]:
    # Of the same two kinds in both worlds, but not the same class.
    retry_class = redis.retry.Retry if sync else redis.asyncio.retry.Retry
    retry = retry_class(redis.backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return {
        "decode_responses": True,
        # The older protocol gives the same replies on every server from 6.2 on.
        "protocol": 2,
        # Else each connection tells its library's name, which is a right more that a user needs.
        "driver_info": None,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "retry": retry,
    }


def _single(address: Address, options: dict[str, Any], sync: bool) -> AsyncClient | SyncClient:
    options |= {"db": address.db, "max_connections": CONNECTIONS_MAX}
    if address.kind == "unix":
        options |= {"unix_socket_path": address.path}
    else:
        host, port = address.hosts[0]
        options |= {"host": host, "port": port}
    if sync:
        return redis.Redis(**options)
    client = Client(**options)
    if address.tls is not None:
        client.connection_pool.connection_class = TlsConnection
    else:
        client.lane = Lane(_lane_address(address), SOCKET_TIMEOUT_S)
    client.wait_replicas = address.wait_replicas
    return client


def _lane_address(address: Address) -> LaneAddress:
    host, port = address.hosts[0] if address.kind != "unix" else ("", 0)
    return LaneAddress(address.path, host, port, address.username, address.password, address.db)


def _cluster(address: Address, options: dict[str, Any], sync: bool) -> AsyncClient | SyncClient:
    options |= {"max_connections": CONNECTIONS_MAX}
    # Any: the client's classes for nodes and sentinels carry no types.
    node: Any = redis.cluster.ClusterNode if sync else redis.asyncio.cluster.ClusterNode
    nodes = [node(*host) for host in address.hosts]
    if sync:
        return redis.RedisCluster(startup_nodes=nodes, **options)
    return ClusterClient(startup_nodes=nodes, **options)


def _sentinel(address: Address, options: dict[str, Any], sync: bool) -> AsyncClient | SyncClient:
    of_sentinels = options | {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "socket_timeout": SENTINEL_TIMEOUT_S,
    }
    options |= {"db": address.db, "max_connections": CONNECTIONS_MAX}
    watch_class: Any = redis.sentinel.Sentinel if sync else redis.asyncio.sentinel.Sentinel
    watch = watch_class(list(address.hosts), sentinel_kwargs=of_sentinels)
    if sync:
        return cast(SyncClient, watch.master_for(address.service, **options))
    if address.tls is not None:
        options |= {"connection_class": TlsMasterConnection}
        options.pop("ssl")
    client = watch.master_for(
        address.service, redis_class=Client, connection_pool_class=MasterPool, **options
    )
    client.wait_replicas = address.wait_replicas
    return cast(AsyncClient, client)


def judge(info: Mapping[str, Any]) -> ServerFacts:
    """Read a server's INFO. Raises `RedisServerError` for a server that is too old."""
    # Asked of a cluster, the answer can be one mapping a node.
    if "redis_version" not in info:
        info = next((part for part in info.values() if isinstance(part, Mapping)), {})
    product = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "unknown")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < VERSION_MIN:
        raise RedisServerError(
            f"The ledger needs Redis 6.2 or newer, or Valkey; the server is {product} {version}. "
            "Upgrade it, or unset REDIS_URL to use Farebox's own."
        )
    warnings = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(
            f"Its maxmemory-policy is {policy}: when memory runs out the server drops budgets "
            "and holds. Set it to noeviction."
        )
    if not int(info.get("aof_enabled", 1)):
        warnings.append(
            "Its append-only file is off: a restart of the server can lose spent money. "
            "Set appendonly to yes."
        )
    return ServerFacts(product, version, tuple(warnings))


def _unreachable(error: Exception) -> RedisServerError:
    # The client's own text names the host and the reason, and never the password.
    return RedisServerError(
        f"The ledger's Redis cannot be used ({type(error).__name__}: {error}). "
        "Check REDIS_URL and that the server runs, or unset it to use Farebox's own."
    )
