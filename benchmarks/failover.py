"""What a failover loses: acknowledged holds and settles that are gone afterwards, and the time.

python -m benchmarks.failover                        all of it, 3 rounds: about six minutes
python -m benchmarks.failover --only sentinel        the cases whose names begin so
python -m benchmarks.failover --output FILE          the figures as JSON; nowhere by default

Sixteen clients of one process hold and settle, as fast as they can, against real servers on the
loopback interface. In the midst of it the master that has the ledger is ended by SIGKILL; what had
been acknowledged until then is compared with what the store knows after the failover.

A master dies in one of two ways. *Killed*: its process ends, while the kernel still delivers what
it wrote to its sockets. *Cut off*: for one second it serves its clients and no replica, and ends
then, as a machine would behind a broken network. That is done by stopping the replicas' processes,
throwing their connections out, and ending the master.

There is one replica; two where a write needs one, since a new master without a replica would refuse
every write.

Settles are repeated until they are answered, with what is known of their holds, as Farebox does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from budgets.connection import AsyncClient, connect
from budgets.errors import LedgerUnavailable
from budgets.holds import BudgetHold, Held, HoldRequest
from budgets.period import Period
from budgets.published import PublishedPolicy, PublishedRule
from budgets.recent import Recent
from budgets.redis_store import RedisLedger
from budgets.settlements import Recovery, Settlement
from tests.topologies.servers import Server, Topology, cluster, sentinel_set, single

CLIENTS = 16
LOAD_S = 1.0
CUT_OFF_S = 1.0
AFTER_S = 0.5
FAILOVER_S_MAX = 60.0
NAME = "x"
PREFIX = f"farebox:{{{NAME}}}:"
AMOUNT = 100
COST = 70
MIN_REPLICAS = ("min-replicas-to-write 1", "min-replicas-max-lag 10")


@dataclass
class Acknowledged:
    """What the clients were told, until the master died and after it."""

    holds: set[str] = field(default_factory=set)
    settles: set[str] = field(default_factory=set)
    refused: int = 0
    recent: Recent | None = None
    first_success_s: float | None = None
    died_at: float | None = None
    back: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    def succeeded(self, began: float) -> None:
        """Note the success of an operation; the first that began after the death gives the time."""
        if self.first_success_s is None and self.died_at is not None and began > self.died_at:
            self.first_success_s = time.monotonic() - self.died_at
            self.back.set()


@dataclass(frozen=True)
class Round:
    """One death of a master. Figures are numbers of requests, but for the seconds.

    `lost_settles` were acknowledged and have no entry. Of those, `still_held` have their hold: the
    end of its lease will charge it. The others, `vanished`, cost something that no book has.
    `lost_holds` were acknowledged, not settled yet, and are gone; `recovered` is how many of the
    settles that came for such holds were charged all the same. `vanished_at_last` is what is left
    of `vanished` after the worker has repeated its last settlements, as it does after an outage.
    """

    holds: int
    settles: int
    lost_settles: int
    still_held: int
    vanished: int
    lost_holds: int
    recovered: int
    vanished_at_last: int
    refused_meanwhile: int
    first_success_s: float
    differences: int


@dataclass(frozen=True)
class Case:
    """A topology with its settings, and how its master dies."""

    name: str
    start: Callable[[Path], AbstractContextManager[Topology]]
    query: str = ""
    cut_off: bool = False
    restarts: bool = False


def cases() -> list[Case]:
    """Return every case, in the order of the tables."""
    made = []
    for cut_off in (False, True):
        way = "cut off" if cut_off else "killed"
        made += [
            Case(f"sentinel, {way}", _sentinel(1), cut_off=cut_off),
            Case(f"sentinel, min-replicas, {way}", _sentinel(2, *MIN_REPLICAS), cut_off=cut_off),
            Case(f"sentinel, wait_replicas=1, {way}", _sentinel(2), "?wait_replicas=1", cut_off),
            Case(f"cluster, {way}", _cluster(1), cut_off=cut_off),
            Case(f"cluster, min-replicas, {way}", _cluster(2, *MIN_REPLICAS), cut_off=cut_off),
        ]
    for settings in (
        ("appendonly no",),
        ("appendonly yes", "appendfsync everysec"),
        ("appendonly yes", "appendfsync always"),
    ):
        start = _single(*settings)
        made.append(Case(f"one server, {settings[-1]}, killed", start, restarts=True))
    return made


def _sentinel(replicas: int, *lines: str) -> Callable[[Path], AbstractContextManager[Topology]]:
    return lambda folder: sentinel_set(folder, *lines, replicas=replicas)


def _cluster(replicas: int, *lines: str) -> Callable[[Path], AbstractContextManager[Topology]]:
    return lambda folder: cluster(folder, *lines, replicas=replicas)


def _single(*lines: str) -> Callable[[Path], AbstractContextManager[Topology]]:
    return lambda folder: single(folder, *lines)


async def run_round(case: Case, topology: Topology) -> Round:
    """Load the topology, let its master die, and compare."""
    client = connect(topology.url + case.query)
    try:
        ledger = RedisLedger(client, NAME)
        policy = PublishedPolicy("benchmark", (PublishedRule("team", 10**15, ()),))
        await ledger.publish(policy)
        told = Acknowledged(recent=Recent(ledger))
        loads = [asyncio.create_task(_load(ledger, told)) for _ in range(CLIENTS)]
        await asyncio.sleep(LOAD_S)
        await _die(case, topology, told)
        await asyncio.wait_for(told.back.wait(), FAILOVER_S_MAX)
        await asyncio.sleep(AFTER_S)
        told.over = True
        await asyncio.gather(*loads)
        return await _compare(ledger, client, told)
    finally:
        await client.aclose()


async def _load(ledger: RedisLedger, told: Acknowledged) -> None:
    """Hold and settle until it is over; a settle is repeated until it is answered."""
    now = int(time.time() * 1000)
    period = Period("P1", now - 86_400_000, now + 86_400_000)
    budgets = (BudgetHold("team", "team", period, AMOUNT),)
    while not told.over:
        hold_id = uuid.uuid4().hex
        request = HoldRequest(
            hold_id, AMOUNT, budgets, 600_000, 100, "{}", hold_id, "{}", "2026-11"
        )
        began = time.monotonic()
        try:
            held = await ledger.hold(request)
        except LedgerUnavailable:
            told.refused += 1
            await asyncio.sleep(0.01)
            continue
        assert isinstance(held, Held)
        told.holds.add(hold_id)
        told.succeeded(began)
        recovery = Recovery(AMOUNT, budgets, held.time_ms, hold_id, "2026-11")
        settlement = Settlement(hold_id, COST, "{}", recovery=recovery)
        await _settle_at_last(ledger, settlement)
        assert told.recent is not None
        told.recent.remember(settlement)
        told.settles.add(hold_id)


async def _settle_at_last(ledger: RedisLedger, settlement: Settlement) -> None:
    while True:
        try:
            await ledger.settle(settlement)
            return
        except LedgerUnavailable:
            await asyncio.sleep(0.01)


async def _die(case: Case, topology: Topology, told: Acknowledged) -> None:
    """End the ledger's master; a server that nobody follows is started again at once."""
    if case.restarts:
        server = topology.servers[0]
        server.kill()
        told.died_at = time.monotonic()
        await asyncio.to_thread(server.start)
        return
    in_cluster = not topology.sentinels
    master = topology.owner(PREFIX) if in_cluster else topology.servers[0]
    followers = _followers(topology, master)
    if case.cut_off:
        for replica in followers:
            replica.pause()
        master.ask("CLIENT", "KILL", "TYPE", "replica")
        await asyncio.sleep(CUT_OFF_S)
    master.kill()
    told.died_at = time.monotonic()
    if case.cut_off:
        for replica in followers:
            replica.resume()


