"""Loads the Lua scripts and runs them; turns Redis's errors into the ledger's.

A script is `lua/lib.lua` and `lua/closing.lua` (the queue's: `lua/queue_lib.lua`), followed by the
parts that it needs and its own file, known to Redis by the hash of that text: two releases that
share a Redis run their own texts, and `lua/lib.lua` says what they must agree on. `batch` has whole
scripts in it, as functions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis import asyncio as redis
from redis import exceptions as errors

from budgets.errors import LedgerUnavailable
from budgets.redis_clients import STORE_ERRORS, Client, NotReplicated, SlotMoves

RedisClient = redis.Redis | redis.RedisCluster
"""A client made with `decode_responses=True`."""

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (errors.AuthenticationError, "Redis refused the credentials"),
    (errors.AuthorizationError, "Redis refused the credentials"),
    (errors.NoPermissionError, "the Redis user may not run this command"),
    (errors.BusyLoadingError, "Redis is loading its data"),
    (errors.MaxConnectionsError, "all connections to Redis are in use"),
    (errors.ReadOnlyError, "this Redis is a read-only replica"),
    (errors.OutOfMemoryError, "Redis is out of memory"),
    (errors.ClusterDownError, "the Redis cluster is down"),
    (errors.TimeoutError, "Redis did not answer in time"),
    (errors.ConnectionError, "Redis cannot be reached"),
    (errors.RedisClusterException, "the Redis cluster cannot be used"),
    (SlotMoves, "the ledger's slot is moving to another node of the Redis cluster"),
    (NotReplicated, "too few replicas of Redis confirmed the write in time"),
    (TimeoutError, "Redis did not answer in time"),
    (OSError, "Redis cannot be reached"),
)

_CODES = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOPERM"
    r"|NOAUTH|WRONGPASS|WRONGTYPE|UNKILLABLE|FORMAT)\b"
)


_PARTS: dict[str, tuple[str, ...]] = {
    "batch": ("lease_lib",),
    "close_period": ("trail",),
    "grant": ("trail",),
    "hold": ("approvals",),
    "lease_adopt": ("lease_lib",),
    "lease_renew": ("lease_lib",),
    "lease_return": ("lease_lib",),
    "lease_take": ("lease_lib",),
    "ticket_answer": ("trail",),
    "ticket_find": ("approvals",),
    "ticket_open": ("trail", "approvals"),
    "top_up": ("approvals",),
    "trail_append": ("trail",),
}
"""What stands before single scripts, beside what all of them have."""

_IN_BATCH = ("settle", "void", "lease_adopt", "lease_return")
"""The scripts that `batch` runs as functions."""

_READING = frozenset(
    {
        "audit",
        "audit_leases",
        "audit_shares",
        "now",
        "open_holds",
        "queue_get",
        "queue_list",
        "queue_text",
        "queue_totals",
        "states",
        "ticket_find",
        "tickets",
    }
)
"""Scripts that write nothing: replicas need not be waited for."""


_ON_THE_PATH = ("hold", "batch", "void", "refuse", "top_up", "session_read", "session_note", "now")


# A script's own commands are refused without a code: by Redis 7 and Valkey, and by Redis 6.
_DENIED = re.compile(r"ACL failure in script|The user executing the script can't")


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str


@cache
def _script(name: str) -> _Script:
    folder = files("budgets") / "lua"
    shared = ("lib", "queue_lib") if name.startswith("queue_") else ("lib", "closing")

    def read(part: str) -> str:
        return (folder / f"{part}.lua").read_text("utf-8")

    texts = [read(part) for part in (*shared, *_PARTS.get(name, ()))]
    if name == "batch":
        texts += [f"local function {part}(ARGV)\n{read(part)}\nend" for part in _IN_BATCH]
    text = "\n".join([*texts, read(name)])
    # Redis names scripts by SHA-1; nothing here depends on that being hard to forge.
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


async def run_script(client: RedisClient, name: str, prefix: str, *args: str | int) -> Any:
    """Run a script on the keys that start with `prefix`; return its decoded reply.

    Redis forgets scripts at a restart and at SCRIPT FLUSH: then the whole text is sent once.

    Raises:
        LedgerUnavailable: Redis did not answer, or answered with an error.
    """
    script = _script(name)
    wire = client.wire() if isinstance(client, Client) else None
    if wire is not None:
        try:
            return await wire.ask("EVALSHA", script.sha, 1, prefix, *args)
        except (errors.ConnectionError, errors.NoScriptError):
            pass  # Sent once more, by a connection of redis-py's.
        except STORE_ERRORS as error:
            raise LedgerUnavailable(_reason(error)) from error
    values = [str(arg) for arg in args]
    run: Callable[..., Awaitable[Any]] = client.execute_command
    if isinstance(client, Client) and client.wait_replicas and name not in _READING:
        run = client.run_replicated
    with redis_errors():
        try:
            return await run("EVALSHA", script.sha, 1, prefix, *values)
        except errors.NoScriptError:
            return await run("EVAL", script.text, 1, prefix, *values)


async def run_batch(
    client: RedisClient,
    prefix: str,
    clock_offset_ms: int,
    calls: Sequence[tuple[str, Sequence[str | int]]],
) -> list[Any]:
    """Run several of `_IN_BATCH` in their order, in one step of Redis; return their replies.

    Raises:
        LedgerUnavailable: Redis did not answer, or with an error to any of them; others are done.
    """
    args = [part for name, values in calls for part in (name, len(values), *values)]
    replies: list[Any] = await run_script(client, "batch", prefix, clock_offset_ms, *args)
    with redis_errors():
        for reply in replies:
            if isinstance(reply, list) and reply[0] == "failed":
                raise errors.ResponseError(reply[1])
    return replies


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raise `LedgerUnavailable`, with a reason that holds no secret, for every error of Redis."""
    try:
        yield
    except STORE_ERRORS as error:
        raise LedgerUnavailable(_reason(error)) from error


def _reason(error: Exception) -> str:
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    # Redis 6.2 wraps an error that a script ran into in a longer text. Only the code is quoted:
    # the rest may repeat arguments.
    code = _CODES.search(str(error))
    if _DENIED.search(str(error)):
        return "the Redis user may not run this command"
    if code is None:
        return f"Redis answered with an error ({type(error).__name__})"
    return f"Redis answered with the error {code[0]}"


async def preload(client: RedisClient) -> None:
    """Have Redis know the scripts of a request's path, so that no request brings their texts.

    A user who may not load scripts is no error: then the first call of each brings its text.

    Raises:
        LedgerUnavailable: Redis did not answer.
    """
    for name in _ON_THE_PATH:
        try:
            with redis_errors():
                await client.script_load(_script(name).text)
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, errors.ResponseError):
                return
            raise
