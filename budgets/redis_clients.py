"""redis-py's asynchronous clients with bounds: of time, of commands under way, of repeats.

redis-py has a time-out for each step (a connection, an answer, a sentinel, a retry), and the steps
add up. Here a command as a whole has one. And where its pool raises at once when all connections
are in use, here a command waits for one, within the same bound: a burst is no outage.

After a lost connection redis-py sends a command once more; a time-out is never repeated, in a
cluster neither, since a server that hangs would make a request wait twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    RedisSSLContext,
    SSLConnection,
)
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
)

from budgets.redis_lane import Lane, Wire

STORE_ERRORS = (RedisError, RedisClusterException, OSError)
"""What a client raises where Redis is of no use. A cluster that is not whole raises an exception
outside redis-py's family."""

COMMAND_TIMEOUT_S = 3.0
"""The longest that a command can take, whatever happens. A connection and an answer fit in it."""

COMMANDS_MAX = 32
"""Commands under way at once in one client; the others wait for their turn. Each has a connection
of its own. Redis runs one command at a time, so more of them would not make it faster, and opening
hundreds at once for a burst takes seconds where there is TLS."""

CONNECTIONS_MAX = COMMANDS_MAX + 16
"""A few connections more are for pipelines, which nothing counts: the keys' store uses them."""

WAIT_TIMEOUT_MS = 1000
"""How long Redis waits for replicas to confirm a write, where that was asked for."""


class SlotMoves(RedisError):
    """The ledger's slot is on its way to another node of the cluster; nothing was done.

    While a slot moves, its old node sends every script on to the new one, because the key that
    names a ledger is never written. There a script would find but a part of the ledger's keys, and
    would begin a second ledger. So nobody follows, and the ledger is away until all of it moved.
    """


class NotReplicated(RedisError):
    """A write stands on the master, and too few replicas have confirmed it in time."""


async def _bounded(turns: asyncio.Semaphore, command: Callable[[], Awaitable[Any]]) -> Any:
    """Run a command when it is its turn, within the time for it all.

    Written out for speed: this adds 12 µs to each command, where redis-py's own
    BlockingConnectionPool adds 20 and bounds only the wait for a connection.
    """
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await turns.acquire()
            try:
                return await command()
            finally:
                turns.release()
    except TimeoutError as error:
        raise redis.TimeoutError("no answer in time") from error
    except (AttributeError, RuntimeError) as error:
        # When redis-py learns of another topology it closes connections under the commands that
        # have just got them; those then find no writer, or uvloop's closed one.
        raise ConnectionError("the connection was closed meanwhile") from error


class Client(redis.asyncio.Redis):
    """A client of one server, or of the master that Sentinel names.

    `wait_replicas`: `run_replicated` asks for so many confirmations; 0 for none. `lane` is the
    quick way for scripts, where there is one (`redis_lane`).
    """

    wait_replicas = 0
    lane: Lane | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turns = asyncio.Semaphore(COMMANDS_MAX)

    def wire(self) -> Wire | None:
        """Return the quick way for scripts, where there is one and replicas need no waiting."""
        return self.lane.wire() if self.lane is not None and not self.wait_replicas else None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command within the bounds."""
        wire = self.wire() if args[0] == "EVALSHA" else None
        if wire is not None:
            try:
                return await wire.ask(*args)
            except ConnectionError:
                pass  # Sent once more, as redis-py does with a connection of its own.
        run: Any = super().execute_command
        return await _bounded(self._turns, lambda: run(*args, **options))

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close every connection."""
        if self.lane is not None:
            await self.lane.aclose()
        await super().aclose(close_connection_pool)

    async def run_replicated(self, *command: Any) -> Any:
        """Run a command, and answer once `wait_replicas` replicas have what it wrote.

        WAIT counts from the last command of its own connection, whether that wrote or not. So a
        repeated operation, which writes nothing, waits for what the first one wrote.

        Raises:
            NotReplicated: too few did in time. The master has it.
        """

        async def both() -> Any:
            async with self.pipeline(transaction=False) as commands:
                commands.execute_command(*command)
                commands.execute_command("WAIT", self.wait_replicas, WAIT_TIMEOUT_MS)
                return await commands.execute(raise_on_error=False)

        reply, copies = await _bounded(self._turns, both)
        if isinstance(reply, Exception):
            raise reply
        self._check_copies(copies)
        return reply

    def _check_copies(self, copies: Any) -> None:
        if isinstance(copies, Exception):
            raise copies
        if copies < self.wait_replicas:
            raise NotReplicated(f"{copies} of {self.wait_replicas} replicas confirmed the write")


class ClusterClient(redis.asyncio.RedisCluster):
    """A client of a cluster."""

    # redis-py repeats a time-out here, as it does in no other client.
    ERRORS_ALLOW_RETRY: Any = (ConnectionError, ClusterDownError, SlotNotCoveredError)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turns = asyncio.Semaphore(COMMANDS_MAX)
        # There is no option for it; the nodes that are found later take it from here.
        kind = TlsNodeConnection if options.get("ssl") else NodeConnection
        self.connection_kwargs["connection_class"] = kind
        for node in self.nodes_manager.startup_nodes.values():
            node.connection_class = kind

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command within the bounds."""
        run: Any = super().execute_command
        return await _bounded(self._turns, lambda: run(*args, **options))


_contexts: dict[tuple[object, ...], RedisSSLContext] = {}
_CONTEXTS_MAX = 16


def _shared(made: RedisSSLContext) -> RedisSSLContext:
    """Return the one TLS context of these settings; files that have changed make another one.

    redis-py makes one for each connection, which reads all of the system's authorities each time:
    tens of milliseconds, in which the whole process stands still.
    """
    files = (made.certfile, made.keyfile, made.ca_certs)
    times = tuple(os.stat(name).st_mtime_ns if name else 0 for name in files)
    key = (*files, *times, made.password, made.cert_reqs, made.check_hostname)
    if key not in _contexts:
        if len(_contexts) >= _CONTEXTS_MAX:
            _contexts.clear()
        _contexts[key] = made
    return _contexts[key]


class TlsConnection(SSLConnection):
    """A connection with TLS that shares its context with others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = _shared(self.ssl_context)


class _NeverAsking(AbstractConnection):
    """A connection to a node that takes no part in the moving of a slot."""

    def pack_command(self, *args: Any) -> Any:
        """Pack a command; `ASKING` is refused."""
        if args[0] == "ASKING":
            raise SlotMoves("the ledger's slot is being moved to another node")
        return super().pack_command(*args)


class NodeConnection(_NeverAsking, Connection):
    """A connection to a node of a cluster."""


class TlsNodeConnection(_NeverAsking, TlsConnection):
    """The same with TLS."""


class TlsMasterConnection(redis.asyncio.sentinel.SentinelManagedSSLConnection):
    """The same, to the master that Sentinel names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]  # It has no types.
        self.ssl_context = _shared(self.ssl_context)


class MasterPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """Sentinel's pool, which also lets go of connections that a failover found in use.

    redis-py closes the idle ones when it learns of another master. One that was waiting for an
    answer just then would go back into the pool, and a master that hung through its own failover
    would go on to take writes by it, until Sentinel makes it a replica and throws them away.
    """

    async def release(self, connection: Any) -> None:
        """Take a connection back; one to another server than the master is closed first."""
        if self.master_address != (connection.host, connection.port):
            await connection.disconnect()
        await super().release(connection)
