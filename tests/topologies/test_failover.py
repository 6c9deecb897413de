"""A master that dies or hangs: the ledger goes on with another one, by itself and in time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import redis

from budgets.errors import LedgerUnavailable
from budgets.redis_clients import COMMAND_TIMEOUT_S
from budgets.redis_store import RedisLedger
from budgets.settlements import SettleStatus
from tests.ledger.worlds import all_entries, held, hold, policy, settle, state
from tests.topologies.ledgers import at_last, ledger_at
from tests.topologies.servers import Server, Topology, cluster, sentinel_set, single, until

FAILOVER_S_MAX = 15.0


async def settled_pairs(ledger: RedisLedger, prefix: str, count: int = 20) -> None:
    """Hold and settle some requests, which must all be admitted."""
    for number in range(count):
        await held(ledger, 10, f"{prefix}{number}")
        await settle(ledger, f"{prefix}{number}", 7)


async def replicated(master: Server) -> None:
    """Wait until every replica of a master has all that it wrote."""
    copies = int(master.ask("INFO", "replication")["connected_slaves"])
    assert await asyncio.to_thread(master.ask, "WAIT", copies, 5000) == copies


async def goes_on(ledger: RedisLedger) -> None:
    """The ledger admits again, has all that was replicated, and its books add up."""
    seconds = await at_last(lambda: hold(ledger, 10, hold_id="after"), FAILOVER_S_MAX)
    assert seconds < FAILOVER_S_MAX
    assert (await settle(ledger, "after", 7)).status is SettleStatus.SETTLED
    assert len(await all_entries(ledger)) == 21
    assert (await state(ledger)).spent_nano_usd == 21 * 7
    assert await ledger.verify() == ()


async def test_sentinel_names_another_master_when_one_dies(own: Path) -> None:
    with sentinel_set(own) as redis_set:
        async with ledger_at(redis_set.url) as ledger:
            await ledger.publish(policy(1000))
            await settled_pairs(ledger, "before")
            await replicated(redis_set.servers[0])
            redis_set.servers[0].kill()
            await goes_on(ledger)
            # The new master never saw the scripts' texts; it may forget them again.
            redis_set.master().ask("SCRIPT", "FLUSH")
            await settled_pairs(ledger, "flushed", 1)


async def test_a_master_that_hung_through_its_failover_gets_no_more_writes(own: Path) -> None:
    with sentinel_set(own) as redis_set:
        old, new = redis_set.servers
        async with ledger_at(redis_set.url, "x") as ledger:
            await ledger.publish(policy(1000))
            await settled_pairs(ledger, "before")
            await replicated(old)
            old.pause()
            await asyncio.to_thread(until, lambda: redis_set.master() is new, "another master")
            # One waits for the old master's answer; the next one finds the new master meanwhile.
            caught = asyncio.create_task(hold(ledger, 10, hold_id="caught"))
            await asyncio.sleep(0)
            await at_last(lambda: hold(ledger, 10, hold_id="aside"))
            assert not caught.done()
            old.resume()
            await asyncio.gather(caught, return_exceptions=True)
            # The connection that got an answer from the old one must not be used again.
            for number in range(3):
                await held(ledger, 10, f"later{number}")
                assert new.ask("EXISTS", f"farebox:{{x}}:hold:later{number}") == 1
            for name in ("caught", "aside", "later0", "later1", "later2"):
                await ledger.void(name, "{}", {})
            assert (await state(ledger)).held_nano_usd == 0
            assert await ledger.verify() == ()


async def test_a_cluster_goes_on_with_a_replica_when_the_ledgers_master_dies(own: Path) -> None:
    with cluster(own, replicas=1) as nodes:
        async with ledger_at(nodes.url, "x") as ledger:
            await ledger.publish(policy(1000))
            await settled_pairs(ledger, "before")
            owner = nodes.owner("farebox:{x}:")
            await replicated(owner)
            owner.kill()
            with pytest.raises(LedgerUnavailable):
                await hold(ledger, 10, hold_id="during")
            await goes_on(ledger)


def move_slot(nodes: Topology, key: str, source: Server, target: Server, *, ends: bool) -> None:
    """Begin to move a key's slot, with a part of its keys; or move the rest and end it."""
    slot = source.ask("CLUSTER", "KEYSLOT", key)
    if not ends:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))
    for name in source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000 if ends else 3):
        source.ask("MIGRATE", "127.0.0.1", target.port, name, 0, 5000)
    if ends:
        for node in (target, source, *nodes.servers):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID"))


