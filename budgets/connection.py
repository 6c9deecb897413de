"""Clients for the ledger's Redis: one server, Sentinel or Cluster, asynchronous or not.

The address decides which, so that nothing else in Farebox has to know:

    redis://[user:password@]host[:6379][/db]             one server; rediss:// with TLS
    unix:///path/to/redis.sock[?db=0]                    one server on this machine
    redis+sentinel://[user:password@]host:26379,host:26379/service[/db]
    redis+cluster://[user:password@]host:6379,host:6379

`rediss+sentinel` and `rediss+cluster` use TLS. `?sentinel_username=…&sentinel_password=…` are for
the sentinels themselves.

A client fails fast: a request waits for the ledger, and a client that keeps trying would hold it
up while the ledger is down. After a lost connection a command is sent once more, since the server
closes idle connections; every script of the ledger gives a repeated call the first one's answer.
A time-out is never repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, overload
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.backoff
import redis.cluster
import redis.retry
import redis.sentinel

CONNECT_TIMEOUT_S = 1.0
SOCKET_TIMEOUT_S = 2.0
VERSION_MIN = (6, 2)
CONNECTIONS_MAX = 256

AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
SyncClient = redis.Redis | redis.RedisCluster

_SINGLE = ("redis", "rediss", "unix")
_SCHEMES = (
    *_SINGLE,
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
_DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379}


class RedisUrlError(ValueError):
    """`REDIS_URL` cannot be understood; the text never holds its password."""


class RedisServerError(RuntimeError):
    """The server cannot be reached or is too old; the text says how to mend it."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a checked server says about itself."""

    product: str
    version: str
    warnings: tuple[str, ...]
    """Settings that put the ledger at risk, as whole sentences."""


@dataclass(frozen=True, slots=True)
class _Address:
    """The parts of an address with several hosts."""

    kind: Literal["sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    tls: bool
    service: str
    db: int
    sentinel_username: str | None
    sentinel_password: str | None


@overload
def connect(url: str, *, sync: Literal[False] = False) -> AsyncClient: ...
@overload
def connect(url: str, *, sync: Literal[True]) -> SyncClient: ...
def connect(url: str, *, sync: bool = False) -> AsyncClient | SyncClient:
    """Return a client for `url`; it connects on first use and answers in `str`.

    Raises `RedisUrlError` for an address that cannot be understood.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise RedisUrlError(
            f"REDIS_URL is {redacted(url)!r}: it must begin with one of "
            + ", ".join(f"{name}://" for name in _SCHEMES)
        )
    options = _options(sync)
    if scheme in _SINGLE:
        options["max_connections"] = CONNECTIONS_MAX
        try:
            if sync:
                return redis.Redis.from_url(url, **options)
            return redis.asyncio.Redis.from_url(url, **options)
        except ValueError as error:
            raise RedisUrlError(f"REDIS_URL {redacted(url)!r} cannot be understood.") from error
    address = _parse(url)
    options |= {"username": address.username, "password": address.password}
    if address.kind == "cluster":
        return _cluster(address, options, sync)
    return _sentinel(address, options, sync)


async def check_server(client: AsyncClient) -> ServerFacts:
    """Ask the server what it is. Raises `RedisServerError` unless the ledger can live there."""
    try:
        return judge(await cast(Any, client).info())
    except (redis.RedisError, OSError) as error:
        raise _unreachable(error) from error


def check_server_sync(client: SyncClient) -> ServerFacts:
    """Do what `check_server` does, with a client that is not asynchronous."""
    try:
        return judge(cast(Any, client).info())
    except (redis.RedisError, OSError) as error:
        raise _unreachable(error) from error


def redacted(url: str) -> str:
    """Return the address without its secrets, for messages and logs."""
    hidden = re.sub(r"(?<=://)[^/?#]*@", "***@", url, count=1)
    return re.sub(r"([?&][^=&]*(?:password|username)[^=&]*=)[^&#]*", r"\1***", hidden, flags=re.I)


def _options(sync: bool) -> dict[str, Any]:
    # Of the same two kinds in both worlds, but not the same class.
    retry_class = redis.retry.Retry if sync else redis.asyncio.retry.Retry
    retry = retry_class(redis.backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return {
        "decode_responses": True,
        # The older protocol gives the same replies on every server from 6.2 on.
        "protocol": 2,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "retry": retry,
    }


def _cluster(address: _Address, options: dict[str, Any], sync: bool) -> AsyncClient | SyncClient:
    options |= {"max_connections": CONNECTIONS_MAX}
    options |= {"ssl": True} if address.tls else {}
    # Any: the client's classes for nodes and sentinels carry no types.
    node: Any = redis.cluster.ClusterNode if sync else redis.asyncio.cluster.ClusterNode
    nodes = [node(*host) for host in address.hosts]
    if sync:
        return redis.RedisCluster(startup_nodes=nodes, **options)
    return redis.asyncio.RedisCluster(startup_nodes=nodes, **options)


def _sentinel(address: _Address, options: dict[str, Any], sync: bool) -> AsyncClient | SyncClient:
    options |= {"ssl": True} if address.tls else {}
    of_sentinels = options | {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
    }
    options |= {"db": address.db, "max_connections": CONNECTIONS_MAX}
    sentinel: Any = redis.sentinel.Sentinel if sync else redis.asyncio.sentinel.Sentinel
    client = sentinel(list(address.hosts), sentinel_kwargs=of_sentinels).master_for(
        address.service, **options
    )
    return cast(AsyncClient | SyncClient, client)


def _parse(url: str) -> _Address:
    """Take an address with several hosts apart."""
    parts = urlsplit(url)
    kind: Literal["sentinel", "cluster"] = (
        "sentinel" if parts.scheme.endswith("sentinel") else "cluster"
    )
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    path = [unquote(part) for part in parts.path.split("/") if part]
    query: Mapping[str, str] = dict(parse_qsl(parts.query))
    if kind == "sentinel" and not path:
        raise RedisUrlError(
            f"REDIS_URL {redacted(url)!r} names no service: add it after the hosts, "
            "as in redis+sentinel://host:26379/mymaster"
        )
    numbers = path[1:] if kind == "sentinel" else path
    if len(numbers) > 1 or any(not number.isdigit() for number in numbers):
        raise RedisUrlError(f"REDIS_URL {redacted(url)!r}: the database must be one number.")
    db = int(numbers[0]) if numbers else 0
    if kind == "cluster" and db:
        raise RedisUrlError(f"REDIS_URL {redacted(url)!r}: a cluster has database 0 only.")
    return _Address(
        kind=kind,
        hosts=tuple(_host(text, _DEFAULT_PORTS[kind], url) for text in hosts.split(",")),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=parts.scheme.startswith("rediss"),
        service=path[0] if kind == "sentinel" else "",
        db=db,
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
    )


def _host(text: str, default_port: int, url: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?", text.strip())
    if match is None:
        raise RedisUrlError(
            f"REDIS_URL {redacted(url)!r}: {text!r} is not a host with an optional port."
        )
    return match[1].strip("[]"), int(match[2] or default_port)


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
