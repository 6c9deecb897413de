"""A worker that is killed while it admits from slices: its slate says what nobody had heard of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from budgets import endings
from budgets.background import end
from budgets.journal import Journal
from budgets.leases import slate as module
from budgets.leases.slate import FilePages, Slate
from budgets.outage import Outage
from budgets.period import period_at
from budgets.redis_store import RedisLedger
from budgets.settlements import Settlement
from tests.ledger.modes import MemoryDisk, plain
from tests.ledger.test_desk import House, figures
from tests.ledger.worlds import (
    CENT,
    LEASE_MS,
    USD,
    RedisWorld,
    World,
    all_entries,
    policy,
    state,
)
from tests.support.policies import REPOSITORY

BOOT = "this start"


class Worker(House):
    """A desk with a slate in a folder, and what finds it when the worker is dead."""

    def __init__(self, ledger: Any, folder: Path, boot: str = BOOT) -> None:
        self.folder = folder
        super().__init__(ledger, slate=Slate(FilePages(folder / "me.slate"), boot))

    async def heir(self, boot: str = BOOT) -> None:
        """Tell what a killed worker has left behind, as the next worker does."""
        slate = Slate(FilePages(self.folder / "me.slate"), boot)
        journal = Journal("me", self.journal._disk, slate=slate)
        outage = Outage(self.ledger, Journal("heir", MemoryDisk()), None)
        await outage.tell_of(journal)
        await journal.close()


@pytest.fixture
async def worker(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Worker]:
    """Return a worker that reports when it is told to: it may be killed before."""
    monkeypatch.setattr(endings, "LINGER_S", 3600.0)
    monkeypatch.setattr(endings, "REPORT_LINGER_S", 3600.0)
    world.ledger = plain(world.ledger)
    await world.ledger.publish(policy(team=10 * USD, key=10 * USD))
    made = Worker(world.ledger, tmp_path)
    yield made
    await end(made.endings._task)


async def charged(worker: Worker) -> dict[str, int]:
    """Return what the entries of each hold come to, but for nothing."""
    sums: dict[str, int] = {}
    for it in await all_entries(worker.ledger):
        sums[it.hold_id] = sums.get(it.hold_id, 0) + sum(it.charges.values())
    return {hold_id: amount for hold_id, amount in sums.items() if amount}


async def test_a_killed_workers_slices_go_back_at_once_and_its_requests_get_their_holds(
    world: World, worker: Worker
) -> None:
    await worker.warm()
    assert await worker.admit("h") is not None
    await worker.heir()
    # The slice is gone; what was asked for and what came from the slice is held.
    assert await figures(worker) == (0, 2 * CENT, 2)
    world.advance(LEASE_MS)
    (first, second) = await worker.ledger.expire(10)
    assert {first.hold_id, second.hold_id} == {"warm", "h"}
    assert await charged(worker) == {"warm": CENT, "h": CENT}
    assert not await worker.ledger.verify(every_hold=True)


async def test_what_the_lease_of_a_slice_has_charged_too_much_is_taken_back(
    world: World, worker: Worker
) -> None:
    await worker.warm()
    assert await worker.admit("h") is not None
    world.advance(15_000)
    (entry,) = await worker.ledger.expire(10)
    assert (entry.kind, entry.cost_nano_usd) == ("unreconciled", 2 * CENT)
    await worker.heir()
    assert await figures(worker) == (0, 2 * CENT, 2)
    assert await charged(worker) == {}
    assert not await worker.ledger.verify(every_hold=True)
    team = await state(worker.ledger)
    assert team.spent_nano_usd == 0


async def test_ends_in_the_journal_end_requests_of_the_slate(worker: Worker) -> None:
    """The journal took the end of a request, and not its beginning."""
    await worker.warm()
    assert await worker.admit("h") is not None
    await worker.outage.end_later(Settlement("h", 3, "{}"))
    await worker.heir()
    assert await charged(worker) == {"h": 3}
    assert await figures(worker) == (3, CENT, 1)


async def test_telling_a_slate_twice_changes_nothing(worker: Worker) -> None:
    """Also where the worker reported all of it, and died before it could wipe it off."""
    await worker.warm()
    assert await worker.admit("h") is not None
    kept = (worker.folder / "me.slate").read_bytes()
    await worker.endings.put(Settlement("h", 3, "{}"), lambda *_: None)
    await worker.desk.give_all_back()
    before = await figures(worker), await charged(worker)
    for _ in range(2):
        (worker.folder / "me.slate").write_bytes(kept)
        await worker.heir()
    assert (await figures(worker), await charged(worker)) == before == ((3, CENT, 1), {"h": 3})


async def test_after_a_start_of_the_machine_slices_are_left_to_their_leases(
    world: World, worker: Worker
) -> None:
    """What stood in memory alone is lost: requests may be missing, and the worst case stays."""
    await worker.warm()
    assert await worker.admit("h") is not None
    assert await worker.admit("lost") is not None
    line = (worker.folder / "me.slate").read_bytes()
    place = next(it for it in range(4) if b'"lost"' in line[it * module.PLACE_BYTES :][:900])
    worker.desk._slate._put(place, b"\0" * 900)  # type: ignore[union-attr] # It has one.
    await worker.heir("another start")
    assert await figures(worker) == (0, 9 * CENT, 3)
    world.advance(15_000)
    (entry,) = await worker.ledger.expire(10)
    # The slice's worst case is two requests, of which one has been told.
    assert entry.cost_nano_usd == 2 * CENT
    assert not (worker.folder / "me.slate").exists()


async def test_where_the_disk_takes_no_line_the_store_is_asked(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker.warm()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FilePages, "write", full)
        assert await worker.admit("h") is None
        assert await worker.admit("h", 20 * USD) is None
        await worker.rest()
    assert (await figures(worker))[2] == 2
    assert await worker.admit("h") is not None


async def test_a_worker_that_lives_leaves_an_empty_slate(worker: Worker) -> None:
    await worker.warm()
    for number in range(50):
        await worker.hold(f"h{number}")
        await worker.endings.put(Settlement(f"h{number}", 1, "{}"), lambda *_: None)
        if number % 5 == 0:
            await worker.endings.flush()
            await worker.rest()
    assert worker.desk.admitted > 10
    await worker.desk.give_all_back()
    slate = Slate(FilePages(worker.folder / "me.slate"), BOOT)
    assert slate.is_whole() and not list(slate.lines())
    # Places are used again.
    assert (worker.folder / "me.slate").stat().st_size < 30 * module.PLACE_BYTES


def test_a_line_that_a_kill_tore_is_no_line(tmp_path: Path) -> None:
    slate = Slate(FilePages(tmp_path / "a.slate"), BOOT)
    places = [slate.write("adopt", {"hold": f"h{n}", "text": "x" * 9_000 * n}) for n in range(3)]
    assert places == [1, 2, 3]
    # Longer than a place has room for.
    assert slate.write("adopt", {"text": "x" * module.PLACE_BYTES}) is None
    with (tmp_path / "a.slate").open("r+b") as file:
        file.seek(2 * module.PLACE_BYTES + 4_000)
        file.write(b"?" * 100)
    found = Slate(FilePages(tmp_path / "a.slate"), BOOT)
    assert [it.content["hold"] for it in found.lines()] == ["h0", "h2"]
    assert found.is_whole()
    assert not Slate(FilePages(tmp_path / "a.slate"), "another").is_whole()
    assert not Slate(FilePages(tmp_path / "none.slate"), BOOT).is_whole()
    slate.wipe(1)
    slate.wipe(3)
    assert slate.close() and not (tmp_path / "a.slate").exists()


async def test_a_slate_is_found_though_its_journal_is_gone(tmp_path: Path) -> None:
    """A release that knows of no slates tells a journal and leaves the slate."""
    slate = Slate(FilePages(tmp_path / "a.slate"))
    place = slate.write("return_slice", {"slice": "s"})
    assert place is not None
    living = Journal.open(tmp_path)
    (found,) = Journal.adopt(tmp_path)
    assert found.owner == "a" and found.slate is not None
    assert [it.content for it in found.slate.lines()] == [{"slice": "s"}]
    await found.close()
    assert (tmp_path / "a.slate").exists()
    slate.wipe(place)
    (found,) = Journal.adopt(tmp_path)
    await found.close()
    await living.close()
    assert not list(tmp_path.iterdir())


# ── a real process, really killed ────────────────────────────────────────────────────────────────


@pytest.fixture
def killed(redis_world: RedisWorld, redis_url: str, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Return what runs a worker, kills it, and gives what the provider bills for its requests."""
    name = redis_world.prefix.removeprefix("farebox:{").removesuffix("}:")
    command = [sys.executable, "-m", "tests.support.leased_worker"]
    process = subprocess.Popen(
        [*command, redis_url, name, str(tmp_path), "40"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )

    def kill() -> dict[str, int]:
        bill: dict[str, int] = {}
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "still":
                break
            hold_id, cost = line.split()
            bill[hold_id] = int(cost)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return bill

    yield kill
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("leases_end_first", [False, True])
async def test_after_a_kill_the_books_are_the_bill(
    redis_world: RedisWorld, killed: Callable[[], Any], tmp_path: Path, leases_end_first: bool
) -> None:
    """Every request of a killed process costs what the provider bills: in all, and each budget."""
    ledger: RedisLedger = redis_world.ledger
    await ledger.publish(policy(team=100 * USD, key=100 * USD))
    bill = killed()
    assert len(bill) > 40, "some were sent ahead of the ledger"
    known = {it async for it in _holds(ledger)}
    assert len(set(bill) - known) >= 2
    if leases_end_first:
        redis_world.advance(20_000)
        assert await ledger.expire(100), "slices are charged with their worst case"
    outage = Outage(ledger, Journal.open(tmp_path), tmp_path)
    await outage.tell()
    await outage.close()
    redis_world.advance(LEASE_MS)
    await ledger.expire(1_000)
    period = period_at("month", "UTC", await ledger.now_ms())
    for budget in ("team", "key"):
        (found,) = await ledger.states([(budget, budget, period.id)])
        assert (found.spent_nano_usd, found.held_nano_usd) == (sum(bill.values()), 0), budget
    costs: dict[str, int] = {}
    for entry in await all_entries(ledger):
        costs[entry.hold_id] = costs.get(entry.hold_id, 0) + sum(entry.charges.values()) // 2
    assert {hold_id: cost for hold_id, cost in costs.items() if cost} == bill
    assert not await ledger.verify(every_hold=True)
    assert not list(tmp_path.iterdir())


async def _holds(ledger: RedisLedger) -> Any:
    """Iterate over the ids of holds that the ledger knows."""
    period = period_at("month", "UTC", await ledger.now_ms())
    _, found = await ledger.open_holds(period.id, 10_000)
    for it in found:
        yield it.hold_id
    async for entry in ledger.entries():
        yield entry.hold_id