async def test_a_ledger_is_away_while_its_slot_moves_and_whole_afterwards(own: Path) -> None:
    with cluster(own) as nodes:
        async with ledger_at(nodes.url, "x") as ledger:
            await ledger.publish(policy(1000))
            await settled_pairs(ledger, "before")
            source = nodes.owner("farebox:{x}:")
            target = next(it for it in nodes.servers if it is not source)
            move_slot(nodes, "farebox:{x}:", source, target, ends=False)
            for _ in range(3):
                with pytest.raises(LedgerUnavailable, match="moving to another node"):
                    await hold(ledger, 10, hold_id="during")
            move_slot(nodes, "farebox:{x}:", source, target, ends=True)
            await goes_on(ledger)
            assert nodes.owner("farebox:{x}:") is target


async def test_a_cluster_that_is_not_whole_is_unavailable_and_comes_back(own: Path) -> None:
    with cluster(own) as nodes:
        async with ledger_at(nodes.url, "x") as ledger:
            await ledger.publish(policy(1000))
            await settled_pairs(ledger, "before")
            other = next(it for it in nodes.servers if it is not nodes.owner("farebox:{x}:"))
            living = next(it for it in nodes.servers if it is not other)
            other.kill()
            until(
                lambda: living.ask("CLUSTER INFO")["cluster_state"] == "fail",
                "a cluster that noticed",
            )
            with pytest.raises(LedgerUnavailable):
                await hold(ledger, 10, hold_id="during")
            async with ledger_at(nodes.url, "x") as late:
                with pytest.raises(LedgerUnavailable):
                    await late.now_ms()
            other.start()
            await goes_on(ledger)


async def test_a_killed_server_that_syncs_always_has_every_answer_after_its_restart(
    own: Path,
) -> None:
    with single(own, "appendonly yes", "appendfsync always") as one:
        server = one.servers[0]
        async with ledger_at(one.url) as ledger:
            await ledger.publish(policy(1000))
            await settled_pairs(ledger, "before")
            server.kill()
            with pytest.raises(LedgerUnavailable, match="cannot be reached"):
                await hold(ledger, 10, hold_id="during")
            server.start()
            await goes_on(ledger)


async def test_a_write_that_no_replica_confirms_is_not_answered_as_done(own: Path) -> None:
    with sentinel_set(own) as redis_set:
        master, replica = redis_set.servers
        async with ledger_at(f"{redis_set.url}?wait_replicas=1") as ledger:
            await ledger.publish(policy(1000))
            await settled_pairs(ledger, "before", 2)
            replica.pause()
            with pytest.raises(LedgerUnavailable, match="too few replicas"):
                await hold(ledger, 10, hold_id="h")
            # Reading goes on, and the write stands: only nobody was told that it is safe.
            assert (await state(ledger)).held_nano_usd == 10
            replica.resume()
            await at_last(lambda: settle(ledger, "h", 7))
            until(
                lambda: replica.ask("INFO", "replication")["master_link_status"] == "up",
                "the replica at its master",
            )
            assert len(await all_entries(ledger)) == 3
            master.ask("SCRIPT", "FLUSH")
            await settled_pairs(ledger, "flushed", 1)


async def timed(call: object) -> float:
    """Run an operation that must fail; return the seconds that it took."""
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await call  # type: ignore[misc]  # Any awaitable.
    return time.monotonic() - started


@pytest.mark.parametrize("kind", ["single", "cluster"])
async def test_requests_to_a_server_that_hangs_are_all_given_up_in_time(
    own: Path, kind: str
) -> None:
    with single(own) if kind == "single" else cluster(own) as topology:
        async with ledger_at(topology.url, "x") as ledger:
            await ledger.publish(policy(1000))
            owner = topology.servers[0] if kind == "single" else topology.owner("farebox:{x}:")
            owner.pause()
            calls = (timed(hold(ledger, 1, hold_id=f"h{n}")) for n in range(100))
            # All together: one after the other would take a hundred times as long.
            assert max(await asyncio.gather(*calls)) < 2 * COMMAND_TIMEOUT_S
            owner.resume()
            await at_last(lambda: hold(ledger, 1, hold_id="after"))


async def test_two_sentinels_that_hang_do_not_hide_the_third(own: Path) -> None:
    with sentinel_set(own) as redis_set:
        for sentinel in redis_set.sentinels[:2]:
            sentinel.pause()
        async with ledger_at(redis_set.url) as ledger:
            started = time.monotonic()
            await ledger.now_ms()
            assert time.monotonic() - started < COMMAND_TIMEOUT_S
        for sentinel in redis_set.sentinels[:2]:
            sentinel.resume()


async def test_a_burst_waits_for_connections_and_is_no_outage(own: Path) -> None:
    with single(own) as one:
        async with ledger_at(one.url) as ledger:
            await ledger.publish(policy(10_000))
            await asyncio.gather(*(held(ledger, 10, f"h{number}") for number in range(400)))
            with redis.Redis(port=one.servers[0].port) as client:
                assert len(client.client_list()) < 40
            assert (await state(ledger)).holds == 400
