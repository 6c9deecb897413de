"""Plain `litellm --config …` with two workers on the embedded Redis: start, stop, nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from pathlib import Path

import pytest

from budgets import connection, embedded
from budgets.records import LedgerEntry
from budgets.redis_store import RedisLedger
from tests.support.house import Pair
from tests.support.proxy import MASTER_KEY, wait_until

_numbers = itertools.count()


def processes() -> dict[int, tuple[str, int]]:
    """Return every process with its command line and process group."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            group = os.getpgid(int(folder.name))
        except OSError:
            continue
        found[int(folder.name)] = (command, group)
    return found


def of_pair(pair: Pair) -> list[str]:
    """Return the commands of the processes that belong to the pair."""
    home = str(pair.home)
    return [
        command
        for command, group in processes().values()
        if (home in command or group == pair.proxy.pid) and command.strip()
    ]


def redis_servers(pair: Pair) -> list[str]:
    return [
        command
        for command in of_pair(pair)
        if "redis-server" in command.split(" ")[0] and "supervisor" not in command
    ]


def test_the_callbacks_and_the_authentication_are_loaded(pair: Pair) -> None:
    assert pair.ask("Hello", key="sk-wrong").status_code == 401
    answer = pair.ask(f"Say hello, number {next(_numbers)}")
    assert answer.headers["x-farebox-decision"]


def test_whichever_worker_is_scraped_it_shows_the_requests_of_both(pair: Pair) -> None:
    def served() -> float:
        text = pair.proxy.get("/metrics").text
        # Nobody else asks this pair for that.
        wanted = r'^farebox_requests_total\{.*task_type="adr_writing",verdict="served"\} (\S+)$'
        return sum(map(float, re.findall(wanted, text, re.M)))

    for _ in range(8):
        asked = pair.ask(
            f"Write it down, number {next(_numbers)}", metadata={"task_type": "adr_writing"}
        )
        assert asked.status_code == 200
    # Each scrape is a connection of its own, and so may come to either worker.
    wait_until(lambda: {served() for _ in range(6)} == {8}, 10, "both tell of all")
    assert "farebox_ledger_read 1.0" in pair.proxy.get("/metrics").text


def stored(home: Path) -> list[LedgerEntry]:
    """Start the ledger again, read every entry, verify, and let go of it."""

    async def read(url: str) -> list[LedgerEntry]:
        client = connection.connect(url)
        try:
            ledger = RedisLedger(client, Pair.LEDGER)
            assert await ledger.verify() == ()
            return [entry async for entry in ledger.entries()]
        finally:
            await client.aclose()

    running = embedded.ensure(home)
    try:
        return asyncio.run(read(running.url))
    finally:
        embedded.release(home)
        assert embedded.wait_stopped(home, 10)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_two_workers_share_one_redis_and_stop_without_a_trace(pair: Pair) -> None:
    assert Path.cwd() != pair.folder != pair.pack.folder
    assert len(redis_servers(pair)) == 1, of_pair(pair)
    wait_until(lambda: pair.books.holds() == 0, what="nothing is under way")
    before = len(pair.books.entries())
    served = [pair.ask(f"Say hello, number {next(_numbers)}") for _ in range(20)]
    assert {answer.status_code for answer in served} == {200}
    # A second start would take half a minute: what it would find is read without a proxy instead.
    # No waiting: what is not written yet must be written on the way down.
    pair.proxy.stop()
    wait_until(lambda: of_pair(pair) == [], 20, f"no process is left: {of_pair(pair)}")
    entries = stored(pair.home)
    assert len(entries) - before == len(served)
    assert MASTER_KEY not in pair.proxy.log_text()