def _followers(topology: Topology, master: Server) -> list[Server]:
    ports = set()
    for name, value in master.ask("INFO", "replication").items():
        if name.startswith("slave") and isinstance(value, dict):
            ports.add(int(value["port"]))
    return [server for server in topology.servers if server.port in ports]


async def _compare(ledger: RedisLedger, client: AsyncClient, told: Acknowledged) -> Round:
    """Count what was acknowledged and is not there."""
    kinds = {entry.hold_id: entry.kind async for entry in ledger.entries()}
    lost_settles = told.settles - kinds.keys()
    still_held = set()
    for hold_id in lost_settles:
        if await _any(client).exists(f"{PREFIX}hold:{hold_id}"):
            still_held.add(hold_id)
    recovered = {hold_id for hold_id, kind in kinds.items() if kind == "recovered"}
    unsettled = told.holds - told.settles
    gone = {it for it in unsettled if not await _any(client).exists(f"{PREFIX}hold:{it}")}
    assert told.first_success_s is not None and told.recent is not None
    await told.recent.repeat()
    charged = {entry.hold_id async for entry in ledger.entries()}
    return Round(
        holds=len(told.holds),
        settles=len(told.settles),
        lost_settles=len(lost_settles),
        still_held=len(still_held),
        vanished=len(lost_settles - still_held),
        lost_holds=len(gone) + len(recovered),
        recovered=len(recovered),
        vanished_at_last=len(told.settles - charged),
        refused_meanwhile=told.refused,
        first_success_s=round(told.first_success_s, 2),
        differences=len(await ledger.verify()),
    )


def _any(client: Any) -> Any:
    return client  # redis-py types its replies as both sync and async


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fb") as name:
        yield Path(name)


def main() -> None:
    """Run the cases that the arguments ask for, and print a table."""
    arguments = argparse.ArgumentParser(
        prog="benchmarks.failover",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", default="", metavar="PREFIX")
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "clients": CLIENTS,
        "cut_off_s": CUT_OFF_S,
        "cases": {},
    }
    columns = list(Round.__dataclass_fields__)
    print(f"| case | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for case in cases():
        if not case.name.startswith(given.only):
            continue
        rounds = []
        for _ in range(given.rounds):
            with _folder() as folder, case.start(folder) as topology:
                rounds.append(asdict(asyncio.run(run_round(case, topology))))
        results["cases"][case.name] = rounds
        cells = [", ".join(str(it[name]) for it in rounds) for name in columns]
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)
    results["machine"]["load_average_after"] = [round(load, 2) for load in os.getloadavg()]
    if given.output is not None:
        given.output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
